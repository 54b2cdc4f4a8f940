"""Whether calls to a server go through a proxy: one rule for gRPC, REST and the messages about both.

gRPC reads `grpc_proxy`, `https_proxy` and `http_proxy`, for every server, the loopback included.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXEMPT_VARIABLES = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


def proxy_of(host: str) -> tuple[str, str] | None:
    """The variable and the address, without credentials, of the proxy that calls to a host go through; None: they go straight."""
    found = next(((name, os.environ[name]) for name in PROXY_VARIABLES if os.environ.get(name)), None)
    if found is None or _is_loopback(host) or _is_exempt(host):
        return None
    address = urlsplit(found[1])
    return found[0], f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def _is_exempt(host: str) -> bool:
    named = next((os.environ[name] for name in EXEMPT_VARIABLES if os.environ.get(name)), "")
    return any(_covers(each.strip().lstrip(".").lower(), host.lower()) for each in named.split(",") if each.strip())


def _covers(exempt: str, host: str) -> bool:
    """A host and those below it, a network such as 10.0.0.0/8, or everything (*)."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exempt, strict=False)
    except ValueError:
        return exempt in ("*", host) or host.endswith(f".{exempt}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
