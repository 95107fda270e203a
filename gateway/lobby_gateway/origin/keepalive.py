"""Two watchdogs of an origin connection: is the origin still there (pings), and does it still send (stale)?

No timer is re-armed per message, the hot path: a message only stores the time, and a deadline that comes due is postponed
if something was received meanwhile.
"""

from __future__ import annotations

from enum import Enum


class Due(Enum):
    """What to do after a wake-up."""

    NOTHING = "nothing"
    PING = "ping"
    NO_PONG = "no pong"
    STALE = "stale"


class Keepalive:
    """Watchdogs of one open connection.

    A ping counts as answered by a pong or by any bytes received after it, even if they complete no message: a pong can't
    overtake a message that is not fragmented (RFC 6455 §5.4). Its timeout starts when it was sent, not when it was queued.

    Attributes:
        ping_seconds: interval between pings (RFC 6455 §5.5.2); 0: none.
        timeout_seconds: how long to wait for the answer to a ping, once it was sent.
        stale_seconds: longest time without a message of the stream, or a part of one; 0: no limit.
    """

    __slots__ = (
        "_incomplete",
        "_last_received",
        "_message",
        "_next_ping",
        "_pinged",
        "ping_seconds",
        "stale_seconds",
        "timeout_seconds",
    )

    def __init__(self, *, ping_seconds: float, timeout_seconds: float, stale_seconds: float, now: float) -> None:
        self.ping_seconds = ping_seconds
        self.timeout_seconds = timeout_seconds
        self.stale_seconds = stale_seconds
        self._last_received = now
        self._message: float | None = None  # None: the stream has not started, so it can't be stale
        self._next_ping = now + ping_seconds
        self._pinged: float | None = None  # when the oldest ping without an answer was sent, or last made progress
        self._incomplete = 0

    @property
    def last_message(self) -> float:
        """When the last message, or a part of it, arrived; without one, when the stream started; 0 if it has not."""
        return self._message or 0.0

    def stream_begins(self, now: float) -> None:
        """The stream starts: from now on messages are expected."""
        self._message = now

    def bytes_received(self, now: float, incomplete: int = 0) -> None:
        """Bytes arrived at `now`; `incomplete` is how many are kept of a message of which more is to come."""
        self._last_received = max(self._last_received, now)
        if incomplete > self._incomplete and self._message is not None:
            self._message = max(self._message, now)
        self._incomplete = incomplete

    def bytes_taken(self, now: float) -> None:
        """The origin took bytes while others waited for it: a ping may still be among those."""
        if self._pinged is not None and self._last_received <= self._pinged:
            self._pinged = now
            self._next_ping = max(self._next_ping, now + self.ping_seconds)

    def message(self, now: float) -> None:
        """A message of the stream arrived."""
        self._last_received = self._message = now

    def wake_at(self) -> float | None:
        """When to call `wake`; calling it earlier or later does no harm."""
        times = []
        if self.ping_seconds:
            times.append(self._next_ping)
            if self._pinged is not None:
                times.append(self._pinged + self.timeout_seconds)
        if self.stale_seconds and self._message is not None:
            times.append(self._message + self.stale_seconds)
        return min(times, default=None)

    def wake(self, now: float) -> Due:
        """What is due now, one thing at a time; `NOTHING` once all is done."""
        if self._pinged is not None and self._last_received > self._pinged:
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
