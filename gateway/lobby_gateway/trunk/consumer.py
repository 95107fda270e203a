"""The greeter's end of one trunk: seats asked for and held, and the place in the stream, which nothing may be missing from.

The owner sends what `data_to_send` returns, gives every record that comes to `receive`, and acts on what that returns. A lobby
that skips, repeats or grants what was not asked for is broken, and its trunk is closed: docs/trunk.md has the rules.
"""

from __future__ import annotations

from collections import deque

from lobby_gateway.trunk.position import DIGESTS_KEPT, NO_EPOCH, Position, digests_of
from lobby_gateway.trunk.records import (
    STREAM,
    Claim,
    Forward,
    FromServer,
    Granted,
    Heartbeat,
    Hello,
    Messages,
    Missed,
    Move,
    Release,
    Replay,
    Resume,
    Resumed,
    Status,
    StreamOffset,
    TrunkError,
    Welcome,
    decode,
)
from lobby_gateway.trunk.ring import newest_first
from lobby_gateway.websocket.frames import Batch

HEARTBEAT_SECONDS = 0.5
"""A HEARTBEAT so often."""
SILENT_SECONDS = 2.0
"""A lobby from which nothing came for so long is given up: it sends something every half second."""


class TrunkConsumer:
    """One trunk, seen from the greeter.

    Attributes:
        lobby: the lobby's name, from WELCOME; empty before it.
        welcomed: WELCOME came.
        seats: seats of the lobby, as it said last.
        free: seats that it would have granted then.
        origin_connected: its origin was connected then.
        held: seats that were granted to this end and not given back.
        moving: the lobby asked for its seats back (MOVE).
        epoch: epoch of the place in the stream: that of the next message.
        offset: offset of that place.
        missed: messages of the stream that were evicted before they could be sent.
        silent_seconds: a lobby that is silent for so long is given up.
    """

    __slots__ = (
        "_claims", "_digests", "_groups", "_heard", "_heartbeat", "_heartbeat_at", "_latest", "_latest_count", "_next_id",
        "_out", "_place", "_resuming", "free", "held", "lobby", "missed", "moving", "origin_connected", "seats",
        "silent_seconds", "welcomed",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        now: float,
        replay: int = 0,
        position: Position | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._heartbeat = heartbeat_seconds
        self.silent_seconds = silent_seconds
        self.lobby = ""
        self.welcomed = False
        self.seats = self.free = self.held = self.missed = 0
        self.origin_connected = self.moving = False
        self._place = StreamOffset(NO_EPOCH, 0)
        self._resuming = position
        self._digests: tuple[int, ...] = ()  # of messages before those in `_latest`
        self._latest: deque[Batch] = deque()  # the fewest batches that hold the messages a position needs
        self._latest_count = 0
        self._claims: dict[int, int] = {}  # seats asked for, by id of the claim
        self._groups: dict[int, StreamOffset] = {}  # how far each group is that was not answered yet
        self._next_id = 1
        self._heard = now
        self._heartbeat_at = now + heartbeat_seconds
        self._out = [Hello(name, replay, position).encode()]

    @property
    def epoch(self) -> int:
        """Epoch of the place in the stream."""
        return self._place.epoch

    @property
    def offset(self) -> int:
        """Offset of the place in the stream."""
        return self._place.offset

    def position(self) -> Position:
        """Where a consumer is that has seen all messages so far; the digests are computed now."""
        digests = digests_of(newest_first(reversed(self._latest)))
        return Position(*self._place, (self._digests + digests)[-DIGESTS_KEPT:])

    # What goes out

    def data_to_send(self) -> list[bytes]:
        """Records to send, in order; they are handed out once."""
        out, self._out = self._out, []
        return out

    def claim(self, count: int) -> int:
        """Asks for seats; returns the id that `Granted` will have."""
        if count < 1:
            raise ValueError(f"count: {count} is too small; accepted: at least 1")
        claim = self._new_id()
        self._claims[claim] = count
        self._out.append(Claim(claim, count).encode())
        return claim

    def release(self, count: int) -> None:
        """Gives seats back.

        Raises:
            ValueError: more than are held.
        """
        if not 0 <= count <= self.held:
            raise ValueError(f"count: {count} seats can't be given back, {self.held} are held")
        if count:
            self.held -= count
            self._out.append(Release(count).encode())

    def forward(self, opcode: int, payload: bytes) -> None:
        """Sends a client's message to the origin."""
        self._out.append(Forward(opcode, payload).encode())

    def resume(self, position: Position) -> int:
        """A group of clients that is at a position wants to join; returns the id of its `Replay`, `Missed` and `Resumed`."""
        group = self._new_id()
        self._groups[group] = StreamOffset(position.epoch, position.offset)
        self._out.append(Resume(group, position).encode())
        return group

    # What comes in

    def receive(self, data: bytes | memoryview, now: float) -> FromServer | None:
        """Takes one record of the lobby; returns it for the owner to act on, None for one of a newer version.

        Raises:
            TrunkError: the lobby broke the protocol. The owner closes the trunk with 1002.
        """
        self._heard = now
        record = decode(data)
        if isinstance(record, Messages):  # first, since nearly all are
            self._messages(record)
        elif isinstance(record, Welcome):
            self._welcome(record)
        elif record is None:
            return None
        elif not self.welcomed:
            raise TrunkError(f"{record.TYPE.name} came before WELCOME")
        elif isinstance(record, Status):
            self._status(record)
        elif isinstance(record, Granted):
            self._granted(record)
        elif isinstance(record, Missed):
            self._missed(record)
        elif isinstance(record, Replay):
            place = self._group(record)
            self._check(place, record)
            self._groups[record.id] = StreamOffset(record.epoch, record.offset + len(record.batch))
        elif isinstance(record, Resumed):
            self._resumed(record)
        elif isinstance(record, Move):
            self.moving = True
        else:
            raise TrunkError(f"{record.TYPE.name} is not a server record")
        return record

    def heard(self, now: float) -> None:
        """Bytes came, even if they are no whole record yet."""
        self._heard = max(self._heard, now)

    # Time

    @property
    def wake_at(self) -> float:
        """When `wake` wants to be called."""
        return min(self._heartbeat_at, self._heard + self.silent_seconds)

    def wake(self, now: float) -> bool:
        """Time has passed; returns whether the lobby still lives. Send `data_to_send` afterwards, or close the trunk."""
        if now - self.wake_at > self._heartbeat:  # we were stopped ourselves: its silence says nothing
            self._heard = now
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + self._heartbeat
            self._out.append(Heartbeat().encode())
        return now - self._heard < self.silent_seconds

    # How

    def _new_id(self) -> int:
        given = self._next_id
        self._next_id = given % 0xFFFFFFFF + 1
        return given

    def _welcome(self, welcome: Welcome) -> None:
        if self.welcomed:
            raise TrunkError("WELCOME came twice")
        position = self._resuming
        place = StreamOffset(welcome.epoch, welcome.offset)
        if welcome.exact:
            if position is None or place != (position.epoch, position.offset):
                raise TrunkError("WELCOME: the stream does not go on at the position that was asked for")
            self._digests = position.digests
        self._resuming = None
        self._place = place
        self.welcomed = True
        self.lobby = welcome.lobby
        self._lobby_is(welcome)

    def _lobby_is(self, record: Welcome | Status) -> None:
        self.seats = record.seats
        self.free = record.free
        self.origin_connected = record.origin_connected

    def _messages(self, record: Messages) -> None:
        if not self.welcomed:
            raise TrunkError("MESSAGES came before WELCOME")
        self._check(self._place, record)
        batch = record.batch
        count = len(batch)
        self._place = StreamOffset(record.epoch, record.offset + count)
        latest = self._latest
        latest.append(batch)
        self._latest_count += count
        while self._latest_count - len(latest[0]) >= DIGESTS_KEPT:
            self._latest_count -= len(latest.popleft())

    def _status(self, record: Status) -> None:
        self._check(self._place, record)
        self._place = StreamOffset(record.epoch, record.offset)
        self._lobby_is(record)

    def _granted(self, record: Granted) -> None:
        asked = self._claims.pop(record.id, None)
        if asked is None or record.granted > asked:
            raise TrunkError(f"GRANTED: {record.granted} seats for claim {record.id} of {asked}")
        self.held += record.granted
        self.free = record.free

    def _missed(self, record: Missed) -> None:
        place = self._place if record.id == STREAM else self._group(record)
        if place != (record.from_epoch, record.from_offset) or not record.count:
            raise TrunkError(f"MISSED: {record.count} messages from a place that is not the current one")
        place = StreamOffset(record.to_epoch, record.to_offset)
        if record.id == STREAM:
            self._place = place
            self.missed += record.count
            self._latest.clear()  # the digests of a position are of messages without a gap
            self._latest_count = 0
            self._digests = ()
        else:
            self._groups[record.id] = place

    def _resumed(self, record: Resumed) -> None:
        place = self._group(record)
        del self._groups[record.id]
        self._check(self._place, record)
        self._place = StreamOffset(record.epoch, record.offset)
        if record.exact and not place.followed_by(record.epoch, record.offset):
            raise TrunkError("RESUMED: something is missing before the place where the group joins")

    def _group(self, record: Replay | Missed | Resumed) -> StreamOffset:
        place = self._groups.get(record.id)
        if place is None:
            raise TrunkError(f"{record.TYPE.name}: no group {record.id} waits")
        return place

    @staticmethod
    def _check(place: StreamOffset, record: Messages | Replay | Resumed | Status) -> None:
        if not place.followed_by(record.epoch, record.offset):
            raise TrunkError(f"{record.TYPE.name}: something is missing, or repeated, before its place")
