"""Fetches web files that rows name, without letting a row reach this machine or internal services of its network.

Each host name is resolved once, its addresses are checked, and the connection goes to a checked address; redirects are treated the same.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NoReturn
from urllib.parse import quote, urljoin, urlsplit

from tasks.domain.errors import BadInput
from tasks.domain.job.references import References

TIMEOUT_SECONDS = 20.0  # per network operation
LONGEST_SECONDS = 60.0  # per file; no attempt starts later: a rank that fetches must not look hung
WEB_READ_BYTES = 1 << 20
MOST_HOPS = 5
PAUSES_SECONDS = (0.5, 2.0)  # between attempts if the server is silent or busy
BUSY = {408, 425, 429, 500, 502, 503, 504}
METADATA = ipaddress.ip_network("fd00:ec2::/32")  # AWS metadata services over IPv6; those of other clouds are link-local
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses embedded in IPv6
UNESCAPED = "/:?#[]@!$&'()*+,;=%~"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(uri: str, references: References, *, most: int) -> bytes:
    """Fetch the file at a web URI that a row names.

    Raises:
        FileNotFoundError: the server has no such file.
        BadInput: it is not permitted, is larger than `most` bytes, or the server did not answer after all attempts.
    """
    deadline = time.monotonic() + LONGEST_SECONDS
    for pause in (*PAUSES_SECONDS, None):
        try:
            return _fetch_once(uri, references, most)
        except (OSError, HTTPException) as error:
            if isinstance(error, FileNotFoundError):
                raise
            if pause is None or time.monotonic() > deadline or isinstance(error, ssl.SSLCertVerificationError | socket.gaierror):
                raise BadInput(f"{urlsplit(uri).netloc} did not answer ({type(error).__name__})") from error
            time.sleep(pause)
    raise AssertionError


def _fetch_once(uri: str, references: References, most: int) -> bytes:
    for _ in range(MOST_HOPS):
        refusal = references.refusal(uri)
        if refusal:
            raise BadInput(refusal)
        connection = _connect(uri, references)
        try:
            reply = _request(connection, uri, most)
        finally:
            connection.close()
        if isinstance(reply, bytes):
            return reply
        uri = urljoin(uri, reply)
    raise BadInput(f"{urlsplit(uri).netloc} redirects more than {MOST_HOPS} times")


def _request(connection: HTTPConnection, uri: str, most: int) -> bytes | str:
    """Return the file, or the location of a redirect."""
    parts = urlsplit(uri)
    target = quote(parts.path or "/", safe=UNESCAPED) + (f"?{quote(parts.query, safe=UNESCAPED)}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "kitestring", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"})
    response = connection.getresponse()
    location = response.headers.get("Location")
    if response.status in {301, 302, 303, 307, 308} and location:
        return location
    if response.status != 200:
        _raise_status(response, uri)
    return _body(response, most)


def _body(response: HTTPResponse, most: int) -> bytes:
    body, deadline = bytearray(), time.monotonic() + LONGEST_SECONDS
    while block := response.read1(WEB_READ_BYTES):
        body += block
        if len(body) > most:
            raise BadInput(f"the file has more than {most} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the file did not arrive within {LONGEST_SECONDS:g} s")
    if response.length:  # announced bytes that did not arrive
        raise ConnectionError(f"{response.length} bytes are missing")
    return bytes(body)


def _raise_status(response: HTTPResponse, uri: str) -> NoReturn:
    if response.status in BUSY:
        raise ConnectionError(f"HTTP {response.status}")
    if response.status in {404, 410}:
        raise FileNotFoundError(uri)
    raise BadInput(f"{urlsplit(uri).netloc} answers HTTP {response.status}")


def _connect(uri: str, references: References) -> HTTPConnection:
    """Connect to a checked address."""
    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    checked = [(family, address) for family, address in _resolved(host, port) if not _refused(address[0], uri, references)]
    connected = _socket(checked)
    if parts.scheme == "https":
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS)
        connected = ssl.create_default_context().wrap_socket(connected, server_hostname=host)
    else:
        connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    connection.sock = connected
    return connection


def _resolved(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address[:4]) for family, _, _, _, address in found]  # type: ignore[misc]


def _refused(text: str, uri: str, references: References) -> bool:
    """Return False if connecting is permitted, else raise BadInput; one refused address of a host refuses the host."""
    reason = why_refused(text, named=references.names_host(uri))
    if reason and not references.own(uri):
        raise BadInput(f"{urlsplit(uri).hostname} is {reason}")
    return False


def why_refused(text: str, *, named: bool) -> str:
    """Return why a row may not cause a connection to an IP address; empty if it may.

    Args:
        text: the address.
        named: the job names the host, so a private network is permitted.
    """
    address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    if address.is_loopback or address.is_unspecified:
        return "an address of this machine, which no row may name"
    if address.is_link_local or address.is_multicast or address in METADATA:
        return "a link-local address, which no row may name"
    if not address.is_global and not named:
        return "in a private network: to allow it, name the host in source.references, such as 'https://host/'"
    return ""


def _plain(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address, else the address."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _socket(addresses: list[tuple[int, tuple[str, int]]]) -> socket.socket:
    last: OSError = OSError("the host has no address")
    for family, address in addresses:
        connected = socket.socket(family, socket.SOCK_STREAM)
        connected.settimeout(TIMEOUT_SECONDS)
        try:
            connected.connect(address)
        except OSError as error:
            connected.close()
            last = error
        else:
            return connected
    raise last
