"""Why a server does not answer: gRPC says of every cause that the channel was not ready in time."""

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
    """The cause and the cure, found by connecting once more without gRPC; where all seems well the usual one.

    Args:
        uri: http:// or https://, as it was called.
        certificates: those of the call.
    """
    host = urlsplit(uri).hostname or "localhost"
    if through := proxy_of(host):
        name, address = through
        return f"it was called through the proxy {address} ({name}): correct that, or add '{host}' to no_proxy if it is reached without"
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
                return "what answers there speaks no HTTP/2, which gRPC needs: correct target.uri, or the proxy before the server"
            shaken.recv(1)  # TLS 1.3 refuses a client only now
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, host)
    except ssl.SSLError as error:
        return _refused(error)
    return START_IT


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    why = error.verify_message
    if "mismatch" in why or "not valid for" in why:
        return f"its certificate is not one of '{host}' ({why}): write target.uri with a name that the certificate has"
    if "expired" in why or "not yet valid" in why:
        return f"its certificate cannot be used ({why}): renew it, or correct the clock"
    return f"its certificate is not trusted ({why}): set target.tls.ca to the PEM certificate of the authority that signed it"


def _refused(error: ssl.SSLError) -> str:
    reason = (error.reason or "").lower().replace("_", " ")
    if "certificate" in reason or "unknown ca" in reason:
        return f"it takes only clients with a certificate that it knows ({reason}): set target.tls.cert and target.tls.key"
    if "wrong version" in reason or "record layer" in reason:
        return "it speaks no TLS: write http:// in target.uri"
    return f"TLS fails ({reason or error}): correct target.uri or target.tls"


def _of_plain(plain: socket.socket) -> str:
    """A server that speaks TLS closes plain connections."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only whether it speaks TLS is asked
    try:
        with anybody.wrap_socket(plain):
            return "it speaks TLS: write https:// in target.uri"
    except ssl.SSLError as error:
        known = "certificate" in (error.reason or "").lower()
        return "it speaks TLS: write https:// in target.uri" if known else START_IT
