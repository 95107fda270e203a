"""A lobby's answers to handshakes: clients need a seat token, greeters a trunk token."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from lobby_gateway import close_codes
from lobby_gateway.clients import resuming
from lobby_gateway.clients.admission import Admission, Permit, ProcessCapacity, SeatCount
from lobby_gateway.clients.auth import TrustedProxies, forwarded_for, origin_allowed
from lobby_gateway.clients.connection import ClientConnection, ClientPolicy, log_disconnect
from lobby_gateway.clients.message_bus import MessageBus
from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.clients.tokens import RESULTS, Claims, Purpose, TokenError, TokenKeys, UsedTokens, verify
from lobby_gateway.close_codes import Refusal
from lobby_gateway.lobby.resuming import ResumingClients
from lobby_gateway.metrics import FATES
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.spec import ClientMessages, Compression, Lobby, lobby_key
from lobby_gateway.settings import LobbySettings
from lobby_gateway.trunk import records as trunk
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.websocket.deflate import negotiate
from lobby_gateway.websocket.frames import Batch
from lobby_gateway.websocket.listener import Handshake
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Upgrade,
    choose_subprotocol,
    offered_subprotocols,
    upgrade,
)

logger = logging.getLogger(__name__)

LOBBY_SETTINGS = LobbySettings()

ForwardToOrigin = Callable[[ClientConnection, int, bytes], None]
"""Sends a client's message (opcode and payload), or holds it, and counts what happened to it."""


class _Seated(NamedTuple):
    """A client whose seat is taken, and that is yet to be answered."""

    asked: Upgrade
    permit: Permit
    resume: Position | None


class LobbyHandshakes:
    """Answers the handshakes of clients and trunks, and owns the direct clients.

    Attributes:
        clients: direct clients.
        bus: delivers messages to them.
        closes: closed clients, by label.
        fates: messages from clients, by what became of them.
        client_bytes: bytes of the payloads of those.
        tokens: tokens by what became of them (`tokens.RESULTS`).
        resuming: those that resume.
    """

    def __init__(
        self,
        lobby: Lobby,
        name: str,
        keys: TokenKeys,
        *,
        seat_count: SeatCount,
        capacity: ProcessCapacity,
        ring: MessageRing,
        forward: ForwardToOrigin,
        origin_subprotocol: Callable[[], str | None],
        seats_changed: Callable[[], None],
        trunk_arrived: Callable[[Handshake], None],
        proxies: TrustedProxies,
        settings: LobbySettings = LOBBY_SETTINGS,
        flood: FloodLimit = FLOOD_LIMIT,
    ) -> None:
        self._lobby = lobby
        self._name = lobby_key(lobby.namespace, name)  # as in tokens
        self._keys = keys
        self._seat_count = seat_count
        self._ring = ring
        self._forward = forward
        self._origin_subprotocol = origin_subprotocol
        self._undecided: dict[Handshake, _Seated] = {}  # wait for the origin's choice of a subprotocol
        self._seats_changed = seats_changed
        self._trunk_arrived = trunk_arrived
        self._proxies = proxies
        self._admission = Admission(lobby.spec.clients.limits, capacity)
        self._settings = settings
        self._flood = flood
        self._policy = ClientPolicy.of(lobby.spec.clients, flood)
        self._used = UsedTokens()
        self._loop = asyncio.get_running_loop()
        self._refused_tokens = RepeatedFailures(self._loop.time, lapses=True)
        self.bus = MessageBus(limits=self._policy.queue, batch_seconds=self._policy.batch_seconds)
        self.clients: dict[ClientConnection, None] = {}
        self.closes: Counter[str] = Counter(dict.fromkeys(close_codes.CLOSE_LABELS, 0))
        self.fates: Counter[str] = Counter(dict.fromkeys(FATES, 0))
        self.client_bytes = 0
        self.tokens: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        self.resuming = ResumingClients(ring, self.bus.attach, latest=self._latest, settings=settings)

    def arrived(self, handshake: Handshake) -> None:
        """Decides on a handshake (called by the listener)."""
        request = handshake.request
        try:
            if request.path == trunk.PATH and trunk.SUBPROTOCOL in offered_subprotocols(request):
                self._trunk(handshake)
            elif request.path == self._lobby.spec.path:
                self._client(handshake)
            else:
                handshake.refuse(close_codes.NO_SUCH_PATH)
        except HandshakeError as error:
            handshake.refuse(error.refusal, headers=error.headers, body=str(error))
        except TokenError as error:
            if (told := self._refused_tokens.failed(error.problem)) is not None:
                logger.info("refused a token", extra={"peer": handshake.peer[0], **told})
            handshake.refuse(close_codes.BAD_TOKEN, body=str(error))

    def update(self, lobby: Lobby) -> None:
        """Applies a changed Lobby, to connected clients too, except for what was negotiated in their handshakes."""
        self._lobby = lobby
        self._admission.update(lobby.spec.clients.limits)
        self._policy = ClientPolicy.of(lobby.spec.clients, self._flood)
        self.bus.limits = self._policy.queue
        self.bus.batch_seconds = self._policy.batch_seconds
        for client in self.clients:
            client.policy = self._policy

    def move_clients(self, seconds: float) -> None:
        """Closes the direct clients one by one over `seconds`, so that they don't all reconnect at once.

        The close reason gives each its position: a client that reconnects with it (`?resume=`) continues there. Clients that
        wait for the origin's choice are refused, since they would join only to move.
        """
        for handshake, seated in list(self._undecided.items()):
            del self._undecided[handshake]
            handshake.refuse(self._seat_count.refusal)
            self._release(seated)
        clients = list(self.clients)
        for index, client in enumerate(clients):
            self._loop.call_later(seconds * index / len(clients), self._move, client)

    def close_clients(self, close: close_codes.CloseCode) -> None:
        """Closes the direct clients at once."""
        for client in list(self.clients):
            client.close(close)

    def _move(self, client: ClientConnection) -> None:
        if client in self.resuming:
            client.close(close_codes.MOVED)  # it was sent nothing that has a place here
            return
        self.bus.flush()
        cursor = self._ring.cursor - client.waiting_of_stream
        position = Position(*self._ring.locate(max(cursor, self._ring.oldest)))
        client.close(close_codes.MOVED, f"resume={position}")

    # ClientOwner

    def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        """Handles a message from a client as `clients.messages` of the Lobby says."""
        mode = self._lobby.spec.clients.messages
        self.client_bytes += len(payload)
        if mode is ClientMessages.FORWARD:
            if client.charge_forward():
                self._forward(client, opcode, payload)
            else:
                self.fates["rejected"] += 1
        elif mode is ClientMessages.REJECT:
            self.fates["rejected"] += 1
            client.close(close_codes.MESSAGES_REJECTED)
        else:
            self.fates["ignored"] += 1

    def client_closed(self, client: ClientConnection, label: str) -> None:
        """Releases the seat of a client that was closed."""
        del self.clients[client]
        self.resuming.discard(client)
        self.closes[label] += 1
        self._seat_count.release()
        permit = client.context
        assert isinstance(permit, Permit)  # noqa: S101  # see `_client`
        permit.release()
        log_disconnect(client, label, permit.address)
        self._seats_changed()

    def _trunk(self, handshake: Handshake) -> None:
        upgrade(handshake.request)
        authorization = handshake.request.headers.get("authorization", "")
        self._use(self._verify(_bearer(authorization), Purpose.TRUNK, trunk.PATH))
        self._trunk_arrived(handshake)

    def _client(self, handshake: Handshake) -> None:
        request = handshake.request
        asked = upgrade(request)
        address = self._proxies.client_address(handshake.peer[0], forwarded_for(request))
        permit = self._admission.admit(address, self._loop.time())  # before the token is verified: it is single-use
        if isinstance(permit, Refusal):
            handshake.refuse(permit)
            return
        seated = None
        try:
            seated = self._seat(handshake, asked, permit)
        finally:
            if seated is None:
                permit.release()
        if seated is None:
            return
        common = choose_subprotocol(asked.subprotocols, self._lobby.spec.origin.subprotocols)
        if common is None or self._origin_subprotocol() is not None:
            self._accept(handshake, seated)
            return
        self._undecided[handshake] = seated
        handshake.on_abandoned = lambda: self._release(self._undecided.pop(handshake))
        self._loop.call_later(self._settings.subprotocol_wait_seconds, self._decide, handshake)
        self._seats_changed()  # has the origin connected

    def origin_connected(self) -> None:
        """The origin has chosen a subprotocol, or none: accepts the clients that waited for that."""
        for handshake in list(self._undecided):
            self._decide(handshake)

    def _decide(self, handshake: Handshake) -> None:
        seated = self._undecided.pop(handshake, None)
        if seated is not None:
            self._accept(handshake, seated)

    def _accept(self, handshake: Handshake, seated: _Seated) -> None:
        """Answers 101."""
        asked = seated.asked
        shared = self._lobby.spec.clients.compression is Compression.SHARED
        extensions = negotiate(asked.extensions) if shared else None
        chosen = self._origin_subprotocol()
        subprotocol = choose_subprotocol(asked.subprotocols, (chosen,) if chosen else ())
        sock = handshake.accept(subprotocol=subprotocol, extensions=extensions)
        if sock is None:
            self._release(seated)
            return
        client = ClientConnection(
            sock,
            loop=self._loop,
            policy=self._policy,
            owner=self,
            deflate=extensions is not None,
            context=seated.permit,
        )
        self.clients[client] = None
        self._seats_changed()
        if seated.resume is None:
            self.bus.attach(client, self._latest())
        else:
            self.resuming.add(client, seated.resume)
        client.feed(handshake.leftover)

    def _release(self, seated: _Seated) -> None:
        """A client that has a seat disconnected before it was answered."""
        self._seat_count.release()
        seated.permit.release()
        self._seats_changed()

    def _seat(self, handshake: Handshake, asked: Upgrade, permit: Permit) -> _Seated | None:
        """Takes a seat for a client with a valid token if its page is allowed and there is a free one.

        Raises:
            HandshakeError: `resume` is malformed.
            TokenError: the token is invalid.
        """
        request = handshake.request
        resume = resuming.position_of(request)
        spec = self._lobby.spec
        authorization = request.headers.get("authorization", "")
        claims = self._verify(request.query_value("token") or _bearer(authorization), Purpose.SEAT, request.path)
        if not origin_allowed(request.headers.get("origin"), spec.clients.allowed_origins, own_host=claims.host):
            handshake.refuse(close_codes.ORIGIN_NOT_ALLOWED)
            return None
        self._use(claims)
        if not self._seat_count.claim():
            handshake.refuse(self._seat_count.refusal)
            return None
        return _Seated(asked, permit, resume)

    def check_request_token(self, authorization: str, purpose: Purpose, path: str) -> None:
        """Checks the Authorization header of a request of the lobby host.

        Args:
            authorization: the header.
            purpose: what is asked for.
            path: path of the request.

        Raises:
            TokenError: it has no valid token for this.
        """
        self._use(self._verify(_bearer(authorization), purpose, path))

    def _verify(self, token: str, purpose: Purpose, path: str) -> Claims:
        keys = self._keys.verification_keys(self._loop.time())
        try:
            return verify(token, keys, purpose=purpose, lobby=self._name, path=path, now=time.time())
        except TokenError as error:
            self.tokens[error.problem] += 1
            raise

    def _use(self, claims: Claims) -> None:
        now = time.time()
        try:
            self._used.use(claims, now)
        except TokenError as error:
            self.tokens[error.problem] += 1
            raise
        self.tokens["late" if now >= claims.expires else "accepted"] += 1

    def _latest(self) -> list[Batch]:
        """What a client that joins gets first."""
        cursor = self._ring.replay_from(self._lobby.spec.clients.replay)
        replay = [chunk.batch for chunk in self._ring.since(cursor, self._ring.max_bytes)]
        return [*self._ring.kept.first(replay, cursor=self._ring.cursor, start=cursor), *replay]


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
