"""Decides whether calls to a server go through a proxy: one rule for gRPC, REST and error messages.

gRPC itself reads `grpc_proxy`, `https_proxy` and `http_proxy` for every server, including the loopback.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
EXEMPT_VARIABLES = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


def proxy_of(host: str) -> tuple[str, str] | None:
    """The variable that sets the proxy for a host, and its address without credentials; None: calls are direct."""
    variable = next((name for name in PROXY_VARIABLES if os.environ.get(name)), None)
    if variable is None or _is_loopback(host) or _is_exempt(host):
        return None
    address = urlsplit(os.environ[variable])
    return variable, f"{address.scheme}://{address.netloc.rpartition('@')[2]}"


def _is_exempt(host: str) -> bool:
    exempt = next((os.environ[name] for name in EXEMPT_VARIABLES if os.environ.get(name)), "")
    return any(_covers(each.strip().lstrip(".").lower(), host.lower()) for each in exempt.split(",") if each.strip())


def _covers(exempt: str, host: str) -> bool:
    """Whether an entry of no_proxy covers a host: a name and its subdomains, a network such as 10.0.0.0/8, or everything (*)."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exempt, strict=False)
    except ValueError:
        return exempt in ("*", host) or host.endswith(f".{exempt}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
