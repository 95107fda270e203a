"""What waits for one client whose socket is full.

A client that keeps up has no mailbox: it is created when the first message has to wait, and released when the last one has
been sent. It holds no messages but a place in the backlog of its bus. Only what waits for this client alone is its own: a
replay, or what it brought along from another bus.

A client may lag for two reasons. Its line is long or thin: what was sent is on the way, and acknowledgements keep coming. Or
it does not read: nothing is on the way, because its receive window is closed. The first kind waits for a round trip and takes
everything then, so its messages may wait for `QueueLimits.seconds`; for the second kind only the newest messages are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from lobby_gateway.clients.backlog import Backlog, QueueLimits
from lobby_gateway.websocket.frames import AsideBatch, Batch


@dataclass(slots=True)
class Dropped:
    """Messages that were dropped, by reason.

    Attributes:
        slow: the client did not read, and enough newer messages waited.
        old: they waited too long: the client reads, but its line or its program is too slow.
        memory: the bytes that may wait were used up.
    """

    slow: int = 0
    old: int = 0
    memory: int = 0

    def __int__(self) -> int:
        return self.slow + self.old + self.memory


class Mailbox:
    """A place in a backlog, behind messages of its own.

    Attributes:
        not_reading: the client does not read: only the newest messages are kept.
        acked: bytes that the client had acknowledged at the latest look at its line; -1 before the first.
        acked_at: when that last changed.
        closed_at: since when its receive window has been closed at every look.
    """

    __slots__ = (
        "_cursor",
        "_own",
        "_own_cursor",
        "_shared",
        "_uncounted",
        "acked",
        "acked_at",
        "closed_at",
        "not_reading",
    )

    def __init__(self, shared: Backlog | None = None, cursor: int = 0) -> None:
        """A mailbox of the messages from a cursor of a bus's backlog."""
        self._shared = shared
        self._cursor = cursor
        self._own: Backlog | None = None
        self._own_cursor = 0
        self._uncounted: Dropped | None = None  # dropped before it left a backlog
        self.not_reading = False
        self.acked = -1
        self.acked_at = 0.0
        self.closed_at = 0.0

    def __len__(self) -> int:
        return self._waiting_own() + self._waiting_shared()

    @property
    def placed(self) -> int:
        """Of the messages that wait, those that have a place in the stream."""
        waiting = []
        if self._own is not None:
            waiting += self._own.batches(max(self._own_cursor, self._own.floor))
        if self._shared is not None:
            waiting += self._shared.batches(max(self._cursor, self._shared.floor))
        return sum(len(batch) for _, batch in waiting if not isinstance(batch, AsideBatch))

    @property
    def attached(self) -> bool:
        """It has a place in a backlog."""
        return self._shared is not None

    @property
    def cursor(self) -> int:
        """Cursor of the next message of the backlog."""
        return self._cursor

    def put(self, batch: Batch, now: float, limits: QueueLimits) -> None:
        """Adds messages for this client alone, in front of those of the backlog."""
        if self._own is None:
            self._own = Backlog(limits)
        self._own.append(batch, now)

    def attach(self, shared: Backlog) -> None:
        """From now on the messages of a backlog wait, too."""
        self._shared = shared
        self._cursor = shared.cursor

    def detach(self) -> None:
        """Takes along what waits: the client leaves the backlog."""
        shared = self._shared
        if shared is None:
            return
        self._uncounted = self._uncounted or Dropped()
        self._cursor = _skip(shared, self._cursor, self._uncounted)
        for came, batch in shared.batches(self._cursor):
            if self._own is None:
                self._own = Backlog(shared.limits)
            self._own.append(batch, came)
        self._shared = None
        if self._own is not None:  # what came along may have displaced what was there
            self._own_cursor = _skip(self._own, self._own_cursor, self._uncounted)

    def drop(self, now: float) -> Dropped:
        """Drops what the limits no longer allow; returns how many messages."""
        dropped, self._uncounted = self._uncounted or Dropped(), None
        own, shared = self._own, self._shared
        if own is not None:
            own.expire(now, self._waiting_shared())
            self._own_cursor = _skip(own, self._own_cursor, dropped)
        if shared is not None:
            shared.expire(now)
            self._cursor = _skip(shared, self._cursor, dropped)
        if self.not_reading and (limiting := shared or own) is not None:
            surplus = len(self) - limiting.limits.messages
            if surplus > 0:
                dropped.slow += surplus
                from_own = min(surplus, self._waiting_own())
                self._own_cursor += from_own
                self._cursor += surplus - from_own
        return dropped

    def next(self, max_bytes: int) -> bytes | memoryview:
        """The bytes to send next: whole frames, at most `max_bytes`, but at least one. Call `drop` first.

        Raises:
            IndexError: the mailbox is empty.
        """
        if self._own is not None and self._own_cursor < self._own.cursor:
            return self._own.next(self._own_cursor, max_bytes)
        if self._shared is None or self._cursor >= self._shared.cursor:
            raise IndexError("the mailbox is empty")
        return self._shared.next(self._cursor, max_bytes)

    def took(self, sent: int) -> tuple[int, int]:
        """The socket took `sent` bytes of `next`, at least one: messages sent, wholly or partially, leave the mailbox.

        Returns:
            How many messages those are, and how many bytes of the last one are unsent.
        """
        own, shared = self._own, self._shared
        if own is not None and self._own_cursor < own.cursor:
            before = self._own_cursor
            self._own_cursor, unsent = own.took(before, sent)
            if self._own_cursor == own.cursor:
                self._own = None
                self._own_cursor = 0
                return own.cursor - before, unsent
            return self._own_cursor - before, unsent
        assert shared is not None  # noqa: S101  # `next` would have raised
        before = self._cursor
        self._cursor, unsent = shared.took(before, sent)
        return self._cursor - before, unsent

    def age(self, now: float) -> float:
        """Seconds that the oldest message has waited; 0 if there is none."""
        if self._own is not None and self._waiting_own():
            return self._own.age(self._own_cursor, now)
        return self._shared.age(self._cursor, now) if self._shared is not None else 0.0

    def _waiting_own(self) -> int:
        return 0 if self._own is None else self._own.cursor - max(self._own_cursor, self._own.floor)

    def _waiting_shared(self) -> int:
        return 0 if self._shared is None else self._shared.cursor - max(self._cursor, self._shared.floor)


def _skip(backlog: Backlog, cursor: int, dropped: Dropped) -> int:
    """The cursor after what was dropped; counts that."""
    if cursor < backlog.floor:
        for_memory = max(0, min(backlog.memory_floor, backlog.floor) - cursor)
        dropped.memory += for_memory
        dropped.old += backlog.floor - cursor - for_memory
        return backlog.floor
    return cursor
