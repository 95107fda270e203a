"""The greeter's end of one trunk: the seats it claims and holds, and its place in the stream.

The owner sends what `data_to_send` returns, passes every record it gets to `receive`, and acts on what that returns. A lobby
that skips or repeats messages, or grants what was not claimed, is broken, and its trunk is closed (docs/trunk.md).
"""

from __future__ import annotations

from collections import deque

from lobby_gateway.settings import TrunkConsumerSettings
from lobby_gateway.trunk.identity import Identity, digest
from lobby_gateway.trunk.position import DIGESTS_KEPT, NO_EPOCH, Position, digests_of
from lobby_gateway.trunk.records import (
    STREAM,
    Blamed,
    Claim,
    Forward,
    FromServer,
    Granted,
    Heartbeat,
    Hello,
    Kept,
    Messages,
    Missed,
    Move,
    Origin,
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

_MAX_ID = 0xFFFFFFFF
TRUNK_CONSUMER_SETTINGS = TrunkConsumerSettings()


class SeatLedger:
    """The seats of one consumer in one lobby: the one record of them, written by the trunk.

    Attributes:
        held: seats that were granted and not released.
        claims: seats claimed, by id of each CLAIM that has no answer yet.
    """

    __slots__ = ("_next_id", "claims", "held")

    def __init__(self) -> None:
        self.held = 0
        self.claims: dict[int, int] = {}
        self._next_id = 1

    def __repr__(self) -> str:
        return f"<SeatLedger: {self.held} held, {sum(self.claims.values())} claimed>"

    def claim(self, count: int) -> int:
        """Records a claim; returns its id."""
        if count < 1:
            raise ValueError(f"count: {count} is too small; accepted: at least 1")
        claim = self._next_id
        self._next_id = claim % _MAX_ID + 1
        self.claims[claim] = count
        return claim

    def grant(self, claim: int, count: int) -> None:
        """Records the answer to a claim.

        Raises:
            TrunkError: there is no such claim, or it was for fewer seats.
        """
        claimed = self.claims.pop(claim, None)
        if claimed is None or count > claimed:
            raise TrunkError(f"GRANTED: granted {count} for claim {claim}, claimed {claimed or 0}")
        self.held += count

    def release(self, count: int) -> None:
        """Records that seats are returned.

        Raises:
            ValueError: fewer are held.
        """
        if not 0 <= count <= self.held:
            raise ValueError(f"count: {count} is out of range; accepted: 0 to {self.held}")
        self.held -= count


class _Anywhere(StreamOffset):
    """A place that the lobby may find by its digests in any other epoch."""

    __slots__ = ()

    def followed_by(self, epoch: int, offset: int) -> bool:
        """Whether nothing lies between the two places, as far as can be known."""
        return epoch != self.epoch or offset == self.offset


def _asked(position: Position) -> StreamOffset:
    """The place at which a lobby was asked to continue."""
    return (_Anywhere if position.digests else StreamOffset)(position.epoch, position.offset)


class TrunkConsumer:
    """One trunk, seen from the greeter.

    Attributes:
        ledger: the seats claimed and held.
        lobby: the lobby's name, from WELCOME; empty before it.
        welcomed: WELCOME has arrived.
        seats: number of seats of the lobby, as last reported.
        free: seats that it would have granted then.
        origin_connected: whether its origin was connected then.
        subprotocol: that its origin chose; empty if it chose none; None if it was not connected yet.
        moving: the lobby asked for its seats back (MOVE).
        missed: messages of the stream that were evicted before they could be sent.
        identity: gives the identity of a message's payload, for positions.
        settings: see `TrunkConsumerSettings`.
    """

    __slots__ = (
        "_digests",
        "_epoch",
        "_groups",
        "_heartbeat_at",
        "_last_received",
        "_latest",
        "_latest_count",
        "_next_id",
        "_offset",
        "_out",
        "_released",
        "_resuming",
        "free",
        "identity",
        "ledger",
        "lobby",
        "missed",
        "moving",
        "origin_connected",
        "seats",
        "settings",
        "subprotocol",
        "welcomed",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        now: float,
        replay: int = 0,
        position: Position | None = None,
        ledger: SeatLedger | None = None,
        identity: Identity = digest,
        relays: bool = False,
        settings: TrunkConsumerSettings = TRUNK_CONSUMER_SETTINGS,
    ) -> None:
        """Starts with HELLO, and a CLAIM for each claim that is in the ledger already.

        Args:
            name: of this end, for the lobby's logs.
            now: seconds.
            replay: how many messages before the newest one the stream starts, unless it continues at the position.
            position: where the stream continues, if the lobby finds it.
            ledger: records the seats; by default a new one.
            identity: gives the identity of a message's payload.
            relays: this end is a lobby that serves the stream to others; `name` is its name.
            settings: see `TrunkConsumerSettings`.
        """
        self.settings = settings
        self.identity = identity
        self.ledger = ledger or SeatLedger()
        self.lobby = ""
        self.welcomed = False
        self.seats = self.free = self.missed = 0
        self.origin_connected = self.moving = False
        self._epoch, self._offset = NO_EPOCH, 0  # the place in the stream
        self.subprotocol: str | None = None
        self._resuming = position
        self._digests: tuple[int, ...] = ()  # of messages before those in `_latest`
        self._latest: deque[Batch] = deque()  # as many as a position needs
        self._latest_count = 0
        self._groups: dict[int, StreamOffset] = {}  # the place of each group without an answer
        self._released = 0  # seats for which RELEASE has not been sent
        self._next_id = 1
        self._last_received = now
        self._heartbeat_at = now + settings.heartbeat_seconds
        claims = (Claim(claim, count).encode() for claim, count in self.ledger.claims.items())
        self._out = [Hello(name, replay, position, relays).encode(), *claims]

    @property
    def held(self) -> int:
        """Seats that were granted and not released."""
        return self.ledger.held

    @property
    def epoch(self) -> int:
        """Epoch of the place in the stream: that of the next message."""
        return self._epoch

    @property
    def offset(self) -> int:
        """Offset of the place in the stream."""
        return self._offset

    @property
    def _place(self) -> StreamOffset:
        return StreamOffset(self._epoch, self._offset)

    def position(self) -> Position:
        """The position after all messages so far; the digests are computed now."""
        digests = digests_of(newest_first(reversed(self._latest)), self.identity)
        return Position(*self._place, (self._digests + digests)[-DIGESTS_KEPT:])

    # What goes out

    def data_to_send(self) -> list[bytes]:
        """Returns the records to send, in order, once."""
        out, self._out = self._out, []
        if self._released:
            out.append(Release(self._released).encode())
            self._released = 0
        return out

    def claim(self, count: int) -> int:
        """Claims seats; returns the id that `Granted` will have."""
        claim = self.ledger.claim(count)
        self._out.append(Claim(claim, count).encode())
        return claim

    def release(self, count: int) -> None:
        """Returns seats; seats returned before the next `data_to_send` share one RELEASE.

        Raises:
            ValueError: fewer are held.
        """
        self.ledger.release(count)
        self._released += count

    def forward(self, client: int, opcode: int, payload: bytes) -> None:
        """Sends a client's message to the origin; `client` is a number of the owner's choice."""
        self._out.append(Forward(client, opcode, payload).encode())

    def resume(self, position: Position) -> int:
        """Has a group of clients join at a position; returns the id of its `Replay`, `Missed` and `Resumed`."""
        group = self._next_id
        self._next_id = group % _MAX_ID + 1
        self._groups[group] = _asked(position)
        self._out.append(Resume(group, position).encode())
        return group

    # What comes in

    def receive(self, data: bytes | memoryview, now: float) -> FromServer | None:
        """Takes one record of the lobby; returns it for the owner to act on, or None if its type is unknown.

        Raises:
            TrunkError: the lobby violated the protocol. The owner closes the trunk with 1002.
        """
        self._last_received = now
        record = decode(data)
        if isinstance(record, Messages):  # first, since nearly all are
            self._messages(record)
        elif isinstance(record, Welcome):
            self._welcome(record)
        elif record is None:
            return None
        elif not self.welcomed and not isinstance(record, Kept):
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
        elif isinstance(record, Origin):
            self.subprotocol = record.subprotocol
        elif not isinstance(record, Blamed | Kept):
            raise TrunkError(f"{record.TYPE.name} is not a server record")
        return record

    def bytes_received(self, now: float) -> None:
        """Bytes arrived, even if they are not a whole record yet; or the lobby took bytes while others waited for it."""
        self._last_received = max(self._last_received, now)

    # Time

    @property
    def wake_at(self) -> float:
        """When to call `wake`."""
        return min(self._heartbeat_at, self._last_received + self.settings.lobby_timeout_seconds)

    def wake(self, now: float) -> bool:
        """Time has passed; returns whether the lobby is still alive. Send `data_to_send` afterwards, or close the trunk."""
        settings = self.settings
        if now - self.wake_at > settings.heartbeat_seconds:  # we were suspended, so the lobby's silence means nothing
            self._last_received = now
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + settings.heartbeat_seconds
            self._out.append(Heartbeat().encode())
        return now - self._last_received < settings.lobby_timeout_seconds

    # Records

    def _welcome(self, welcome: Welcome) -> None:
        if self.welcomed:
            raise TrunkError("WELCOME came twice")
        position = self._resuming
        place = StreamOffset(welcome.epoch, welcome.offset)
        self._digests = welcome.digests
        if welcome.exact:
            if position is None or not _asked(position).followed_by(*place):
                raise TrunkError("WELCOME: the stream does not continue at the requested position")
            self._digests = position.digests  # a consumer may know more of them than the lobby still has
        self._resuming = None
        self._epoch, self._offset = place
        self.welcomed = True
        self.lobby = welcome.lobby
        self._update(welcome)

    def _update(self, record: Welcome | Status) -> None:
        self.seats = record.seats
        self.free = record.free
        self.origin_connected = record.origin_connected

    def _messages(self, record: Messages) -> None:
        if not self.welcomed:
            raise TrunkError("MESSAGES came before WELCOME")
        batch, epoch, offset = record.batch, record.epoch, record.offset
        if offset != self._offset or epoch != self._epoch:
            self._check(self._place, record)
        count = len(batch.ends)
        self._epoch, self._offset = epoch, offset + count
        latest = self._latest
        latest.append(batch)
        self._latest_count += count
        while self._latest_count - len(latest[0].ends) >= DIGESTS_KEPT:
            self._latest_count -= len(latest.popleft().ends)

    def _status(self, record: Status) -> None:
        self._check(self._place, record)
        self._epoch, self._offset = record.epoch, record.offset
        self._update(record)

    def _granted(self, record: Granted) -> None:
        self.ledger.grant(record.id, record.granted)
        self.free = record.free

    def _missed(self, record: Missed) -> None:
        place = self._place if record.id == STREAM else self._group(record)
        start = StreamOffset(record.from_epoch, record.from_offset)
        found = isinstance(place, _Anywhere) and place.followed_by(*start)
        if not (place == start or found) or not record.count:
            raise TrunkError(f"MISSED: count {record.count}, not from the current place")
        place = StreamOffset(record.to_epoch, record.to_offset)
        if record.id == STREAM:
            self._epoch, self._offset = place
            self.missed += record.count
            self._latest.clear()  # digests do not reach back across missed messages
            self._latest_count = 0
            self._digests = ()
        else:
            self._groups[record.id] = place

    def _resumed(self, record: Resumed) -> None:
        place = self._group(record)
        del self._groups[record.id]
        self._check(self._place, record)
        self._epoch, self._offset = record.epoch, record.offset
        if record.exact and not place.followed_by(record.epoch, record.offset):
            raise TrunkError("RESUMED: messages are missing before the place where the group joins")

    def _group(self, record: Replay | Missed | Resumed) -> StreamOffset:
        place = self._groups.get(record.id)
        if place is None:
            raise TrunkError(f"{record.TYPE.name}: no group {record.id} is waiting")
        return place

    @staticmethod
    def _check(place: StreamOffset, record: Messages | Replay | Resumed | Status) -> None:
        if not place.followed_by(record.epoch, record.offset):
            raise TrunkError(f"{record.TYPE.name}: messages before its place are missing or repeated")
