"""Two watchdogs of an origin connection: is it still there (pings), and does it still send (stale)?

Nothing is re-armed per message, which is the hot path: a message stores the time, and a deadline that comes due is moved
on if something was heard meanwhile.
"""

from __future__ import annotations

from enum import Enum


class Due(Enum):
    """What a wake-up asks for."""

    NOTHING = "nothing"
    PING = "ping"
    NO_PONG = "no pong"
    STALE = "stale"


class Keepalive:
    """Watchdogs of one connection, from the moment it is open.

    A ping counts as answered by a pong or anything else that arrived after it: an origin that streams is there, and its
    pong may stand behind megabytes of messages.

    Attributes:
        ping_seconds: a ping is due this often (RFC 6455 §5.5.2); 0: never.
        timeout_seconds: how long the answer to a ping is waited for.
        stale_seconds: how long the stream may be without a message; 0: for ever.
    """

    __slots__ = ("_heard", "_message", "_next_ping", "_pinged", "ping_seconds", "stale_seconds", "timeout_seconds")

    def __init__(self, *, ping_seconds: float, timeout_seconds: float, stale_seconds: float, now: float) -> None:
        self.ping_seconds = ping_seconds
        self.timeout_seconds = timeout_seconds
        self.stale_seconds = stale_seconds
        self._heard = now
        self._message: float | None = None  # None: the stream has not begun, so it can't be stale
        self._next_ping = now + ping_seconds
        self._pinged: float | None = None  # when the oldest ping without an answer was sent

    @property
    def last_message(self) -> float:
        """When the last message arrived; when the stream began if there was none, and 0 if it did not begin."""
        return self._message or 0.0

    def stream_begins(self, now: float) -> None:
        """From now on messages are expected."""
        self._message = now

    def heard(self, now: float) -> None:
        """A control frame, or a message of the script, arrived."""
        self._heard = now

    def message(self, now: float) -> None:
        """A message of the stream arrived."""
        self._heard = self._message = now

    def wake_at(self) -> float | None:
        """When `wake` is to be called; calling it earlier or later does no harm."""
        times = []
        if self.ping_seconds:
            times.append(self._next_ping)
            if self._pinged is not None:
                times.append(self._pinged + self.timeout_seconds)
        if self.stale_seconds and self._message is not None:
            times.append(self._message + self.stale_seconds)
        return min(times, default=None)

    def wake(self, now: float) -> Due:
        """What is due now; one thing at a time, `NOTHING` when all is done."""
        if self._pinged is not None and self._heard > self._pinged:
            self._pinged = None
        if self._pinged is not None and now >= self._pinged + self.timeout_seconds:
            return Due.NO_PONG
        if self.stale_seconds and self._message is not None and now >= self._message + self.stale_seconds:
            return Due.STALE
        if self.ping_seconds and now >= self._next_ping:
            self._next_ping = now + self.ping_seconds
            if self._pinged is None:
                self._pinged = now
            return Due.PING
        return Due.NOTHING
