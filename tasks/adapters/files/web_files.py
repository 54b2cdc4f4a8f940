"""What rows name on the web, read so that no row can reach this machine or its network's own services.

Each address is checked after its name was resolved, and it is that address that is connected to; so is each one that a server sends on to.
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

TIMEOUT_SECONDS = 20.0  # for each answer of the network
LONGEST_SECONDS = 60.0  # for a file; no try begins after as long: a rank that fetches must not look like one that hangs
WEB_READ_BYTES = 1 << 20
MOST_HOPS = 5
PAUSES_SECONDS = (0.5, 2.0)  # between tries of a server that does not answer or is busy
BUSY = {408, 425, 429, 500, 502, 503, 504}
METADATA = ipaddress.ip_network("fd00:ec2::/32")  # AWS' own services over IPv6; the others are link-local
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address as an IPv6 one
UNESCAPED = "/:?#[]@!$&'()*+,;=%~"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(uri: str, references: References, *, most: int) -> bytes:
    """What a web server holds at a URI that a row names.

    Raises:
        FileNotFoundError: the server has no such file.
        BadInput: it may not be read, is larger than `most` bytes, or the server did not answer after some tries; names the URI.
    """
    deadline = time.monotonic() + LONGEST_SECONDS
    for pause in (*PAUSES_SECONDS, None):
        try:
            return _followed(uri, references, most)
        except (OSError, HTTPException) as error:
            if isinstance(error, FileNotFoundError):
                raise
            if pause is None or time.monotonic() > deadline or isinstance(error, ssl.SSLCertVerificationError | socket.gaierror):
                raise BadInput(f"{urlsplit(uri).netloc} did not answer ({type(error).__name__})") from error
            time.sleep(pause)
    raise AssertionError


def _followed(uri: str, references: References, most: int) -> bytes:
    for _ in range(MOST_HOPS):
        refused = references.refusal(uri)
        if refused:
            raise BadInput(refused)
        connection = _connect(uri, references)
        try:
            found = _answer(connection, uri, most)
        finally:
            connection.close()
        if isinstance(found, bytes):
            return found
        uri = urljoin(uri, found)
    raise BadInput(f"{urlsplit(uri).netloc} sends on more than {MOST_HOPS} times")


def _answer(connection: HTTPConnection, uri: str, most: int) -> bytes | str:
    """The file, or where it is instead."""
    parts = urlsplit(uri)
    target = quote(parts.path or "/", safe=UNESCAPED) + (f"?{quote(parts.query, safe=UNESCAPED)}" if parts.query else "")
    connection.request("GET", target, headers={"User-Agent": "kitestring", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"})
    response = connection.getresponse()
    location = response.headers.get("Location")
    if response.status in {301, 302, 303, 307, 308} and location:
        return location
    if response.status != 200:
        _not_there(response, uri)
    return _body(response, most)


def _body(response: HTTPResponse, most: int) -> bytes:
    held, deadline = bytearray(), time.monotonic() + LONGEST_SECONDS
    while piece := response.read1(WEB_READ_BYTES):
        held += piece
        if len(held) > most:
            raise BadInput(f"the file has more than {most} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the file did not come within {LONGEST_SECONDS:g} s")
    if response.length:  # announced bytes that did not arrive
        raise ConnectionError(f"{response.length} bytes are missing")
    return bytes(held)


def _not_there(response: HTTPResponse, uri: str) -> NoReturn:
    if response.status in BUSY:
        raise ConnectionError(f"HTTP {response.status}")
    if response.status in {404, 410}:
        raise FileNotFoundError(uri)
    raise BadInput(f"{urlsplit(uri).netloc} answers HTTP {response.status}")


def _connect(uri: str, references: References) -> HTTPConnection:
    """A connection to an address that was checked."""
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
    """False where it may be connected to; one address of several that may not is enough to refuse them all."""
    why = why_refused(text, named=references.names_host(uri))
    if why and not references.own(uri):
        raise BadInput(f"{urlsplit(uri).hostname} is {why}")
    return False


def why_refused(text: str, *, named: bool) -> str:
    """Why an IP address may not be connected to on a row's behalf; empty: it may.

    Args:
        text: the address.
        named: the job names the host, so it may be in a private network.
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
    """The IPv4 address that an IPv6 one embeds."""
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
