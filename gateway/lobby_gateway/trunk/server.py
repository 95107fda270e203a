"""The lobby's end of one trunk: grants seats, and sends the stream from the ring at the pace of its consumer.

There is no queue of messages: the server keeps a cursor into the lobby's ring, so a consumer that is slow costs no memory, and
is told what it missed when the ring has gone on without it. Records go out when the owner asks for one (`take`), which it
does as long as the socket has room. What the records mean, and in which order they come: docs/trunk.md.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import NamedTuple, Protocol

from lobby_gateway.trunk.position import LiveReason, Position
from lobby_gateway.trunk.records import (
    STREAM,
    Claim,
    Forward,
    Granted,
    GrantReason,
    Heartbeat,
    Hello,
    Messages,
    Missed,
    Move,
    MoveReason,
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
from lobby_gateway.trunk.ring import Chunk, Exact, Live, MessageRing, Wait

HEARTBEAT_SECONDS = 0.5
"""A STATUS record so often."""
SILENT_SECONDS = 5.0
"""A consumer from which nothing came for so long is given up."""
RESUME_WAIT_SECONDS = 1.0
"""So long a position that is ahead of the ring is waited for before the answer is live."""
RECORD_BYTES = 256 << 10
"""Batches are merged into records of about this size when the consumer is behind."""
_MAX_ANSWERS = 4096  # waiting for room in the socket; a consumer that asks for more and reads none is broken


class TrunkLobby(Protocol):
    """What a trunk needs of its lobby."""

    @property
    def name(self) -> str:
        """The lobby's name."""

    @property
    def seats(self) -> int:
        """How many seats it has."""

    @property
    def free(self) -> int:
        """Seats that would be granted now."""

    @property
    def draining(self) -> bool:
        """No more seats are granted."""

    @property
    def origin_connected(self) -> bool:
        """Messages can be expected."""

    def claim(self, count: int) -> int:
        """Takes up to `count` seats; returns how many were granted."""

    def release(self, count: int) -> None:
        """Gives seats back."""


class TrunkServerState(Enum):
    """What a server does; it goes from one to the next, never back."""

    AWAITING_HELLO = auto()
    """Nothing may come but HELLO; nothing is sent."""
    AWAITING_PLACE = auto()
    """HELLO came. WELCOME goes out as soon as it is known where the stream starts: at once, unless the position is ahead."""
    STREAMING = auto()
    """WELCOME is out."""
    CLOSED = auto()
    """The seats are given back."""


class _Pending(NamedTuple):
    """A RESUME that is not answered yet."""

    id: int
    position: Position
    deadline: float


Parts = tuple[bytes, bytes]
"""A record as its head and the frames behind it, so that frames need not be copied."""


class _Reader:
    """A place in the ring that goes on record by record: the stream's, or that of a group that catches up with it."""

    __slots__ = ("cursor", "group", "missed", "place")

    def __init__(self, group: int, cursor: int, place: StreamOffset) -> None:
        self.group = group
        self.cursor = cursor
        self.place = place  # of the cursor, as the consumer knows it
        self.missed = 0

    def take(self, ring: MessageRing, max_bytes: int, until: int | None = None) -> Parts | None:
        """The next record: messages before `until`, or what is missing before them."""
        if self.cursor < ring.oldest:
            return self.skip(ring.oldest - self.cursor, StreamOffset(*ring.locate(ring.oldest)))
        chunks = ring.since(self.cursor, max_bytes, until)
        if not chunks:
            return None
        epoch, offset, batch, cursor = chunks[0]
        if not self.place.followed_by(epoch, offset):
            return self.skip(0, StreamOffset(epoch, offset))
        data, count = batch.data, len(batch)
        if len(chunks) > 1:
            data, count, cursor = _merge(chunks)
        self.cursor = cursor
        self.place = StreamOffset(epoch, offset + count)
        if self.group == STREAM:
            return Messages.head(epoch, offset, count), data
        return Replay.head(self.group, epoch, offset, count), data

    def arrive(self, ring: MessageRing) -> Parts | None:
        """Goes on to the epoch and offset of the next message, which may be a new epoch's; or tells what is missing before."""
        place = StreamOffset(*ring.locate(self.cursor))
        if not self.place.followed_by(*place):
            return self.skip(0, place)
        self.place = place
        return None

    def skip(self, evicted: int, to: StreamOffset) -> Parts:
        """Goes on behind messages that are not kept: `evicted` of the ring, or more that it never had."""
        at = self.place
        count = max(evicted, to.offset - at.offset) if to.epoch == at.epoch else evicted or to.offset
        self.cursor += evicted
        self.place = to
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
        consumer: the name that the consumer gave itself in HELLO.
        held: seats that were granted to the consumer and not given back.
    """

    __slots__ = (
        "_answers", "_heard", "_heartbeat", "_hello", "_lobby", "_missed_by_groups", "_replay", "_resume_wait", "_resumes",
        "_ring", "_silent", "_status_at", "_status_due", "_stream", "_woken", "consumer", "held", "state",
    )  # fmt: skip

    def __init__(
        self,
        lobby: TrunkLobby,
        ring: MessageRing,
        *,
        now: float,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        resume_wait_seconds: float = RESUME_WAIT_SECONDS,
    ) -> None:
        self._lobby = lobby
        self._ring = ring
        self._heartbeat = heartbeat_seconds
        self._silent = silent_seconds
        self._resume_wait = resume_wait_seconds
        self.state = TrunkServerState.AWAITING_HELLO
        self.consumer = ""
        self.held = 0
        self._stream = _Reader(STREAM, ring.cursor, StreamOffset(*ring.locate(ring.cursor)))
        self._missed_by_groups = 0
        self._hello: tuple[Hello, float] | None = None  # until WELCOME, and until when its position is waited for
        self._answers: deque[bytes] = deque()
        self._resumes: list[_Pending] = []
        self._replay: _Reader | None = None  # of the group that is being answered; the stream waits for its end
        self._heard = now
        self._status_at = now + heartbeat_seconds
        self._status_due = False
        self._woken = now

    @property
    def behind(self) -> int:
        """Messages that the consumer was not sent yet."""
        return self._ring.cursor - self._stream.cursor

    @property
    def missed(self) -> int:
        """Messages that the consumer, or a group of its clients, was too slow for."""
        return self._stream.missed + self._missed_by_groups

    # What comes in

    def receive(self, data: bytes, now: float) -> Forward | None:
        """Takes one record of the consumer; returns a client's message for the origin. Call `take` afterwards.

        Raises:
            TrunkError: the consumer broke the protocol. The owner closes the trunk with 1002.
        """
        self._heard = now
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
                raise TrunkError(f"RELEASE: {record.count} seats are given back, {self.held} are held")
            self.held -= record.count
            self._lobby.release(record.count)
        elif isinstance(record, Resume):
            if len(self._resumes) >= _MAX_ANSWERS:
                raise TrunkError("RESUME: too many wait for an answer")
            self._resumes.append(_Pending(record.id, record.position, now + self._resume_wait))
        elif not isinstance(record, Heartbeat):
            raise TrunkError(f"{record.TYPE.name} is not a consumer record")
        return None

    def heard(self, now: float) -> None:
        """Bytes came, even if they are no whole record yet."""
        self._heard = max(self._heard, now)

    def close(self) -> None:
        """The trunk has ended: its seats are given back."""
        if self.state is not TrunkServerState.CLOSED:
            self.state = TrunkServerState.CLOSED
            self._lobby.release(self.held)
            self.held = 0

    # What goes out

    def take(self, now: float, max_bytes: int = RECORD_BYTES) -> Parts | None:
        """The next record, as its head and the frames that follow it, to be sent before anything else; None: nothing to say.

        What it returns counts as sent. `max_bytes` is passed only by a single batch that is larger.
        """
        if self.state is not TrunkServerState.STREAMING:
            return self._welcome(now)
        if self._answers:
            return self._answers.popleft(), b""
        if self._replay is not None:
            return self._catch_up(self._replay, max_bytes)
        ring, stream = self._ring, self._stream
        if (self._resumes or self._status_due) and stream.cursor >= ring.oldest:  # otherwise that is told first
            answer = stream.arrive(ring)
            if answer is None and self._resumes:
                answer = self._answer_resume(now, max_bytes)
            if answer is None and self._status_due:
                answer = self._status()
            if answer is not None:
                return answer
        if stream.cursor == ring.cursor:
            return None
        return stream.take(ring, max_bytes)

    def move(self, reason: MoveReason, within_seconds: float) -> None:
        """Asks the consumer to take seats elsewhere, spread over some seconds. Call `take` afterwards."""
        self._answers.append(Move(reason, min(int(within_seconds * 1000), 0xFFFFFFFF)).encode())

    def tell_status(self) -> None:
        """The lobby's origin came or went: STATUS goes out now. Call `take` afterwards."""
        self._status_due = True

    # Time

    @property
    def wake_at(self) -> float:
        """When `wake` wants to be called."""
        at = min(self._status_at, self._heard + self._silent)
        deadlines = [pending.deadline for pending in self._resumes]
        if self._hello is not None:
            deadlines.append(self._hello[1])
        # One that has passed is answered by `take`, for which the socket may have no room yet: no reason to wake again.
        return min((at, *(deadline for deadline in deadlines if deadline > self._woken)))

    def wake(self, now: float) -> bool:
        """Time has passed; returns whether the consumer still lives. Call `take` afterwards, or close the trunk."""
        if now - self.wake_at > self._heartbeat:  # we were stopped ourselves: its silence says nothing
            self._heard = now
        self._woken = now
        if now >= self._status_at:
            self._status_at = now + self._heartbeat
            self._status_due = True
        return now - self._heard < self._silent

    # How

    def _begin(self, hello: Hello, now: float) -> None:
        if self.state is not TrunkServerState.AWAITING_HELLO:
            raise TrunkError("HELLO came twice")
        self.state = TrunkServerState.AWAITING_PLACE
        self.consumer = hello.name
        self._hello = hello, now + self._resume_wait

    def _claim(self, claim: Claim) -> None:
        if len(self._answers) >= _MAX_ANSWERS:
            raise TrunkError("CLAIM: too many answers wait to be read")
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
        cursor = ring.latest(hello.replay)
        place = StreamOffset(*ring.locate(cursor))
        reason = LiveReason.NO_POSITION
        if hello.position is not None:
            outcome = _resolve(ring, hello.position, timed_out=now >= deadline)
            if isinstance(outcome, Wait):
                return None
            if isinstance(outcome, Exact):
                reason = LiveReason.NONE
                cursor, place = outcome.cursor, StreamOffset(hello.position.epoch, hello.position.offset)
            else:
                reason = outcome.reason
        self._hello = None
        self.state = TrunkServerState.STREAMING
        self._stream = _Reader(STREAM, cursor, place)
        exact = reason == LiveReason.NONE
        welcome = Welcome(exact, reason, lobby.origin_connected, lobby.seats, lobby.free, *place, lobby.name)
        return welcome.encode(), b""

    def _answer_resume(self, now: float, max_bytes: int) -> Parts | None:
        for pending in self._resumes:
            outcome = _resolve(self._ring, pending.position, timed_out=now >= pending.deadline)
            if isinstance(outcome, Wait) or (isinstance(outcome, Exact) and outcome.cursor > self._stream.cursor):
                continue  # the stream gets there
            self._resumes.remove(pending)
            if isinstance(outcome, Live):
                return self._joined(pending.id, outcome.reason)
            start = StreamOffset(pending.position.epoch, pending.position.offset)
            self._replay = _Reader(pending.id, outcome.cursor, start)
            return self._catch_up(self._replay, max_bytes)
        return None

    def _catch_up(self, group: _Reader, max_bytes: int) -> Parts:
        """The next record of a group on its way to the place of the stream, which waits for it."""
        ring, end = self._ring, self._stream.cursor
        if group.cursor < end:
            record = group.take(ring, max_bytes, end) if ring.oldest < end else None
            return record or group.skip(end - group.cursor, self._stream.place)  # all of it is evicted
        if not group.place.followed_by(*self._stream.place):
            return group.skip(0, self._stream.place)
        self._replay = None
        self._missed_by_groups += group.missed
        return self._joined(group.group, LiveReason.NONE)

    def _joined(self, group: int, reason: LiveReason) -> Parts:
        return Resumed(group, reason == LiveReason.NONE, reason, *self._stream.place).encode(), b""

    def _status(self) -> Parts:
        self._status_due = False
        lobby = self._lobby
        return Status(lobby.origin_connected, lobby.seats, lobby.free, *self._stream.place).encode(), b""


def _resolve(ring: MessageRing, position: Position, *, timed_out: bool) -> Exact | Live | Wait:
    outcome = ring.resume(position)
    return Live(ring.cursor, LiveReason.AHEAD) if timed_out and isinstance(outcome, Wait) else outcome
