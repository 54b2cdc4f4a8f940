"""A TLS endpoint before a plain server, with an authority made for the test: what a load balancer or an ingress is to Milvus."""

from __future__ import annotations

import datetime as dt
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """PEM files of an authority and of what it signed."""

    ca: Path
    server: tuple[Path, Path]  # certificate, key
    client: tuple[Path, Path]


def make_authority(folder: Path, name: str = "127.0.0.1") -> Authority:
    """An authority, a server's certificate for `name` and a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca = _signed(folder.name, key, folder.name, key, x509.BasicConstraints(ca=True, path_length=0))
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return Authority(folder / "ca.pem", _issue(folder, "server", key, name), _issue(folder, "client", key, "localhost"))


def _issue(folder: Path, file: str, signer: ec.EllipticCurvePrivateKey, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    is_address = name[0].isdigit()
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name)) if is_address else x509.DNSName(name)])
    cert = _signed(file, key, folder.name, signer, names)
    paths = folder / f"{file}.pem", folder / f"{file}.key"
    paths[0].write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


def _signed(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    named, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in (subject, issuer))
    builder = x509.CertificateBuilder().subject_name(named).issuer_name(by).public_key(key.public_key()).serial_number(1000 + len(subject))
    return (
        builder.not_valid_before(now - DAY).not_valid_after(now + DAY).add_extension(extension, critical=True).sign(signer, hashes.SHA256())
    )


@contextmanager
def tls_before(port: int, authority: Authority, *, mutual: bool = False, protocols: tuple[str, ...] = ("h2",)) -> Iterator[str]:
    """Where it listens, as host:port, while it passes on to a port of the loopback. `mutual`: clients need a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(*authority.server)
    context.set_alpn_protocols([*protocols])
    context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_serve, args=(listener.accept()[0], context, port), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """One thread for both ways: a TLS connection takes no two."""
    with suppress(OSError), context.wrap_socket(plain, server_side=True) as near, socket.create_connection(("127.0.0.1", port)) as far:
        while True:
            for source in (near,) if near.pending() else select.select((near, far), (), ())[0]:
                data = source.recv(65_536)
                if not data:
                    return
                (far if source is near else near).sendall(data)
