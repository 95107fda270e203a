"""A greeter's trunk to one lobby: the seats that it holds there, and the message bus of the clients on them.

However many clients there are, each message crosses the trunk once. The trunk opens with its first claim; claims made before
it is open are sent then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from lobby_gateway.clients.admission import Permit
from lobby_gateway.clients.backlog import QueueLimits
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.message_bus import BusStats, MessageBus
from lobby_gateway.clients.tokens import NamespaceKeys
from lobby_gateway.errors import LobbyGatewayError, internal_error
from lobby_gateway.greeter.router import PendingClient
from lobby_gateway.greeter.seat_queue import ClaimRefusal, LobbyId, Waiter
from lobby_gateway.process.background import Spawn
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.settings import TrunkConsumerSettings
from lobby_gateway.trunk.consumer import TRUNK_CONSUMER_SETTINGS, SeatLedger, TrunkConsumer
from lobby_gateway.trunk.consumer_connection import TrunkConsumerConnection, connect_trunk, with_each_key
from lobby_gateway.trunk.identity import Identity, digest
from lobby_gateway.trunk.kept import KeptFrame, KeptMessages
from lobby_gateway.trunk.position import NO_EPOCH, LiveReason, Position
from lobby_gateway.trunk.records import (
    STREAM,
    Blamed,
    FromServer,
    Granted,
    GrantReason,
    Kept,
    Missed,
    Move,
    Origin,
    Replay,
    Resumed,
    Status,
    Welcome,
)
from lobby_gateway.websocket.frames import AsideBatch, Batch

_REFUSALS: dict[int, ClaimRefusal] = {GrantReason.FULL: ClaimRefusal.FULL, GrantReason.DRAINING: ClaimRefusal.DRAINING}


class Group:
    """Clients that move to the same trunk together.

    At first they may stay on the stream of the lobby that they leave, until the next one knows their place (`scouting`). Then
    they leave it, and join the stream of the next one.

    Attributes:
        trunk: to the lobby that they move to, where each has a seat.
        old: to the lobby that they leave, if it still has their seats; they are kept until the clients have joined.
        scouting: they are still on the stream of `old`.
        scouting_until: when they leave it even if their place was not found.
        clients: the clients; those that disconnect meanwhile are removed.
        position: where they are, or while scouting, where they were when it was asked for.
        old_seats: seats to return to `old` when they have joined.
        replay: the messages that they missed, so far.
        epoch: of the newest of those; None: not known.
        broken_at: index in `replay` where the stream last broke; None: it did not.
        exact: whether they miss nothing and get nothing twice.
        reason: why not.
        timer: asks for their place again.
    """

    __slots__ = (
        "broken_at", "clients", "epoch", "exact", "old", "old_seats", "position", "reason", "replay", "scouting",
        "scouting_until", "timer", "trunk",
    )  # fmt: skip

    def __init__(self, trunk: Trunk, position: Position, old: Trunk | None = None) -> None:
        self.trunk = trunk
        self.old = old
        self.scouting = False
        self.scouting_until = 0.0
        self.clients: dict[ClientConnection, None] = {}
        self.old_seats = 0
        self.timer: asyncio.TimerHandle | None = None
        self.ask(position)

    def ask(self, position: Position) -> None:
        """The lobby is asked for a position; what it answered before does not count."""
        self.position = position
        self.replay: list[Batch] = []
        # A position without digests can only be found by its epoch, so that is one of this lobby.
        self.epoch = position.epoch if position.epoch != NO_EPOCH and not position.digests else None
        self.broken_at: int | None = None
        self.exact = True
        self.reason = ""

    def reached(self, epoch: int, offset: int) -> None:
        """The next of its messages, or the place where it joins, is here."""
        # A place that was found by digests is never where an epoch begins. So this is the lobby of the position, whose stream
        # broke right there.
        breaks_here = self.epoch is None and offset == 0 and epoch != self.position.epoch
        if breaks_here or self.epoch not in (None, epoch):
            self.broken_at = len(self.replay)
        self.epoch = epoch

    def discard(self, client: ClientConnection) -> None:
        """A client has disconnected."""
        self.clients.pop(client, None)
        if not self.clients and self.timer is not None:
            self.timer.cancel()

    def leave(self) -> Group:
        """Takes the clients from the stream of `old`; returns them as a group at the place that it has reached."""
        old = self.old
        if old is None:
            raise ValueError("the clients are on no stream")
        if self.timer is not None:
            self.timer.cancel()
        old.bus.flush()  # a client that is lost by this is discarded
        joining = Group(self.trunk, old.position(), old)
        kept = old.kept
        for client in list(self.clients):
            old.bus.detach(client)
            seat_of(client).kept = kept
            joining.add(client)
        joining.old_seats = len(joining.clients)
        return joining

    def add(self, client: ClientConnection) -> None:
        """Adds a client that is on no stream."""
        self.clients[client] = None
        seat = seat_of(client)
        seat.group = self
        seat.trunk = self.trunk
        seat.waiter = None


_NOTHING: Mapping[str, bytes] = {}


class ClientSeat:
    """Where a client of this greeter is: the `context` of its connection.

    Attributes:
        permit: of its address; released when it disconnects.
        trunk: of the lobby in which it has a seat; None while it has none. While its group is scouting, of the one that it
            leaves.
        waiter: its place in the queue, while it waits for a seat (elsewhere).
        group: with which it is about to move.
        position: where it is in the stream, while it has no trunk.
        kept: what clients that join got first in the lobby that it left, by name: it has that already.
    """

    __slots__ = ("group", "kept", "permit", "position", "trunk", "waiter")

    def __init__(self, permit: Permit, *, trunk: Trunk | None = None, resume: Position | None = None) -> None:
        """A client with a seat in the lobby of a trunk, or one that is yet to join a stream where it asks to continue."""
        self.permit = permit
        self.trunk = trunk
        self.waiter: Waiter[PendingClient | ClientConnection] | None = None
        self.group: Group | None = None
        self.position = resume
        self.kept: Mapping[str, bytes] = _NOTHING


def seat_of(client: ClientConnection) -> ClientSeat:
    """The seat of a client; every client of a greeter has one."""
    seat = client.context
    if not isinstance(seat, ClientSeat):
        raise TypeError(f"the context of a client is {seat!r}, not a ClientSeat")
    return seat


def regroup(clients: Iterable[ClientConnection], trunk: Trunk) -> list[Group]:
    """Groups clients that have got a seat by where they are.

    Args:
        clients: clients that are on no stream, or on that of a lobby that they leave.
        trunk: to the lobby of the seats.

    Returns:
        Groups to join the trunk's stream; those of clients that are still on another one are scouting.
    """
    lost: dict[Position, Group] = {}
    moving: dict[Trunk, Group] = {}
    for client in clients:
        seat = seat_of(client)
        if seat.trunk is None:
            position = seat.position or Position(NO_EPOCH, 0)
            (lost.get(position) or lost.setdefault(position, Group(trunk, position))).add(client)
            continue
        old = seat.trunk
        group = moving.get(old) or moving.setdefault(old, Group(trunk, old.position(), old))
        group.scouting = True
        group.clients[client] = None
        seat.group = group
        seat.waiter = None
    return [*lost.values(), *moving.values()]


class Recent:
    """The latest messages of a stream, for clients that join.

    Attributes:
        messages: how many are kept (see `keep`).
    """

    __slots__ = ("_batches", "_bytes", "_count", "_max_bytes", "messages")

    def __init__(self, messages: int, max_bytes: int = TRUNK_CONSUMER_SETTINGS.replay_bytes) -> None:
        self.messages = messages
        self._max_bytes = max_bytes
        self._batches: deque[Batch] = deque()
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Messages that a client gets now."""
        return min(self._count, self.messages)

    def append(self, batch: Batch) -> None:
        """Adds the newest messages."""
        if not self.messages:
            return
        self._batches.append(batch)
        self._count += len(batch)
        self._bytes += len(batch.data)
        self._trim()

    def keep(self, messages: int) -> None:
        """Changes how many are kept; drops surplus ones now."""
        self.messages = messages
        if messages:
            self._trim()
        else:
            self.clear()

    def clear(self) -> None:
        """Drops all of them: they are stale."""
        self._batches.clear()
        self._count = self._bytes = 0

    def _trim(self) -> None:
        batches = self._batches
        while len(batches) > 1 and (self._count - len(batches[0]) >= self.messages or self._bytes > self._max_bytes):
            oldest = batches.popleft()
            self._count -= len(oldest)
            self._bytes -= len(oldest.data)

    def latest(self) -> Sequence[Batch]:
        """The messages, oldest first."""
        surplus = max(0, self._count - self.messages)
        batches = list(self._batches)
        if surplus:
            batches[0] = batches[0].after(surplus)
        return batches


class TrunkOwner(Protocol):
    """Serves the clients of the Lobby."""

    def trunk_granted(self, trunk: Trunk, seats: int, refusal: ClaimRefusal | None) -> None:
        """The lobby answered a claim."""

    def trunk_observed(self, trunk: Trunk, seats: int, free: int) -> None:
        """The lobby reported its seats."""

    def trunk_moving(self, trunk: Trunk, within_seconds: float) -> None:
        """The lobby asks for its seats back; when it asks again, the earliest end counts."""

    def trunk_joined(self, trunk: Trunk, group: Group) -> None:
        """The lobby has found the place of a group in its stream, or not; if it is not scouting, it joins there."""

    def trunk_origin(self, trunk: Trunk) -> None:
        """The lobby's origin has chosen a subprotocol, or none."""

    def trunk_blamed(self, client: int, code: int) -> None:
        """The origin closed its connection with `code` because of a message of the client with this number."""

    def trunk_missed(self, count: int) -> None:
        """This greeter was too slow to get `count` messages."""

    def trunk_lost(self, trunk: Trunk, problem: str, *, come_back: bool) -> None:
        """It ended without `close`; `come_back`: the lobby responded until a moment ago."""


class Trunk:
    """One trunk, from its first claim on: while it opens, while it is open, and after its end.

    Attributes:
        id: the lobby.
        bus: delivers its messages to the clients with a seat there.
        ledger: the seats claimed and held there.
        lost: it has ended, and its seats are gone.
        messages: number of messages received.
        idle_since: since when no seat is held or claimed; maintained by the owner.
    """

    def __init__(
        self,
        lobby: LobbyId,
        owner: TrunkOwner,
        *,
        greeter: str,
        token_keys: NamespaceKeys,
        replay: int,
        stats: BusStats,
        limits: QueueLimits,
        spawn: Spawn,
        batch_seconds: float = 0.0,
        identity: Identity = digest,
        namespace: str = "",
        settings: TrunkConsumerSettings = TRUNK_CONSUMER_SETTINGS,
    ) -> None:
        self.id = lobby
        self.bus = MessageBus(stats, limits, batch_seconds=batch_seconds)
        self.ledger = SeatLedger()
        self.lost = False
        self.messages = 0
        self.idle_since: float | None = None
        self._owner = owner
        self._greeter = greeter
        self._settings = settings
        self._identity = identity
        self._recent = Recent(replay, settings.replay_bytes)
        self._kept = KeptMessages()
        self._loop = asyncio.get_running_loop()
        self._connection: TrunkConsumerConnection | None = None
        self._groups: dict[int, Group] = {}
        self._observed = (0, 0)
        self._received_at = 0.0
        self._opening = spawn(self._open(token_keys, lobby_key(namespace, lobby.name)), f"trunk to {lobby.name}")

    def __repr__(self) -> str:
        return f"<Trunk lobby={self.id.name} address={self.id.address} seats={self.seats}>"

    @property
    def moving(self) -> bool:
        """The lobby asked for its seats back."""
        return self._connection is not None and self._connection.core.moving

    @property
    def seats(self) -> int:
        """Seats held."""
        return self.ledger.held

    @property
    def unused(self) -> bool:
        """Whether no seat is held or claimed."""
        return not self.ledger.held and not self.ledger.claims

    @property
    def lobby(self) -> TrunkConsumer | None:
        """What the lobby reported; None before its first record."""
        core = self._connection.core if self._connection is not None else None
        return core if core is not None and core.welcomed else None

    @property
    def subprotocol(self) -> str | None:
        """What the lobby's origin chose; empty if it chose none; None if that is not known yet."""
        return self._connection.core.subprotocol if self._connection is not None else None

    @property
    def offset(self) -> int:
        """Offset of its place in the stream."""
        return self._connection.core.offset if self._connection is not None else 0

    @property
    def epoch(self) -> int:
        """Epoch of its place in the stream."""
        return self._connection.core.epoch if self._connection is not None else NO_EPOCH

    @property
    def groups(self) -> Iterable[Group]:
        """Groups that are about to join."""
        return tuple(self._groups.values())

    def claim(self, seats: int) -> None:
        """Claims seats; the owner's `trunk_granted` gets the answer."""
        if self._connection is None:
            self.ledger.claim(seats)  # sent when the connection is open
        else:
            self._connection.claim(seats)

    def release(self, seats: int) -> None:
        """Returns seats."""
        if seats and self._connection is not None:
            self._connection.release(seats)

    def forward(self, client: int, opcode: int, payload: bytes) -> bool:
        """Sends the message of a client, a number, to the origin; False if that is not possible."""
        return self._connection is not None and self._connection.forward(client, opcode, payload)

    def resume(self, group: Group) -> None:
        """Asks the lobby to join a group at its position; its seats have been granted."""
        if self._connection is None:
            raise ValueError("the trunk is not open, so no client has a seat")
        self._groups[self._connection.resume(group.position)] = group

    def position(self) -> Position:
        """The position after the newest message delivered to the clients of the bus."""
        return Position(NO_EPOCH, 0) if self._connection is None else self._connection.position()

    @property
    def kept(self) -> Mapping[str, bytes]:
        """The frames that a joining client gets before all others, by name."""
        return self._kept.frames(self.messages)

    def latest(self) -> Sequence[Batch]:
        """The messages that a joining client gets first."""
        messages = self._recent.latest()
        return [*self._kept.first(messages, cursor=self.messages, start=self.messages - len(self._recent)), *messages]

    def after_kept(self, messages: Sequence[Batch], known: Mapping[str, bytes] = _NOTHING) -> Sequence[Batch]:
        """The same with other messages of the stream behind what is kept.

        Args:
            messages: the messages.
            known: what is kept that the client has got already, by name.
        """
        return [*self._kept.first(messages, cursor=self.messages, known=known), *messages]

    def replay(self, group: Group, known: Mapping[str, bytes] = _NOTHING) -> Sequence[Batch]:
        """What a group missed; where the stream broke, or its place is not known, what is kept comes first.

        Args:
            group: the group, which joins now.
            known: see `after_kept`.
        """
        at = group.broken_at
        if at is None:
            return group.replay if group.exact else self.after_kept(group.replay, known)
        return [*group.replay[:at], *self.after_kept(group.replay[at:], known)]

    def keep(self, messages: int) -> None:
        """Changes how many messages are kept for joining clients."""
        self._recent.keep(messages)

    def close(self) -> None:
        """Closes it; the owner is not called any more."""
        self.lost = True
        self._opening.cancel()
        if self._connection is not None:
            self._connection.close()

    async def wait_closed(self) -> None:
        """Waits for its end, after `close`."""
        await asyncio.wait([self._opening])
        if self._connection is not None:
            await self._connection.wait_closed()

    # From the connection (TrunkListener)

    def trunk_messages(self, batch: Batch) -> None:
        """The next messages of the stream."""
        self._received_at = self._loop.time()
        self.messages += len(batch.ends)
        self.bus.publish(batch)
        self._recent.append(batch)

    def trunk_epoch(self) -> None:
        """The stream of the lobby was broken: its clients go on with it as it is."""

    def trunk_record(self, record: FromServer) -> None:
        """Any other record."""
        self._received_at = self._loop.time()
        match record:
            case Status() | Welcome():
                if isinstance(record, Status) and record.stale:
                    self._recent.clear()
                self._observe(record.seats, record.free)
            case Kept():
                self._keep(record)
            case Granted():
                self._granted(record)
            case Replay():
                self._groups[record.id].reached(record.epoch, record.offset)
                self._groups[record.id].replay.append(record.batch)
            case Missed() if record.id == STREAM:
                self._kept.settle(None)
                self._owner.trunk_missed(record.count)
            case Missed():
                self._groups[record.id].exact = False
                self._groups[record.id].reason = "missed"
            case Resumed():
                group = self._groups.pop(record.id)
                group.reached(record.epoch, record.offset)
                if not record.exact:
                    group.exact = False
                    group.reason = _label(record.reason)
                self._owner.trunk_joined(self, group)
            case Move():
                self._owner.trunk_moving(self, record.within_seconds)
            case Origin():
                self._owner.trunk_origin(self)
            case Blamed():
                self._owner.trunk_blamed(record.client, record.code)

    def trunk_lost(self, problem: str) -> None:
        """It ended, broke, or stopped responding."""
        # If the lobby responded a moment ago, it may still be there, and it has the messages that were missed.
        responsive = self._loop.time() - self._received_at < self._settings.responsive_seconds
        self._lose(problem, come_back=responsive and not self.moving)

    # Helpers

    async def _open(self, token_keys: NamespaceKeys, lobby: str) -> None:
        try:
            connection = await self._connect(token_keys.signing_keys_to_try(time.monotonic()), lobby)
        except LobbyGatewayError as error:
            self._lose(str(error), come_back=False)
            return
        except Exception as error:  # noqa: BLE001  # or its clients would wait for a trunk that never opens
            self._lose(internal_error(error), come_back=False)
            return
        if self.lost:
            connection.close()
            return
        self._connection = connection
        self._received_at = self._loop.time()

    async def _connect(self, keys: Sequence[bytes], lobby: str) -> TrunkConsumerConnection:
        return await with_each_key(
            keys,
            lobby,
            lambda token: connect_trunk(
                self.id.address,
                token=token,
                name=self._greeter,
                listener=self,
                replay=self._recent.messages,
                ledger=self.ledger,
                identity=self._identity,
                settings=self._settings,
            ),
            self._settings,
        )

    def _keep(self, record: Kept) -> None:
        messages = {record.name: KeptFrame(record.frame, record.ahead)}
        kept = self._kept.put(messages, cursor=self.messages, tell=record.tell)
        if record.tell:
            self._recent.clear()  # see `MessageRing.replay_from`
        if record.tell and kept.new:
            self.bus.tell(AsideBatch.of(kept.new))

    def _granted(self, record: Granted) -> None:
        self._owner.trunk_granted(self, record.granted, _REFUSALS.get(record.reason))
        self._observe(self._observed[0], record.free)

    def _observe(self, seats: int, free: int) -> None:
        if (seats, free) != self._observed:
            self._observed = (seats, free)
            self._owner.trunk_observed(self, seats, free)

    def _lose(self, problem: str, *, come_back: bool) -> None:
        if not self.lost:
            self.lost = True
            self._owner.trunk_lost(self, problem, come_back=come_back)


def _label(reason: int) -> str:
    try:
        return LiveReason(reason).label
    except ValueError:  # of a newer lobby
        return "other"
