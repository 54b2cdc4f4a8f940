"""TLS certificates: the PEM texts of a job's `target.tls`, from files or from Secret blocks."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi

from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret
from tasks.domain.job.tls import Tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM texts; "" for those that the job does not set. Without `ca` the public authorities of certifi are trusted."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    @contextmanager
    def files(self) -> Iterator[dict[str, str]]:
        """The texts as temporary files readable by this user only, for APIs that accept only paths; maps field names to paths."""
        texts = {name: text for name in ("ca", "cert", "key") if (text := getattr(self, name))}
        with scratch_folder() if texts else nullcontext(Path()) as folder:  # it has a key: if this run is killed, the next one removes it
            paths = {name: folder / f"{name}.pem" for name in texts}
            for name, path in paths.items():
                path.touch(0o600)
                path.write_text(texts[name])
            yield {"ca": certifi.where(), **{name: str(path) for name, path in paths.items()}}

    @contextmanager
    def client_options(self) -> Iterator[dict[str, Any]]:
        """The TLS options of pymilvus; it accepts a client certificate only together with the authority's."""
        with self.files() as paths:
            mutual = {"ca_pem_path": paths["ca"], "client_pem_path": paths.get("cert", ""), "client_key_path": paths.get("key", "")}
            yield mutual if self.cert else {"server_pem_path": paths["ca"]} if self.ca else {}

    def context(self) -> ssl.SSLContext:
        """The same for Python's own connections.

        Raises:
            BadInput: the texts are not certificates, or the key does not match the certificate.
        """
        with self.files() as paths:
            try:
                context = ssl.create_default_context(cafile=paths["ca"])
                if self.cert:
                    context.load_cert_chain(paths["cert"], paths["key"])
            except ssl.SSLError as error:
                why = error.reason or str(error)
                raise BadInput(
                    f"target.tls cannot be used ({why}): set PEM certificates, and key to the key that belongs to cert"
                ) from None
        return context


def read_certificates(tls: Tls | None, secret: ReadSecret) -> Certificates:
    """Read the certificates that a job's settings name.

    Raises:
        BadInput: a file or a block cannot be read or is not PEM; names the setting.
    """
    if tls is None:
        return Certificates()
    texts = {name: _text(name, path, block, secret) for name, path, block in tls.places}
    certificates = Certificates(**texts)
    certificates.context()  # raises if they cannot be used
    return certificates


def _text(name: str, path: str | None, block: str | None, secret: ReadSecret) -> str:
    setting = f"target.tls.{name}" if block is None else f"target.tls.{name}_block"
    try:
        text = secret(setting, block) if block is not None else Path(path).expanduser().read_text() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a PEM file"
        raise BadInput(f"{setting}: '{path}' cannot be read: {why}") from None
    if (path or block) and "-----BEGIN" not in text:
        raise BadInput(f"{setting}: '{path or block}' is not PEM: it must contain -----BEGIN")
    return text
