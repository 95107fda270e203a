"""The greeter's gate: from a request to the Lobby that is served at its path, or to a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.auth import TrustedProxies, forwarded_for, origin_allowed
from lobby_gateway.clients.door import Door
from lobby_gateway.greeter.directory import DirectoryEntry
from lobby_gateway.greeter.pending_client import Form, PendingClient
from lobby_gateway.greeter.redirect import wants_json
from lobby_gateway.resource.spec import Compression, LobbySpec, RoutingMode
from lobby_gateway.websocket.deflate import negotiate
from lobby_gateway.websocket.listener import Handshake
from lobby_gateway.websocket.server_handshake import HandshakeError, choose_subprotocol, upgrade


class Paths(Protocol):
    """What is served where."""

    @property
    def known(self) -> bool:
        """There was news at least once."""

    def at(self, path: str) -> DirectoryEntry | None:
        """The Lobby that is served at a path."""


class Router:
    """Decides on each request whether it may wait for a seat, and for which.

    Attributes:
        closed: no one is let in any more.
    """

    def __init__(
        self, paths: Paths, admit: Callable[[DirectoryEntry, PendingClient], None], proxies: TrustedProxies, door: Door
    ) -> None:
        self.closed = False
        self._paths = paths
        self._admit = admit
        self._proxies = proxies
        self._door = door

    def arrived(self, handshake: Handshake) -> None:
        """A whole request is there (called by the listener)."""
        request = handshake.request
        if self.closed:
            handshake.refuse(close_codes.SHUTTING_DOWN)
            return
        refusal = self._door.refusal()
        if refusal is not None:
            handshake.refuse(refusal)
            return
        entry = self._paths.at(request.path)
        if entry is None:
            handshake.refuse(close_codes.NO_SUCH_PATH if self._paths.known else close_codes.NO_SEAT)
            return
        spec = entry.lobby.spec
        if not origin_allowed(request.headers.get("origin"), spec.clients.allowed_origins):
            handshake.refuse(close_codes.ORIGIN_NOT_ALLOWED)
            return
        address = self._proxies.client_address(handshake.peer[0], forwarded_for(request))
        try:
            pending = _newcomer(handshake, spec, address)
        except HandshakeError as error:
            body = f"{error.refusal.explanation} {error.detail}".strip()
            handshake.refuse(error.refusal, headers=error.headers, body=body)
            return
        self._admit(entry, pending)


def _newcomer(handshake: Handshake, spec: LobbySpec, address: str) -> PendingClient:
    """What is to become of a request.

    Raises:
        HandshakeError: it asks for nothing that is served at this path.
    """
    request = handshake.request
    redirecting = spec.routing.mode is RoutingMode.REDIRECT
    if redirecting and not request.wants_upgrade and wants_json(request.headers.get("accept", "")):
        return PendingClient(handshake, Form.JSON, address)
    asked = upgrade(request)
    if redirecting:
        return PendingClient(handshake, Form.LOCATION, address)
    return PendingClient(
        handshake,
        Form.PROXY,
        address,
        subprotocol=choose_subprotocol(asked.subprotocols, spec.origin.subprotocols),
        extensions=negotiate(asked.extensions) if spec.clients.compression is Compression.SHARED else None,
    )
