"""Sends a client to the lobby itself: a 307 for those who follow it, a JSON ticket for browsers, which do not.

Browsers fail a WebSocket handshake that is answered with anything but 101 (Fetch Standard, "WebSocket opening handshake"),
so a page asks for a ticket with `fetch` first, and connects to the URL in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from lobby_gateway.clients.tokens import Purpose, sign
from lobby_gateway.greeter.lobby_view import LobbyId
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.websocket.server_handshake import Request

TICKET_SECONDS = 30
Headers = tuple[tuple[str, str], ...]

_NO_STORE = ("Cache-Control", "no-store")  # a ticket is for one client, for a short time


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What opens a seat in a lobby.

    Attributes:
        url: where to connect, with the token in its query.
        token: the token alone.
        expires: Unix time after which the lobby refuses it.
    """

    url: str
    token: str
    expires: int


def new_ticket(
    template: str, lobby: LobbyId, request: Request, key: bytes, now: float, *, namespace: str = ""
) -> Ticket:
    """A ticket for the client that made a request.

    Args:
        template: see `lobby_url`.
        lobby: in which it is to get a seat.
        request: what it asked for.
        key: signs the token.
        now: unix time in seconds.
        namespace: of its Lobby.
    """
    expires = int(now) + TICKET_SECONDS
    token = sign(key, purpose=Purpose.SEAT, lobby=lobby_key(namespace, lobby.name), path=request.path, expires=expires)
    url = lobby_url(template, lobby, request.path, request.query_string, token)
    return Ticket(url=url, token=token, expires=expires)


def lobby_url(template: str, lobby: LobbyId, path: str, query: str, token: str) -> str:
    """The URL at which a client reaches a lobby.

    Args:
        template: `urlTemplate` of the Lobby: `ws://` or `wss://`, with `{ip}` and `{port}`, without a path.
        lobby: whose address is filled in.
        path: of the request.
        query: of the request, as it came; it is handed on, without a token of the client's own.
        token: for the lobby.
    """
    host, _, port = lobby.address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    base = template.replace("{ip}", f"[{bare}]" if ":" in bare else bare).replace("{port}", port).rstrip("/")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] != "token"]
    return f"{base}{path}?{'&'.join([*kept, f'token={token}'])}"


def location(url: str) -> str:
    """A URL without its scheme, for the Location header: the one form that most WebSocket clients follow.

    `ws:` is no scheme that an HTTP library redirects to, and `http:` none for a WebSocket library; a reference that begins
    with `//` keeps the scheme that the client has (RFC 3986 §4.2), whichever library reads it.
    """
    return url[url.index("//") :]


def redirect_headers(ticket: Ticket) -> Headers:
    """Headers of a 307."""
    return (("Location", location(ticket.url)), _NO_STORE)


def ticket_response(ticket: Ticket, origin: str | None) -> tuple[Headers, bytes]:
    """Headers and body of a 200 that a page can read.

    Args:
        ticket: what it gets.
        origin: the request's Origin header, already found to be allowed; None without one.
    """
    body = json.dumps({"url": ticket.url, "token": ticket.token, "expires": ticket.expires}).encode() + b"\n"
    return (("Content-Type", "application/json"), _NO_STORE, *cors_headers(origin)), body


def cors_headers(origin: str | None) -> Headers:
    """Lets one page read the answer (Fetch Standard, "CORS protocol"); caches must keep the answers to pages apart."""
    return (("Vary", "Origin"), *((("Access-Control-Allow-Origin", origin),) if origin is not None else ()))


def wants_json(accept: str) -> bool:
    """Whether an Accept header names JSON (RFC 9110 §12.5.1); `*/*` does not count: that is sent by everyone."""
    for each in accept.lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        if media == "application/json" and "q=0" not in parameters:
            return True
    return False
