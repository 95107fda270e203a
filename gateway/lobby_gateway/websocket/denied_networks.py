"""Networks that no connection may be made to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_NAT64 = ip_network("64:ff9b::/96")
"""The last 32 bits are an IPv4 address (RFC 6052 §2.1)."""


def denied_by(address: str, networks: Iterable[Network]) -> Network | None:
    """The network that an address is in; None: a connection may be made.

    An IPv6 address that stands for an IPv4 address is also in the networks of that.

    Args:
        address: as the resolver returns it; an IPv6 address may have a zone.
        networks: those to which no connection may be made.
    """
    meant = list(_meanings(ip_address(address.partition("%")[0])))
    return next((network for network in networks if any(each in network for each in meant)), None)


def _meanings(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    yield address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:  # RFC 4291 §2.5.5.2
            yield address.ipv4_mapped
        if address.sixtofour is not None:  # RFC 3056 §2
            yield address.sixtofour
        if address.teredo is not None:  # RFC 4380 §4
            yield address.teredo[1]
        if address in _NAT64:
            yield IPv4Address(int(address) & 0xFFFFFFFF)
