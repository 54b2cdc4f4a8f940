"""Access control: on the loopback, requests of this machine's pages and programs are allowed; otherwise requests with the token.

A page of another site can send requests to the loopback as well, and by DNS rebinding even read the responses. So a request has to name
this server's host (`Host`), must not come from a page of another site (`Origin`, `Sec-Fetch-Site`), and has to carry JSON, which forms
of other sites cannot send.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only if the user asks for it
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestRefused(Exception):
    """A request that is refused, with the HTTP status and the reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The address of the server and who may use it. `token` None: on the loopback, which other machines cannot reach."""

    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, host: str, port: int) -> Access:
        """The access for an address that the server listens at; one that other machines can reach gets a token."""
        return cls(host=host, port=port, token=None if is_loopback(host) else secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """The name of the cookie. It has the port, since browsers share cookies between ports of a host."""
        return f"kitestring_browse_{self.port}"

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token if there is one."""
        host = socket.gethostname() if self.host in EVERYWHERE else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/{f'?token={self.token}' if self.token else ''}"

    def check(self, method: str, path: str, headers: Mapping[str, str], token: str | None) -> None:
        """Check a request. `headers`: by lower-case name. `token`: from the query of the address.

        Raises:
            RequestRefused: the request is for another host, from another site, without the token, or not JSON.
        """
        host = headers.get("host", "").lower()
        if self.token is None and host not in self._names:
            raise RequestRefused(421, f"this server answers to 127.0.0.1:{self.port} and localhost:{self.port} only, not to '{host}'")
        if self.token is not None and not _same(
            self.token, token, _cookie(headers, self.cookie), headers.get("authorization", "").removeprefix("Bearer ")
        ):
            raise RequestRefused(
                401,
                "the token is missing or wrong: open the address that `kitestring browse` printed, or send it as `Authorization: Bearer`",
            )
        other_site = headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and (method, path) != ("GET", "/")
        origin = headers.get("origin")
        if other_site or (origin is not None and origin.partition("://")[2] != host):
            raise RequestRefused(403, "requests from pages of other sites are refused")
        if method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestRefused(415, "send JSON, with the header `Content-Type: application/json`")

    @property
    def _names(self) -> set[str]:
        names = {"127.0.0.1", "localhost", "[::1]", self.host}
        return {f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set())


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address, which other machines cannot reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same(token: str, *candidates: str | None) -> bool:
    return any(secrets.compare_digest(token.encode(), each.encode()) for each in candidates if each)


def _cookie(headers: Mapping[str, str], name: str) -> str | None:
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return None
    return cookie.value if cookie else None
