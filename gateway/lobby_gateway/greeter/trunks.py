"""A greeter's trunk to one lobby: the seats that it holds there, and the message bus of the clients that sit on them.

However many clients there are, each message comes once. The trunk is opened by its first claim; what is claimed before it is
open waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.message_bus import BusStats, MessageBus
from lobby_gateway.clients.tokens import Purpose, TokenKeys, sign
from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.greeter.lobby_view import ClaimRefusal, LobbyId
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.trunk.consumer import TrunkConsumer
from lobby_gateway.trunk.consumer_connection import TrunkConsumerConnection, connect_trunk
from lobby_gateway.trunk.position import NO_EPOCH, LiveReason, Position
from lobby_gateway.trunk.records import (
    PATH,
    STREAM,
    FromServer,
    Granted,
    GrantReason,
    Missed,
    Move,
    Replay,
    Resumed,
    Status,
    Welcome,
)
from lobby_gateway.websocket.client_handshake import HandshakeRefusedError
from lobby_gateway.websocket.frames import Batch

TOKEN_SECONDS = 30

_REPLAY_BYTES = 8 << 20
"""Most bytes kept for clients that join; the newest message is always kept."""

_ANSWERED_SECONDS = 1.0
"""A lobby says something every half second; one that did so lately was no silent one."""

_REFUSALS: dict[int, ClaimRefusal] = {GrantReason.FULL: ClaimRefusal.FULL, GrantReason.DRAINING: ClaimRefusal.DRAINING}


class Group:
    """Clients that are at the same place of a stream and join a trunk together.

    Attributes:
        clients: they; whoever leaves meanwhile is taken out.
        position: what they have seen.
        old_seats: seats in lobbies that they move away from, which are kept until they have joined.
        replay: what they missed, so far.
        exact: nothing was missed, nothing comes twice.
        reason: why not.
    """

    __slots__ = ("clients", "exact", "old_seats", "position", "reason", "replay")

    def __init__(self, position: Position) -> None:
        self.clients: dict[ClientConnection, None] = {}
        self.position = position
        self.old_seats: Counter[Trunk] = Counter()
        self.replay: list[Batch] = []
        self.exact = True
        self.reason = ""


class Recent:
    """The latest messages of a stream, for clients that join.

    Attributes:
        messages: how many are kept (see `keep`).
    """

    __slots__ = ("_batches", "_bytes", "_count", "messages")

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self._batches: deque[Batch] = deque()
        self._count = 0
        self._bytes = 0

    def append(self, batch: Batch) -> None:
        """Adds the newest messages."""
        if not self.messages:
            return
        self._batches.append(batch)
        self._count += len(batch)
        self._bytes += len(batch.data)
        self._trim()

    def keep(self, messages: int) -> None:
        """From now on so many are kept; what is too much goes now."""
        self.messages = messages
        if messages:
            self._trim()
        else:
            self._batches.clear()
            self._count = self._bytes = 0

    def _trim(self) -> None:
        batches = self._batches
        while len(batches) > 1 and (self._count - len(batches[0]) >= self.messages or self._bytes > _REPLAY_BYTES):
            oldest = batches.popleft()
            self._count -= len(oldest)
            self._bytes -= len(oldest.data)

    def latest(self) -> Sequence[Batch]:
        """They, oldest first."""
        surplus = max(0, self._count - self.messages)
        batches = list(self._batches)
        if surplus:
            batches[0] = batches[0].after(surplus)
        return batches


class TrunkOwner(Protocol):
    """Whoever serves the clients of the Lobby."""

    def trunk_granted(self, trunk: Trunk, number: int, seats: int, refusal: ClaimRefusal | None) -> None:
        """The lobby answered a claim."""

    def trunk_observed(self, trunk: Trunk, seats: int, free: int) -> None:
        """The lobby told how many seats it has."""

    def trunk_moving(self, trunk: Trunk, within_seconds: float) -> None:
        """The lobby asks for its seats back; when it asks again, the earliest end counts."""

    def trunk_joined(self, trunk: Trunk, group: Group) -> None:
        """A group is at the place where it joins the stream."""

    def trunk_missed(self, count: int) -> None:
        """This greeter was too slow for so many messages."""

    def trunk_lost(self, trunk: Trunk, problem: str, *, come_back: bool) -> None:
        """It ended without `close`; `come_back`: the lobby answered until a moment ago."""


class Trunk:
    """One trunk, from its first claim on, while it is opened, open, and over.

    Attributes:
        id: the lobby.
        bus: hands its messages to the clients that sit there.
        seats: held there.
        lost: it is over, and the seats with it.
        messages: that came over it.
        idle_since: since when nobody sits there and nothing is claimed; for the owner.
    """

    def __init__(
        self,
        lobby: LobbyId,
        owner: TrunkOwner,
        *,
        greeter: str,
        token_keys: TokenKeys,
        replay: int,
        stats: BusStats,
        namespace: str = "",
    ) -> None:
        self.id = lobby
        self.bus = MessageBus(stats)
        self.seats = 0
        self.lost = False
        self.messages = 0
        self.idle_since: float | None = None
        self._owner = owner
        self._greeter = greeter
        self._recent = Recent(replay)
        self._loop = asyncio.get_running_loop()
        self._connection: TrunkConsumerConnection | None = None
        self._early_claims: list[tuple[int, int]] = []  # number and seats of those made before it was open
        self._claims: dict[int, int] = {}  # our number by the connection's
        self._groups: dict[int, Group] = {}
        self._to_release = 0
        self._observed = (0, 0)
        self._heard_at = 0.0
        self._opening = self._loop.create_task(
            self._open(token_keys, lobby_key(namespace, lobby.name)), name=f"trunk to {lobby.name}"
        )

    def __repr__(self) -> str:
        return f"<Trunk to {self.id.name} at {self.id.address}: {self.seats} seats>"

    @property
    def moving(self) -> bool:
        """The lobby asked for its seats back."""
        return self._connection is not None and self._connection.core.moving

    @property
    def claims(self) -> int:
        """Claims without an answer."""
        return len(self._claims) + len(self._early_claims)

    @property
    def lobby(self) -> TrunkConsumer | None:
        """What is known of the lobby; None before it has said anything."""
        core = self._connection.core if self._connection is not None else None
        return core if core is not None and core.welcomed else None

    @property
    def offset(self) -> int:
        """Offset of its place in the stream."""
        return self._connection.core.offset if self._connection is not None else 0

    @property
    def groups(self) -> Iterable[Group]:
        """Groups that wait to join."""
        return tuple(self._groups.values())

    def claim(self, number: int, seats: int) -> None:
        """Asks for seats; the owner is told with the same number."""
        if self._connection is None:
            self._early_claims.append((number, seats))
        else:
            self._claims[self._connection.claim(seats)] = number

    def release(self, seats: int) -> None:
        """Gives seats back; those of one turn of the event loop go together."""
        if seats:
            self.seats -= seats
            if not self._to_release:
                self._loop.call_soon(self._release)
            self._to_release += seats

    def forward(self, opcode: int, payload: bytes) -> bool:
        """Sends a client's message to the origin; False if that can't be done."""
        return self._connection is not None and self._connection.forward(opcode, payload)

    def resume(self, group: Group) -> None:
        """Has a group join behind its position; seats were granted for it before."""
        if self._connection is None:
            raise ValueError("nobody has a seat here before the trunk is open")
        self._groups[self._connection.resume(group.position)] = group

    def position(self) -> Position:
        """The place behind the newest message that the clients of its bus were given."""
        return Position(NO_EPOCH, 0) if self._connection is None else self._connection.position()

    def latest(self) -> Sequence[Batch]:
        """The messages that a client which joins is given first."""
        return self._recent.latest()

    def keep(self, messages: int) -> None:
        """From now on so many messages are kept for clients that join."""
        self._recent.keep(messages)

    def close(self) -> None:
        """Ends it; the owner is told nothing any more."""
        self.lost = True
        self._opening.cancel()
        if self._connection is not None:
            self._connection.close()

    async def wait_closed(self) -> None:
        """Waits until nothing is left of it, after `close`."""
        await asyncio.wait([self._opening])
        if self._connection is not None:
            await self._connection.wait_closed()

    # From the connection (TrunkListener)

    def trunk_messages(self, batch: Batch) -> None:
        """The next messages of the stream."""
        self._heard_at = self._loop.time()
        self.messages += len(batch)
        self.bus.publish(batch)
        self._recent.append(batch)

    def trunk_record(self, record: FromServer) -> None:
        """Anything else."""
        self._heard_at = self._loop.time()
        match record:
            case Status() | Welcome():
                self._tell_seats(record.seats, record.free)
            case Granted():
                self._granted(record)
            case Replay():
                self._groups[record.id].replay.append(record.batch)
            case Missed() if record.id == STREAM:
                self._owner.trunk_missed(record.count)
            case Missed():
                self._groups[record.id].exact = False
                self._groups[record.id].reason = "missed"
            case Resumed():
                group = self._groups.pop(record.id)
                if not record.exact:
                    group.exact = False
                    group.reason = _label(record.reason)
                self._owner.trunk_joined(self, group)
            case Move():
                self._owner.trunk_moving(self, record.within_seconds)

    def trunk_lost(self, problem: str) -> None:
        """It ended, broke, or fell silent."""
        # Where it ended although the lobby was there a moment ago, it may be there still, and has what was missed.
        answering = self._loop.time() - self._heard_at < _ANSWERED_SECONDS
        self._lose(problem, come_back=answering and not self.moving)

    # How

    async def _open(self, token_keys: TokenKeys, lobby: str) -> None:
        try:
            connection = await self._connect(token_keys.signing_keys_to_try(time.monotonic()), lobby)
        except LobbyGatewayError as error:
            self._lose(str(error), come_back=False)
            return
        if self.lost:
            connection.close()
            return
        self._connection = connection
        self._heard_at = self._loop.time()
        claims, self._early_claims = self._early_claims, []
        for number, seats in claims:
            self.claim(number, seats)

    async def _connect(self, keys: Sequence[bytes], lobby: str) -> TrunkConsumerConnection:
        for number, key in enumerate(keys, 1):
            expires = time.time() + TOKEN_SECONDS
            token = sign(key, purpose=Purpose.TRUNK, lobby=lobby, path=PATH, expires=expires)
            try:
                return await connect_trunk(
                    self.id.address, token=token, name=self._greeter, listener=self, replay=self._recent.messages
                )
            except HandshakeRefusedError as error:
                if error.status != close_codes.BAD_TOKEN.status or number == len(keys):
                    raise
        raise ValueError("no key")

    def _granted(self, record: Granted) -> None:
        number = self._claims.pop(record.id)
        self.seats += record.granted
        self._owner.trunk_granted(self, number, record.granted, _REFUSALS.get(record.reason))
        self._tell_seats(self._observed[0], record.free)

    def _tell_seats(self, seats: int, free: int) -> None:
        if (seats, free) != self._observed:
            self._observed = (seats, free)
            self._owner.trunk_observed(self, seats, free)

    def _release(self) -> None:
        seats, self._to_release = self._to_release, 0
        if self._connection is not None and self._connection.open:
            self._connection.release(seats)

    def _lose(self, problem: str, *, come_back: bool) -> None:
        if not self.lost:
            self.lost = True
            self._owner.trunk_lost(self, problem, come_back=come_back)


def _label(reason: int) -> str:
    try:
        return LiveReason(reason).label
    except ValueError:  # of a newer lobby
        return "other"
