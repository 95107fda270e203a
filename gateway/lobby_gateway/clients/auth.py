"""Who may connect, and who it is: the browser's Origin header, and the client's address behind trusted proxies."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from lobby_gateway.errors import UserError
from lobby_gateway.websocket.server_handshake import Request

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


def origin_allowed(origin: str | None, allowed: Collection[str]) -> bool:
    """Whether a page may connect (RFC 6455 §4.2.2, item 4).

    The Origin header (RFC 6454 §7) is for browsers, which can't be made to send a wrong one; other clients send what they
    like, or nothing, so that a client without one is let in.

    Args:
        origin: the header's value; None without the header.
        allowed: accepted values; empty: all.
    """
    if origin is None or not allowed:
        return True
    wanted = _canonical_origin(origin)
    return any(wanted == _canonical_origin(each) for each in allowed)


def _canonical_origin(origin: str) -> str:
    """An origin in lower case and without the default port of its scheme (RFC 6454 §4)."""
    origin = origin.lower()
    port = _DEFAULT_PORTS.get(origin.partition("://")[0])
    return origin.removesuffix(port) if port else origin


class TrustedProxies:
    """Networks whose word about a client's address is taken.

    Attributes:
        networks: of the proxies.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks = tuple(networks)

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """Reads the comma-separated networks of a command line; empty: none.

        Raises:
            UserError: one of them is not a network.
        """
        networks = []
        for part in filter(None, map(str.strip, text.split(","))):
            try:
                networks.append(ip_network(part))
            except ValueError as error:
                raise UserError(
                    f"--trusted-proxies: {part!r} is not a network; accepted: addresses and networks like 10.0.0.0/8, "
                    "separated by commas"
                ) from error
        return cls(networks)

    def client_address(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """The address nearest to the client that can be believed.

        `X-Forwarded-For` grows to the right: each proxy appends whom it was called by. So its entries are believed from
        the right, for as long as the one who wrote them is trusted; what a client wrote itself is never reached.

        Args:
            peer: address of the TCP connection.
            forwarded_for: values of the `X-Forwarded-For` headers, in order.
        """
        if not self.networks:
            return peer
        believed = _address(peer)
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        while believed is not None and hops and self._trusted(believed):
            hop = _address(hops.pop())
            if hop is None:  # no address: whoever wrote it is the last one known
                break
            believed = hop
        return str(believed) if believed is not None else peer

    def _trusted(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def forwarded_for(request: Request) -> tuple[str, ...]:
    """The values of a request's `X-Forwarded-For` headers; the handshake's parser has joined them by commas."""
    value = request.headers.get("x-forwarded-for")
    return (value,) if value is not None else ()


def _address(text: str) -> Address | None:
    """An address as proxies write it: plain, or with a port (`192.0.2.1:80`, `[2001:db8::1]:80`)."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
