"""Redirects clients to a lobby: with a 307, or for browsers, which don't follow it, with a ticket as JSON.

Browsers fail a WebSocket handshake that is answered with anything but 101 (Fetch Standard, "WebSocket opening handshake"). So
a page first asks for a ticket with `fetch`, and then connects to the URL in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lobby_gateway.clients.tokens import TOKEN_SETTINGS, Purpose, sign
from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.greeter.seat_queue import LobbyId
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.settings import TokenSettings
from lobby_gateway.websocket.server_handshake import Request

ResponseHeaders = tuple[tuple[str, str], ...]

# As in the rule of the CRD, with the placeholders replaced. A Lobby in the directory may be older than the rule.
_match_base = re.compile(
    r"wss?://(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
).fullmatch
_NO_STORE = ("Cache-Control", "no-store")  # a ticket is for one client, and expires soon


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Admits one client to a lobby.

    Attributes:
        url: where to connect, with the token in its query.
        token: by itself.
        expires: Unix time when the lobby starts to refuse it.
    """

    url: str
    token: str
    expires: int


class RedirectError(LobbyGatewayError):
    """A lobby's URL can't be made. The text contains no token."""


def new_ticket(
    template: str,
    lobby: LobbyId,
    request: Request,
    key: bytes,
    now: float,
    *,
    namespace: str = "",
    settings: TokenSettings = TOKEN_SETTINGS,
) -> Ticket:
    """Makes a ticket for the client that sent a request.

    The lobby is another host than the greeter, so it can't see by itself which pages are of the greeter's own host: the token
    names that host. Only a page's requests have an Origin, or no upgrade: browsers omit the Origin of a page that fetches from
    its own origin.

    Args:
        template: see `lobby_url`.
        lobby: where the client gets a seat.
        request: of the client.
        key: signs the token.
        now: Unix time in seconds.
        namespace: of the Lobby.
        settings: lifetime of the token.

    Raises:
        RedirectError: the template and the lobby's address give no URL.
    """
    expires = int(now) + settings.ticket_seconds
    token = sign(
        key,
        purpose=Purpose.SEAT,
        lobby=lobby_key(namespace, lobby.name),
        path=request.path,
        expires=expires,
        host=request.host if "origin" in request.headers or not request.wants_upgrade else "",
    )
    url = lobby_url(template, lobby, request.path, request.query_string, token)
    return Ticket(url=url, token=token, expires=expires)


def lobby_url(template: str, lobby: LobbyId, path: str, query: str, token: str) -> str:
    """The URL at which a client reaches a lobby.

    Args:
        template: `urlTemplate` of the Lobby: `ws://` or `wss://`, with `{ip}` and `{port}`, without a path.
        lobby: its address replaces the placeholders.
        path: of the request.
        query: of the request, as received; passed on, except for a token in it.
        token: for the lobby.

    Raises:
        RedirectError: the template and the lobby's address give no URL.
    """
    host, _, port = lobby.address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    base = template.replace("{ip}", f"[{bare}]" if ":" in bare else bare).replace("{port}", port).removesuffix("/")
    match = _match_base(base)
    if match is None or not 1 <= int(match["port"] or 1) <= 65535:
        raise RedirectError(
            f"spec.routing.redirect.urlTemplate: {template[:100]!a} gives no URL for {lobby.name[:100]!a} at "
            f"{lobby.address[:100]!a}; accepted: ws:// or wss://, a host and optionally a port"
        )
    kept = [part for part in query.split("&") if part and part.partition("=")[0] != "token"]
    return f"{base}{path}?{'&'.join([*kept, f'token={token}'])}"


def location(url: str) -> str:
    """A URL without its scheme, for the Location header: the one form that most WebSocket clients follow.

    HTTP libraries don't redirect to `ws:`, nor WebSocket libraries to `http:`. A reference that starts with `//` keeps
    the scheme of the request (RFC 3986 §4.2), so it works for both.
    """
    return url[url.index("//") :]


def redirect_headers(ticket: Ticket) -> ResponseHeaders:
    """Headers of a 307."""
    return (("Location", location(ticket.url)), _NO_STORE)


def ticket_response(ticket: Ticket, origin: str | None) -> tuple[ResponseHeaders, bytes]:
    """Headers and body of a 200 that a page can read.

    Args:
        ticket: for the client.
        origin: the request's Origin header, which is allowed; None if there is none.
    """
    body = json.dumps({"url": ticket.url, "token": ticket.token, "expires": ticket.expires}).encode() + b"\n"
    return (("Content-Type", "application/json"), _NO_STORE, *cors_headers(origin)), body


def cors_headers(origin: str | None) -> ResponseHeaders:
    """Lets a page read the answer (Fetch Standard, "CORS protocol"), and caches tell the answers to different pages apart.

    A page of another origin sees only headers that are exposed to it.
    """
    if origin is None:
        return (("Vary", "Origin"),)
    return ("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", "Retry-After")


def wants_json(accept: str) -> bool:
    """Whether an Accept header names JSON (RFC 9110 §12.5.1); `*/*` does not count, as all clients send it."""
    for each in accept.lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        if media == "application/json" and "q=0" not in parameters:
            return True
    return False
