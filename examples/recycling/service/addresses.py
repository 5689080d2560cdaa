"""Where a request comes from, for what is limited by address."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

from examples.recycling.settings import Network

Address = IPv4Address | IPv6Address

# A household, or a rented machine, has as many addresses as it likes under one prefix.
IPV6_PREFIX = 64


def origin(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address that a request is counted under; IPv6 by its /64.

    X-Forwarded-For is read from its end, as far as those who wrote it are trusted: what stands
    before that, the client may have made up.
    """
    client = scope.get("client")
    peer = _address(client[0]) if client else None
    if peer is None:
        return "unknown"
    for hop in reversed(_forwarded(scope)):
        if not any(peer in network for network in trusted):
            break
        address = _address(hop)
        if address is None:
            break
        peer = address
    return str(_household(peer))


def _forwarded(scope: Scope) -> list[str]:
    lines = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return b",".join(lines).decode("latin-1").split(",") if lines else []


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _household(address: Address) -> Address | IPv6Network:
    if isinstance(address, IPv4Address):
        return address
    return IPv6Network((int(address), IPV6_PREFIX), strict=False)
