"""The lobby's end of one trunk: grants seats, and sends the stream from the ring at the pace of its consumer.

There is no queue of messages: the server keeps a cursor into the lobby's ring, so a slow consumer costs no memory; it is
informed of what it missed once the ring has evicted it. The owner asks for records (`take`) as long as the socket has room.
docs/trunk.md describes the records and their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from lobby_gateway.settings import TrunkServerSettings
from lobby_gateway.trunk.position import NO_EPOCH, LiveReason, Position
from lobby_gateway.trunk.records import (
    STREAM,
    Blamed,
    Claim,
    Forward,
    Granted,
    GrantReason,
    Heartbeat,
    Hello,
    Kept,
    Messages,
    Missed,
    Move,
    MoveReason,
    Origin,
    RelayRefusedError,
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
from lobby_gateway.trunk.ring import Breaks, Chunk, Exact, Live, MessageRing, Wait

TRUNK_SERVER_SETTINGS = TrunkServerSettings()


class TrunkLobby(Protocol):
    """What a trunk needs from its lobby."""

    @property
    def name(self) -> str:
        """The lobby's name."""

    @property
    def seats(self) -> int:
        """Number of its seats."""

    @property
    def free(self) -> int:
        """Seats that would be granted now."""

    @property
    def draining(self) -> bool:
        """Whether seats are refused because the lobby drains."""

    @property
    def origin_connected(self) -> bool:
        """Whether the origin is connected."""

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose; empty if it chose none; None if it was not connected yet."""

    @property
    def via(self) -> tuple[str, ...] | None:
        """The lobbies that its stream comes over, the nearest first; empty: its own session; None: it has no stream."""

    def relay_refusal(self, consumer: str) -> str:
        """Why it can't serve its stream to the lobby of this name now; empty if it can."""

    def claim(self, count: int) -> int:
        """Takes up to `count` seats; returns how many were granted."""

    def release(self, count: int) -> None:
        """Returns seats."""


class TrunkServerState(Enum):
    """The states of a server, in order; it never goes back."""

    AWAITING_HELLO = auto()
    """Only HELLO may arrive; nothing is sent."""
    AWAITING_PLACE = auto()
    """HELLO has arrived. WELCOME follows when the start of the stream is known: at once, unless the position is ahead."""
    STREAMING = auto()
    """WELCOME was sent."""
    CLOSED = auto()
    """The seats have been returned."""


_STATUS, _KEPT = 1, 2
"""What is due, as bits."""

_STREAMING = TrunkServerState.STREAMING  # an attribute of an enumeration costs more than the rest of `take`


@dataclass(slots=True)
class _Pending:
    """A RESUME without an answer."""

    id: int
    position: Position
    deadline: float
    looked_until: float = 0.0  # when the looks so far no longer count against `looks_per_second`


Parts = tuple[bytes, bytes]
"""A record as its head and the frames that follow it, so that frames need not be copied."""


class _Reader:
    """A place in the ring that advances record by record: the stream's, or that of a group that catches up with it."""

    __slots__ = ("cursor", "epoch", "group", "missed", "offset")

    def __init__(self, group: int, cursor: int, place: StreamOffset) -> None:
        self.group = group
        self.cursor = cursor
        self.epoch, self.offset = place  # of the cursor, as the consumer knows it
        self.missed = 0

    @property
    def place(self) -> StreamOffset:
        """The place of the cursor, as the consumer knows it."""
        return StreamOffset(self.epoch, self.offset)

    def take_newest(self, ring: MessageRing) -> Parts | None:
        """The same as `take` for a stream that lacks only the newest batch, without its steps; None if it does not."""
        epoch, offset = ring.newest_epoch, ring.newest_offset
        if self.cursor != ring.newest_start or self.offset != offset or self.epoch != epoch:
            return None
        batch = ring.newest
        count = len(batch.ends)
        self.cursor = ring.cursor
        self.offset = offset + count
        return Messages.head(epoch, offset, count), batch.data

    def take(self, ring: MessageRing, max_bytes: int, until: int | None = None) -> Parts | None:
        """The next record: messages before `until`, or MISSED if messages before them are gone."""
        if self.cursor < ring.oldest:
            return self.skip(ring.oldest - self.cursor, StreamOffset(*ring.locate(ring.oldest)))
        chunks = ring.since(self.cursor, max_bytes, until)
        if not chunks:
            return None
        epoch, offset, batch, cursor = chunks[0]
        if not self.place.followed_by(epoch, offset):
            return self.skip(0, StreamOffset(epoch, offset))
        data, count = batch.data, len(batch.ends)
        if len(chunks) > 1:
            data, count, cursor = _merge(chunks)
        self.cursor = cursor
        self.epoch, self.offset = epoch, offset + count
        if self.group == STREAM:
            return Messages.head(epoch, offset, count), data
        return Replay.head(self.group, epoch, offset, count), data

    def arrive(self, ring: MessageRing) -> Parts | None:
        """Advances to the place of the next message, perhaps in a new epoch; returns MISSED if messages before it are gone."""
        place = StreamOffset(*ring.locate(self.cursor))
        if not self.place.followed_by(*place):
            return self.skip(0, place)
        self.epoch, self.offset = place
        return None

    def skip(self, evicted: int, to: StreamOffset) -> Parts:
        """Skips messages that are not kept: `evicted` ones, or more that the ring never had."""
        at = self.place
        count = max(evicted, to.offset - at.offset) if to.epoch == at.epoch else evicted or to.offset
        self.cursor += evicted
        self.epoch, self.offset = to
        self.missed += count
        return Missed(self.group, count, *at, *to).encode(), b""


def _merge(chunks: list[Chunk]) -> tuple[bytes, int, int]:
    """Frames, count and end of the chunks that follow the first one without a gap in its epoch."""
    epoch, offset, _, cursor = chunks[0]
    frames: list[bytes] = []
    count = 0
    for chunk in chunks:
        if (chunk.epoch, chunk.first_offset) != (epoch, offset + count):
            break
        frames.append(chunk.batch.data)
        count += len(chunk.batch)
        cursor = chunk.cursor_after
    return b"".join(frames), count, cursor


class TrunkServer:
    """One trunk, seen from the lobby.

    Attributes:
        state: see `TrunkServerState`.
        consumer: the consumer's name, from HELLO.
        held: seats that the consumer holds.
        relays: the consumer is a lobby that serves the stream to others.
        told_depth: the fewest lobbies that the stream was ever said to come over; 255 before WELCOME.
    """

    __slots__ = (
        "_answers",
        "_broken",
        "_due",
        "_hello",
        "_kept",
        "_last_received",
        "_lobby",
        "_missed_by_groups",
        "_record_bytes",
        "_replay",
        "_replay_reason",
        "_resumes",
        "_ring",
        "_settings",
        "_status_at",
        "_stream",
        "_woken",
        "consumer",
        "held",
        "relays",
        "state",
        "told_depth",
    )  # fmt: skip

    def __init__(
        self,
        lobby: TrunkLobby,
        ring: MessageRing,
        *,
        now: float,
        settings: TrunkServerSettings = TRUNK_SERVER_SETTINGS,
    ) -> None:
        self._lobby = lobby
        self._ring = ring
        self._settings = settings
        self._record_bytes = settings.record_bytes
        self.state = TrunkServerState.AWAITING_HELLO
        self.consumer = ""
        self.held = 0
        self.relays = False
        self.told_depth = 255
        self._stream = _Reader(STREAM, ring.cursor, StreamOffset(*ring.locate(ring.cursor)))
        self._missed_by_groups = 0
        self._hello: tuple[Hello, float] | None = None  # with the deadline for its position; until WELCOME
        self._answers: deque[bytes] = deque()
        self._resumes: list[_Pending] = []
        self._replay: _Reader | None = None  # of the group that is catching up; the stream waits for it
        self._replay_reason = LiveReason.NONE  # why that group is not exact
        self._last_received = now
        self._status_at = now + settings.status_seconds
        self._due = 0
        self._kept = 0  # number of the latest change of what is kept that was sent
        self._broken: Breaks | None = None  # where the stream broke that the consumer continues before that
        self._woken = now

    @property
    def behind(self) -> int:
        """Messages not yet sent to the consumer."""
        return self._ring.cursor - self._stream.cursor

    @property
    def missed(self) -> int:
        """Messages that the consumer, or a group of its clients, was too slow to get."""
        return self._stream.missed + self._missed_by_groups

    # What comes in

    def receive(self, data: bytes, now: float) -> Forward | None:
        """Takes one record of the consumer; returns it if it is a client's message for the origin. Call `take` afterwards.

        Raises:
            TrunkError: the consumer violated the protocol. The owner closes the trunk with 1002.
            RelayRefusedError: the consumer is a lobby that can't be served now. The owner closes the trunk with 1013.
        """
        self._last_received = now
        record = decode(data)
        if record is None:
            return None
        if isinstance(record, Hello):
            self._begin(record, now)
        elif self.state is not TrunkServerState.AWAITING_PLACE and self.state is not TrunkServerState.STREAMING:
            raise TrunkError(f"{record.TYPE.name} came before HELLO")
        elif isinstance(record, Forward):
            return record
        elif isinstance(record, Claim):
            self._claim(record)
        elif isinstance(record, Release):
            if record.count > self.held:
                raise TrunkError(f"RELEASE: released {record.count}, held {self.held}")
            self.held -= record.count
            self._lobby.release(record.count)
        elif isinstance(record, Resume):
            if len(self._resumes) >= self._settings.max_answers:
                raise TrunkError("RESUME: too many are waiting for an answer")
            self._resumes.append(_Pending(record.id, record.position, now + self._settings.resume_wait_seconds))
        elif not isinstance(record, Heartbeat):
            raise TrunkError(f"{record.TYPE.name} is not a consumer record")
        return None

    def bytes_received(self, now: float) -> None:
        """Bytes arrived, even if they are not a whole record yet; or the consumer took bytes while others waited for it."""
        self._last_received = max(self._last_received, now)

    def close(self) -> None:
        """The trunk has ended: returns its seats."""
        if self.state is not TrunkServerState.CLOSED:
            self.state = TrunkServerState.CLOSED
            self._lobby.release(self.held)
            self.held = 0

    # What goes out

    def take(self, now: float, max_bytes: int = 0) -> Parts | None:
        """Returns the next record to send, as its head and the frames that follow it, or None.

        What it returns counts as sent. Only a single larger batch exceeds `max_bytes` (default: `record_bytes`).

        Raises:
            RelayRefusedError: as in `receive`.
        """
        max_bytes = max_bytes or self._record_bytes
        if self.state is not _STREAMING:
            return self._welcome(now)
        if self._answers:
            return self._answers.popleft(), b""
        if self._replay is not None:
            return self._catch_up(self._replay, max_bytes)
        ring, stream = self._ring, self._stream
        until = None
        if (self._resumes or self._due) and stream.cursor >= ring.oldest:  # otherwise MISSED comes first
            if self._due & _KEPT:
                kept, until = self._next_kept()
                if kept is not None:
                    return kept
            place = stream.place
            answer = stream.arrive(ring)
            if answer is None and self._resumes:
                answer = self._answer_resume(now, max_bytes)
            if answer is None and self._due & _STATUS:
                answer = self._status()
            if answer is not None:
                return answer
            stream.epoch, stream.offset = place  # the consumer was not told of another
        if stream.cursor == ring.cursor:
            return None
        if until is not None:
            return stream.take(ring, max_bytes, until)
        return stream.take_newest(ring) or stream.take(ring, max_bytes)

    def skip_history(self) -> None:
        """What the ring has got is older than the stream that starts now: a consumer gets it only if it resumes there."""
        stream, ring = self._stream, self._ring
        if stream.epoch == NO_EPOCH:
            self._stream = _Reader(STREAM, ring.cursor, StreamOffset(*ring.locate(ring.cursor)))

    def move(self, reason: MoveReason, within_seconds: float) -> None:
        """Asks the consumer to move its clients elsewhere, spread over some seconds. Call `take` afterwards."""
        self._answers.append(Move(reason, min(int(within_seconds * 1000), 0xFFFFFFFF)).encode())

    def tell_origin(self) -> None:
        """The origin is connected: makes `take` return ORIGIN. Call `take` afterwards."""
        if self.state is TrunkServerState.STREAMING and self._lobby.subprotocol is not None:
            self._answers.append(Origin(self._lobby.subprotocol).encode())

    def blame(self, client: int, code: int) -> None:
        """Asks the consumer to close a client, because of whose message the origin closed. Call `take` afterwards."""
        self._answers.append(Blamed(client, code).encode())

    def send_status(self) -> None:
        """Makes `take` return STATUS next, instead of at the next interval. Call `take` afterwards."""
        self._due |= _STATUS

    def send_kept(self) -> None:
        """What is kept for clients that join has changed: makes `take` return KEPT. Call `take` afterwards."""
        self._due |= _KEPT

    # Time

    @property
    def wake_at(self) -> float:
        """When to call `wake`."""
        at = min(self._status_at, self._last_received + self._settings.consumer_timeout_seconds)
        deadlines = [pending.deadline for pending in self._resumes]
        if self._hello is not None:
            deadlines.append(self._hello[1])
        # After its deadline, `take` answers a position once the socket has room: no `wake` is needed.
        return min((at, *(deadline for deadline in deadlines if deadline > self._woken)))

    def wake(self, now: float) -> bool:
        """Time has passed; returns whether the consumer is still alive. Call `take` afterwards, or close the trunk."""
        settings = self._settings
        if now - self.wake_at > settings.status_seconds:  # we were suspended, so the consumer's silence means nothing
            self._last_received = now
        self._woken = now
        if now >= self._status_at:
            self._status_at = now + settings.status_seconds
            self._due |= _STATUS
        return now - self._last_received < settings.consumer_timeout_seconds

    # Records

    def _begin(self, hello: Hello, now: float) -> None:
        if self.state is not TrunkServerState.AWAITING_HELLO:
            raise TrunkError("HELLO came twice")
        self.state = TrunkServerState.AWAITING_PLACE
        self.consumer = hello.name
        self.relays = hello.relays
        self._check_relay()
        self._hello = hello, now + self._settings.resume_wait_seconds

    def _check_relay(self) -> None:
        if self.relays and (refusal := self._lobby.relay_refusal(self.consumer)):
            raise RelayRefusedError(refusal)

    def _tell_via(self) -> tuple[str, ...] | None:
        via = self._lobby.via
        if via is not None:
            self.told_depth = min(self.told_depth, len(via))
        return via

    def _claim(self, claim: Claim) -> None:
        if len(self._answers) >= self._settings.max_answers:
            raise TrunkError("CLAIM: too many answers are waiting to be read")
        granted = self._lobby.claim(claim.count)
        self.held += granted
        reason = GrantReason.NONE
        if granted < claim.count:
            reason = GrantReason.DRAINING if self._lobby.draining else GrantReason.FULL
        self._answers.append(Granted(claim.id, granted, self._lobby.free, reason).encode())

    def _welcome(self, now: float) -> Parts | None:
        if self._hello is None:
            return None
        (hello, deadline), ring, lobby = self._hello, self._ring, self._lobby
        # A lobby that relays fills its ring with them; for the clients of a greeter they are the beginning.
        cursor = ring.latest(hello.replay) if hello.relays else ring.replay_from(hello.replay)
        place = StreamOffset(*ring.locate(cursor))
        reason = LiveReason.NO_POSITION
        if hello.position is not None:
            outcome = _resolve(ring, hello.position, deadline=deadline, now=now)
            if isinstance(outcome, Wait):
                return None
            if isinstance(outcome, Exact):
                reason = LiveReason.NONE
                cursor, place = outcome.cursor, _place(ring, hello.position, outcome.cursor)
                self._broken = ring.broken_after(cursor, hello.position.epoch)
            else:
                reason = outcome.reason
                if reason == LiveReason.GONE and ring.oldest <= outcome.cursor < ring.cursor:
                    cursor = outcome.cursor  # it lacks nothing of what came after the gap
                    place = StreamOffset(*ring.locate(cursor))
        self._check_relay()  # it may have waited for its place
        self._hello = None
        self.state = TrunkServerState.STREAMING
        self._stream = _Reader(STREAM, cursor, place)
        exact = reason == LiveReason.NONE
        welcome = Welcome(
            exact,
            reason,
            lobby.origin_connected,
            lobby.seats,
            lobby.free,
            *place,
            lobby.name,
            ring.position(cursor).digests,
            self._tell_via(),
            ring.cursor - cursor,
        )
        records: list[Kept | Welcome | Origin] = [*self._all_kept(), welcome]
        if lobby.subprotocol is not None:
            # Before GRANTED, so that clients need not wait.
            records.append(Origin(lobby.subprotocol))
        first, *others = (each.encode() for each in records)
        self._answers.extendleft(reversed(others))
        return first, b""

    def _all_kept(self) -> Iterator[Kept]:
        """What is kept for clients that join. Nobody has the stream yet who could be told, unless it breaks later."""
        self._kept = self._ring.kept.newest
        first_break = None
        if self._broken is not None:
            self._due |= _KEPT
            first_break = self._broken.first
        for change in self._ring.kept:
            if change.frame and not change.is_behind(first_break):
                yield Kept(change.name, change.frame, ahead=change.ahead_of(self._stream.cursor))

    def _tell_missed(self, first_break: int) -> Parts | None:
        """What is kept since the breaks that the consumer missed, for those who have the stream at the last of them.

        What a later break changed is told where that is.
        """
        cursor = self._stream.cursor
        records = [
            Kept(change.name, change.frame, tell=True, ahead=change.ahead_of(cursor)).encode()
            for change in self._ring.kept
            if change.is_behind(first_break) and not (change.tell and change.number > self._kept)
        ]
        self._answers.extend(records)
        return (self._answers.popleft(), b"") if records else None

    def _next_kept(self) -> tuple[Parts | None, int | None]:
        """The next KEPT, or the cursor before which the stream has to stop for it.

        A message that is part of the stream comes before the stream gets there, so that whoever joins behind it has it.
        """
        if self._broken is not None:
            if self._stream.cursor < self._broken.last:
                return None, self._broken.last
            first_break, self._broken = self._broken.first, None
            if (told := self._tell_missed(first_break)) is not None:
                return told, None
        change = self._ring.kept.next_change(self._kept)
        if change is None:
            self._due &= ~_KEPT
            return None, None
        cursor = self._stream.cursor
        if change.cursor > cursor and not change.streamed:
            return None, change.cursor
        self._kept = change.number
        return (Kept(change.name, change.frame, change.tell, change.ahead_of(cursor)).encode(), b""), None

    def _answer_resume(self, now: float, max_bytes: int) -> Parts | None:
        for pending in self._resumes:
            if not self._may_look(pending, now):
                continue
            outcome = _resolve(self._ring, pending.position, deadline=pending.deadline, now=now)
            if isinstance(outcome, Wait) or (isinstance(outcome, Exact) and outcome.cursor > self._stream.cursor):
                continue  # the stream will get there
            self._resumes.remove(pending)
            if isinstance(outcome, Live) and not self._after_gap(outcome):
                return self._joined(pending.id, outcome.reason)
            self._replay_reason = outcome.reason if isinstance(outcome, Live) else LiveReason.NONE
            self._replay = _Reader(pending.id, outcome.cursor, _place(self._ring, pending.position, outcome.cursor))
            return self._catch_up(self._replay, max_bytes)
        return None

    def _may_look(self, pending: _Pending, now: float) -> bool:
        """Whether a position is looked for: after a few looks, not with each message of a fast stream."""
        settings = self._settings
        interval = 1 / settings.looks_per_second
        if now < pending.deadline and pending.looked_until - now > settings.looks_at_once * interval:
            return False
        pending.looked_until = max(pending.looked_until, now) + interval
        return True

    def _catch_up(self, group: _Reader, max_bytes: int) -> Parts:
        """The next record of a group that catches up with the stream, which waits for it."""
        ring, end = self._ring, self._stream.cursor
        if group.cursor < end:
            record = group.take(ring, max_bytes, end) if ring.oldest < end else None
            return record or group.skip(end - group.cursor, self._stream.place)  # all of it was evicted
        if not group.place.followed_by(*self._stream.place):
            return group.skip(0, self._stream.place)
        self._replay = None
        self._missed_by_groups += group.missed
        return self._joined(group.group, self._replay_reason)

    def _after_gap(self, outcome: Live) -> bool:
        """Whether a position lies at a gap of this stream, so that its consumer lacks nothing of what came after it."""
        return outcome.reason == LiveReason.GONE and self._ring.oldest <= outcome.cursor < self._stream.cursor

    def _joined(self, group: int, reason: LiveReason) -> Parts:
        return Resumed(group, reason == LiveReason.NONE, reason, *self._stream.place).encode(), b""

    def _status(self) -> Parts:
        self._due &= ~_STATUS
        lobby = self._lobby
        stale = self._ring.stale
        place = self._stream.place
        status = Status(lobby.origin_connected, lobby.seats, lobby.free, *place, stale, self._tell_via())
        return status.encode(), b""


def _resolve(ring: MessageRing, position: Position, *, deadline: float, now: float) -> Exact | Live | Wait:
    outcome = ring.resume(position)
    if isinstance(outcome, Wait) and now >= deadline + outcome.grace:
        return Live(ring.cursor, outcome.reason)
    return outcome


def _place(ring: MessageRing, position: Position, cursor: int) -> StreamOffset:
    """The place of a consumer that was found: its own, or if its epoch is another lobby's, that of the ring."""
    own = StreamOffset(position.epoch, position.offset)
    place = StreamOffset(*ring.locate(cursor))
    return own if ring.has(position.epoch) else place
