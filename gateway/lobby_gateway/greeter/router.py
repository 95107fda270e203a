"""Routes requests by path: from a request to a client that waits for a seat in a Lobby, or to a refusal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import Admission, Permit, ProcessCapacity
from lobby_gateway.clients.auth import TrustedProxies, forwarded_for, is_unreadable_fetch, origin_allowed
from lobby_gateway.clients.resuming import position_of
from lobby_gateway.close_codes import Refusal
from lobby_gateway.greeter.directory import DirectoryEntry
from lobby_gateway.greeter.redirect import Ticket, cors_headers, redirect_headers, ticket_response, wants_json
from lobby_gateway.resource.spec import Compression, LobbySpec, RoutingMode
from lobby_gateway.trunk.position import Position
from lobby_gateway.websocket.deflate import negotiate
from lobby_gateway.websocket.listener import Handshake
from lobby_gateway.websocket.server_handshake import HandshakeError, choose_subprotocol, upgrade


class ResponseForm(StrEnum):
    """How a client is answered once there is a seat. For redirects, the value is the metric's label."""

    PROXY = "proxy"  # 101
    LOCATION = "location"  # 307
    JSON = "json"  # 200 with a ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatResponse:
    """The answer to a request, once there is a seat.

    Attributes:
        form: of the answer.
        subprotocols: those that a proxied client offers and that the lobbies offer to the origin.
        extensions: answer to the extensions of a proxied client; if there is one, its messages are deflated.
        resume: where a proxied client asks to continue.
    """

    form: ResponseForm
    subprotocols: tuple[str, ...] = ()
    extensions: str | None = None
    resume: Position | None = None


class PendingClient:
    """An admitted client that has no seat yet. It ends with `accept`, `redirect`, `refuse`, or when it disconnects.

    Attributes:
        handshake: its connection.
        response: to send once there is a seat.
        permit: counts the client. Released here, unless the client is accepted or disconnects.
    """

    __slots__ = ("handshake", "permit", "response")

    def __init__(self, handshake: Handshake, response: SeatResponse, permit: Permit) -> None:
        self.handshake = handshake
        self.response = response
        self.permit = permit

    def accept(self, subprotocol: str | None) -> socket.socket | None:
        """Answers 101; returns None if the client has disconnected.

        Args:
            subprotocol: that the origin chose; the client is told if it offered that.
        """
        response = self.response
        chosen = choose_subprotocol(response.subprotocols, (subprotocol,) if subprotocol else ())
        sock = self.handshake.accept(subprotocol=chosen, extensions=response.extensions)
        if sock is None:
            self.permit.release()
        return sock

    def redirect(self, ticket: Ticket) -> None:
        """Answers with a ticket, in the form that the client asked for."""
        if self.response.form is ResponseForm.JSON:
            headers, body = ticket_response(ticket, self.handshake.request.headers.get("origin"))
            self.handshake.respond(200, headers, body)
        else:
            self.handshake.respond(307, redirect_headers(ticket), b"")
        self.permit.release()

    def refuse(self, refusal: Refusal) -> None:
        """Answers with a refusal."""
        _refuse(self.handshake, refusal, self.response.form)
        self.permit.release()


class Paths(Protocol):
    """Which Lobby is served at which path."""

    @property
    def current(self) -> bool:
        """Whether a path without a Lobby has none: the Lobbies are known, and changes arrive."""

    def at(self, path: str) -> DirectoryEntry | None:
        """The Lobby that is served at a path."""


class ClientQueue(Protocol):
    """Where the clients of one Lobby wait for a seat."""

    @property
    def admission(self) -> Admission:
        """Admits its clients."""

    def enqueue(self, pending: PendingClient) -> None:
        """Queues an admitted client for a seat."""


class Router:
    """Decides for each request whether it may wait for a seat, and in which Lobby.

    Attributes:
        closed: no request is accepted any more.
    """

    def __init__(
        self,
        paths: Paths,
        queue_of: Callable[[DirectoryEntry], ClientQueue],
        proxies: TrustedProxies,
        capacity: ProcessCapacity,
    ) -> None:
        self.closed = False
        self._paths = paths
        self._queue_of = queue_of
        self._proxies = proxies
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()

    def arrived(self, handshake: Handshake) -> None:
        """Takes a complete request (called by the listener)."""
        request = handshake.request
        if self.closed:
            handshake.refuse(close_codes.SHUTTING_DOWN)
            return
        refusal = self._capacity.refusal()  # before all else: a full process does no more work for a request
        if refusal is not None:
            handshake.refuse(refusal)
            return
        entry = self._paths.at(request.path)
        if entry is None:
            handshake.refuse(close_codes.NO_SUCH_PATH if self._paths.current else close_codes.NO_SEAT)
            return
        spec = entry.lobby.spec
        allowed = origin_allowed(request.headers.get("origin"), spec.clients.allowed_origins, own_host=request.host)
        if not allowed or is_unreadable_fetch(request):
            handshake.refuse(close_codes.ORIGIN_NOT_ALLOWED)
            return
        try:
            response = _response(handshake, spec)
        except HandshakeError as error:
            body = f"{error.refusal.explanation} {error.detail}".strip()
            handshake.refuse(error.refusal, headers=error.headers, body=body)
            return
        queue = self._queue_of(entry)
        address = self._proxies.client_address(handshake.peer[0], forwarded_for(request))
        permit = queue.admission.admit(address, self._loop.time())
        if isinstance(permit, Refusal):
            _refuse(handshake, permit, response.form)
            return
        queue.enqueue(PendingClient(handshake, response, permit))


def _response(handshake: Handshake, spec: LobbySpec) -> SeatResponse:
    """The answer to a request, once there is a seat.

    Raises:
        HandshakeError: it asks for nothing that is served at this path.
    """
    request = handshake.request
    resume = position_of(request)
    redirecting = spec.routing.mode is RoutingMode.REDIRECT
    if redirecting and not request.wants_upgrade and wants_json(request.headers.get("accept", "")):
        return SeatResponse(form=ResponseForm.JSON)
    asked = upgrade(request)
    if redirecting:
        return SeatResponse(form=ResponseForm.LOCATION)
    return SeatResponse(
        form=ResponseForm.PROXY,
        subprotocols=tuple(each for each in asked.subprotocols if each in spec.origin.subprotocols),
        extensions=negotiate(asked.extensions) if spec.clients.compression is Compression.SHARED else None,
        resume=resume,
    )


def _refuse(handshake: Handshake, refusal: Refusal, form: ResponseForm) -> None:
    """Answers with a refusal that a page can read if it asked for a ticket."""
    headers = cors_headers(handshake.request.headers.get("origin")) if form is ResponseForm.JSON else ()
    handshake.refuse(refusal, headers=headers)
