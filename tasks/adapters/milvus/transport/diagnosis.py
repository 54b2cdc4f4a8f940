"""Finds out why a server does not answer: gRPC reports every cause as a channel that was not ready in time."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from tasks.adapters.milvus.transport.certificates import Certificates
from tasks.adapters.milvus.transport.proxy import proxy_of

KNOCK_SECONDS = 5.0
MILVUS_PORT, HTTPS_PORT = 19530, 443
START_IT = "start it or correct target.uri"


def why_silent(uri: str, certificates: Certificates) -> str:
    """The cause and the remedy, found by connecting once more without gRPC; `START_IT` if no cause is found.

    Args:
        uri: the http:// or https:// address that was called.
        certificates: the certificates of the call.
    """
    host = urlsplit(uri).hostname or "localhost"
    if through := proxy_of(host):
        name, address = through
        return f"it was called through the proxy {address} ({name}): correct that, or add '{host}' to no_proxy if it needs no proxy"
    return _knock(uri, host, certificates)


def _knock(uri: str, host: str, certificates: Certificates) -> str:
    parts = urlsplit(uri)
    secure = parts.scheme == "https"
    try:
        port = parts.port or (HTTPS_PORT if secure else MILVUS_PORT)
        with socket.create_connection((host, port), timeout=KNOCK_SECONDS) as plain:
            return _of_tls(plain, host, certificates) if secure else _of_plain(plain)
    except socket.gaierror:
        return f"there is no host '{host}': correct target.uri"
    except (OSError, ValueError):
        return START_IT


def _of_tls(plain: socket.socket, host: str, certificates: Certificates) -> str:
    context = certificates.context()
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(plain, server_hostname=host) as shaken:
            if shaken.selected_alpn_protocol() != "h2":
                return "the server there does not support HTTP/2, which gRPC needs: correct target.uri, or the proxy before the server"
            shaken.recv(1)  # TLS 1.3 refuses a client only on the first read
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, host)
    except ssl.SSLError as error:
        return _refused(error)
    return START_IT


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    why = error.verify_message
    if "mismatch" in why or "not valid for" in why:
        return f"its certificate is not for '{host}' ({why}): set target.uri to a name that the certificate has"
    if "expired" in why or "not yet valid" in why:
        return f"its certificate is not valid ({why}): renew it, or correct the clock"
    return f"its certificate is not trusted ({why}): set target.tls.ca to the PEM certificate of the authority that signed it"


def _refused(error: ssl.SSLError) -> str:
    reason = (error.reason or "").lower().replace("_", " ")
    if "certificate" in reason or "unknown ca" in reason:
        return f"it accepts only clients with a certificate that it trusts ({reason}): set target.tls.cert and target.tls.key"
    if "wrong version" in reason or "record layer" in reason:
        return "it does not use TLS: write http:// in target.uri"
    return f"TLS fails ({reason or error}): correct target.uri or target.tls"


def _of_plain(plain: socket.socket) -> str:
    """Check whether the server uses TLS: such a server closes plain connections."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE  # only tests for TLS; no data is sent
    try:
        with unverified.wrap_socket(plain):
            return "it uses TLS: write https:// in target.uri"
    except ssl.SSLError as error:
        wants_certificate = "certificate" in (error.reason or "").lower()
        return "it uses TLS: write https:// in target.uri" if wants_certificate else START_IT
