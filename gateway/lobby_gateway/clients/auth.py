"""The Origin header of browsers, and the addresses of clients behind trusted proxies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from lobby_gateway.http.hosts import is_rebindable
from lobby_gateway.websocket.server_handshake import Request

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


# The serialization of an origin (RFC 6454 §6.2), in lower case. Others, such as `null`, have no host.
_match_origin = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
).fullmatch


def origin_allowed(origin: str | None, allowed: Collection[str], *, own_host: str) -> bool:
    """Whether a page may connect (RFC 6455 §4.2.2, item 4).

    Browsers always send the true Origin header (RFC 6454 §7). Other clients send anything or nothing, so a client without the
    header is allowed.

    Args:
        origin: value of the header; None if there is none.
        allowed: `allowedOrigins` of the Lobby: pages in addition to those of our own host.
        own_host: see `is_own_page`.
    """
    if origin is None or is_own_page(origin, own_host):
        return True
    page = _canonical_origin(origin)
    return any(_matches(page, each) for each in allowed)


def is_own_page(origin: str | None, own_host: str) -> bool:
    """Whether a page comes from the host at which its browser reached the greeter, whatever the port.

    A page that is not encrypted may have rebound its name to our address (see `hosts`), so it counts only if it can't have.
    The browser of one that is encrypted has verified our certificate for that name.

    Args:
        origin: value of the Origin header; None if there is none.
        own_host: host of the request for a seat, as `hosts.host_of` returns it; empty: unknown.
    """
    page = _match_origin(origin.lower()) if origin is not None else None
    return (
        page is not None
        and page["host"] == own_host
        and (page["scheme"] == "https" or (page["scheme"] == "http" and not is_rebindable(own_host)))
    )


def is_unreadable_fetch(request: Request) -> bool:
    """Whether a page asks for something that its browser won't let it read: it can only do harm, such as taking seats.

    A browser omits the Origin of such a request, but says that it is for another site (Fetch Metadata, "Sec-Fetch-Site").
    """
    return "origin" not in request.headers and request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}


def _matches(page: str, allowed: str) -> bool:
    """Whether a canonical origin is what an entry of `allowedOrigins` names."""
    if allowed == "*":
        return True
    allowed = _canonical_origin(allowed)
    scheme, wildcard, domain = allowed.partition("://*.")
    if not wildcard:
        return page == allowed
    return bool(_match_origin(page)) and page.startswith(f"{scheme}://") and page.endswith(f".{domain}")


def _canonical_origin(origin: str) -> str:
    """An origin in lower case, without the default port of its scheme (RFC 6454 §4)."""
    origin = origin.lower()
    port = _DEFAULT_PORTS.get(origin.partition("://")[0])
    return origin.removesuffix(port) if port else origin


class TrustedProxies:
    """Proxies that are trusted to report the addresses of clients.

    Attributes:
        networks: of the proxies.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks = tuple(networks)

    def client_address(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """The trustworthy address that is nearest to the client.

        Each proxy appends the address of its peer to `X-Forwarded-For`. So the entries are read from the right, as long as the
        proxy that wrote them is trusted; what the client itself wrote is never reached.

        Args:
            peer: address of the TCP connection.
            forwarded_for: values of the `X-Forwarded-For` headers, in order.
        """
        if not self.networks:
            return peer
        nearest = _address(peer)
        hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
        while nearest is not None and hops and self._trusted(nearest):
            hop = _address(hops.pop())
            if hop is None:  # not an address: the proxy that wrote it is the last known hop
                break
            nearest = hop
        return str(nearest) if nearest is not None else peer

    def _trusted(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def forwarded_for(request: Request) -> tuple[str, ...]:
    """The values of a request's `X-Forwarded-For` headers, which the handshake parser has joined with commas."""
    value = request.headers.get("x-forwarded-for")
    return (value,) if value is not None else ()


def _address(text: str) -> Address | None:
    """Parses an address as proxies write it: bare, or with a port (`192.0.2.1:80`, `[2001:db8::1]:80`)."""
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
