"""The connection of a trunk at the greeter's end. `TrunkConsumer` decides what is sent on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.tokens import Purpose, sign
from lobby_gateway.settings import TrunkConsumerSettings
from lobby_gateway.trunk.consumer import TRUNK_CONSUMER_SETTINGS, SeatLedger, TrunkConsumer
from lobby_gateway.trunk.identity import Identity, digest
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import MAX_FORWARD_BYTES, PATH, SUBPROTOCOL, FromServer, Messages, TrunkError, Welcome
from lobby_gateway.websocket.client import WebSocketClient, open_websocket
from lobby_gateway.websocket.client_handshake import ConnectFailedError, HandshakeRefusedError
from lobby_gateway.websocket.frames import Batch, Opcode, header_size
from lobby_gateway.websocket.parser import Close, Event, Violation

logger = logging.getLogger(__name__)

_BINARY = int(Opcode.BINARY)

MAX_RECORD_BYTES = 80 << 20
"""Largest record accepted from a lobby, in bytes: the largest message that a Lobby may allow, and the rest of its batch."""


class TrunkListener(Protocol):
    """The user of a trunk. Called in the order in which the lobby sent things, in the callback of the socket's read."""

    def trunk_messages(self, batch: Batch) -> None:
        """The next messages of the stream, without a gap except for those that `Missed` reports."""

    def trunk_epoch(self) -> None:
        """The next messages belong to another epoch than those before, if there were any: the lobby's stream was broken."""

    def trunk_record(self, record: FromServer) -> None:
        """Any other record: `Welcome` first, except for `Kept`; `Granted`, `Replay`, `Resumed`, `Missed`, `Status`, `Move`."""

    def trunk_lost(self, problem: str) -> None:
        """The trunk is lost, for a reason in one line. Called once and last, but not after `close`."""


async def connect_trunk(
    address: str,
    *,
    token: str,
    name: str,
    listener: TrunkListener,
    replay: int = 0,
    position: Position | None = None,
    ledger: SeatLedger | None = None,
    identity: Identity = digest,
    relays: bool = False,
    settings: TrunkConsumerSettings = TRUNK_CONSUMER_SETTINGS,
) -> TrunkConsumerConnection:
    """Opens a trunk to a lobby. It can be used at once; the listener gets `Welcome` first.

    The listener is first called in a later turn of the event loop than the one in which this returns.

    Args:
        address: `host:port` of the lobby.
        token: for this lobby's trunks (`Purpose.TRUNK`).
        name: of this consumer, for the lobby's logs; unique at any one time.
        listener: is called with what arrives.
        replay: how many earlier messages the stream starts with.
        position: where the stream resumes instead, if the lobby knows it.
        ledger: records the seats. Claims that it already contains are sent first.
        identity: gives the identity of a message's payload, for positions.
        relays: this is a lobby that serves the stream to others; `name` is its name.
        settings: see `TrunkConsumerSettings`.

    Raises:
        HandshakeRefusedError: the lobby refused.
        ConnectFailedError: it did not respond, or is not a lobby.
    """
    connection = TrunkConsumerConnection(listener)
    client = await open_websocket(
        f"ws://{address}{PATH}",
        receiver=connection,
        headers=[("Authorization", f"Bearer {token}")],
        subprotocols=[SUBPROTOCOL],
        open_timeout=settings.open_timeout_seconds,
        max_message_bytes=MAX_RECORD_BYTES,
    )
    if client.subprotocol != SUBPROTOCOL:
        client.abort()
        raise ConnectFailedError(f"trunks are not served there (no subprotocol {SUBPROTOCOL})")
    now = asyncio.get_running_loop().time()
    core = TrunkConsumer(
        name,
        now=now,
        replay=replay,
        position=position,
        ledger=ledger,
        identity=identity,
        relays=relays,
        settings=settings,
    )
    connection.begin(client, core)
    return connection


async def with_each_key(
    keys: Sequence[bytes],
    lobby: str,
    connect: Callable[[str], Awaitable[TrunkConsumerConnection]],
    settings: TrunkConsumerSettings = TRUNK_CONSUMER_SETTINGS,
) -> TrunkConsumerConnection:
    """Opens a trunk with a token of the first key that the lobby accepts: while keys rotate, it may know another one.

    Args:
        keys: signing keys, in the order in which to try them.
        lobby: `lobby_key` of the lobby.
        connect: opens the trunk with a token; see `connect_trunk`.
        settings: see `TrunkConsumerSettings`.

    Raises:
        HandshakeRefusedError: the lobby refused for another reason, or refused all keys.
        ConnectFailedError: it did not respond, or is not a lobby.
        ValueError: there is no key.
    """
    for number, key in enumerate(keys, 1):
        expires = time.time() + settings.token_seconds
        token = sign(key, purpose=Purpose.TRUNK, lobby=lobby, path=PATH, expires=expires)
        try:
            return await connect(token)
        except HandshakeRefusedError as error:
            if error.status != close_codes.BAD_TOKEN.status or number == len(keys):
                raise
    raise ValueError("no key")


class TrunkConsumerConnection:
    """One trunk of a greeter, made by `connect_trunk`.

    Attributes:
        core: the state of the trunk: `held`, `free`, `seats`, `origin_connected`, `moving`, `missed`.
    """

    core: TrunkConsumer
    _client: WebSocketClient
    _timer: asyncio.TimerHandle

    def __init__(self, listener: TrunkListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._over = True  # until `begin`
        self._flushing = False  # `_flush` is scheduled

    def __repr__(self) -> str:
        return f"<TrunkConsumerConnection to {self.core.lobby or '?'}: {self.core.held} seats>"

    def begin(self, client: WebSocketClient, core: TrunkConsumer) -> None:
        """Sends the first records (called by `connect_trunk`)."""
        self.core = core
        self._client = client
        self._over = False
        self._timer = self._loop.call_at(core.wake_at, self._time_passed)
        self._send()

    @property
    def open(self) -> bool:
        """It is neither lost nor closed."""
        return not self._over

    def position(self) -> Position:
        """The position after all messages so far; available even after the trunk was lost."""
        return self.core.position()

    def claim(self, count: int) -> int:
        """Claims seats; the listener gets a `Granted` with the returned id, unless the trunk is lost first."""
        claim = self.core.claim(count)
        self._send()
        return claim

    def release(self, count: int) -> None:
        """Returns seats; those returned in one turn of the event loop share one record.

        Raises:
            ValueError: fewer are held.
        """
        self.core.release(count)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def forward(self, client: int, opcode: int, payload: bytes) -> bool:
        """Sends a client's message to the origin; returns False if the lobby reads too slowly, or it is too large.

        Args:
            client: number of the client.
            opcode: `Opcode.TEXT` or `Opcode.BINARY`.
            payload: the message.
        """
        if (
            self._over
            or self._client.buffered > self.core.settings.max_buffered_bytes
            or len(payload) > MAX_FORWARD_BYTES
        ):
            return False
        self.core.forward(client, opcode, payload)
        self._send()
        return True

    def resume(self, position: Position) -> int:
        """Asks to resume a group of clients at a position.

        The listener gets, with the returned id, `Replay` (and `Missed`) for this group alone, then `Resumed`. From then on the
        group belongs to the stream: the next `trunk_messages` is for it, too.
        """
        group = self.core.resume(position)
        self._send()
        return group

    def close(self) -> None:
        """Closes the trunk; the lobby frees its seats. The listener is not called any more."""
        if not self._over:
            self._end()
            self._client.begin_close()

    async def wait_closed(self) -> None:
        """Waits until the connection is closed; after `close` this is soon, even if the lobby does not respond."""
        await self._client.wait_lost()

    # From the connection (Receiver)

    def received(self, events: list[Event]) -> None:
        """Records arrived. The messages of one read are passed on together: one system call per client, not per record."""
        now = self._loop.time()
        batches: list[Batch] = []
        for event in events:
            if isinstance(event, Batch):
                start = 0
                for end in event.ends:
                    if self._over:
                        return
                    self._record_received(event.data, start, end, now, batches)
                    start = end
            elif isinstance(event, Close):
                self._pass_on(batches)
                self._fail(f"closed by the lobby: {event.code} {event.reason}".rstrip())
            elif isinstance(event, Violation):
                self._pass_on(batches)
                self._fail(f"broken: {event.reason}")
        self._pass_on(batches)
        if not self._over:
            self._send()

    def lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        self._fail("the connection ended" if error is None else str(error) or type(error).__name__)

    # Helpers

    def _record_received(self, data: bytes, start: int, end: int, now: float, batches: list[Batch]) -> None:
        """Takes the record in the frame from `start` to `end`."""
        problem, record, epoch = "", None, self.core.epoch
        if data[start] & 0x0F != _BINARY:
            problem = "a text message; accepted: binary messages"
        else:
            try:
                record = self.core.receive(memoryview(data)[start + header_size(data, start) : end], now)
            except TrunkError as error:
                problem = str(error)
        if self.core.epoch != epoch and not isinstance(record, Welcome):
            self._pass_on(batches)
            self._listener.trunk_epoch()
        if isinstance(record, Messages):
            batches.append(record.batch)
            return
        self._pass_on(batches)
        if problem and not self._over:
            self._break(problem)
        elif record is not None and not self._over:
            self._listener.trunk_record(record)

    def _pass_on(self, batches: list[Batch]) -> None:
        if batches and not self._over:
            self._listener.trunk_messages(Batch.join(batches))
        batches.clear()

    def _break(self, problem: str) -> None:
        self._client.begin_close(1002, problem)
        self._fail(f"broken: {problem}")

    def _send(self) -> None:
        for record in self.core.data_to_send():
            self._client.send_binary(record)

    def _flush(self) -> None:
        self._flushing = False
        if not self._over:
            self._send()

    def _time_passed(self) -> None:
        core, now = self.core, self._loop.time()
        core.bytes_received(now if self._client.took_bytes() else self._client.received_at)
        if core.wake(now):
            self._timer = self._loop.call_at(core.wake_at, self._time_passed)
            self._send()
        else:
            self._client.abort()
            self._fail(f"no data for {core.settings.lobby_timeout_seconds:g} s")

    def _fail(self, problem: str) -> None:
        if not self._over:
            self._end()
            self._listener.trunk_lost(problem)

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
