"""How fast one connection sends to its origin (`origin.limits.sendsPerSecond`). Pure.

Messages go out at an even pace, in their order: with bursts that keep within the limit, two of them may arrive in the same
second. Pings take their turn, too, but do not wait: they are rare, and late ones would find a dead connection late.
"""

from __future__ import annotations

from collections import deque


class PacedSends:
    """The messages of one connection on their way out.

    Attributes:
        per_second: most messages a second; 0: no limit.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_waiting", "_next_at", "_waiting", "per_second")

    def __init__(self, per_second: int, *, max_waiting: int, max_bytes: int) -> None:
        """`max_waiting` messages may wait, with `max_bytes` bytes (characters of texts) or a single larger one."""
        self.per_second = per_second
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[str | bytes] = deque()
        self._next_at = 0.0

    @property
    def wake_at(self) -> float | None:
        """When to call `due`; None: nothing waits."""
        return self._next_at if self._waiting else None

    def put(self, message: str | bytes) -> bool:
        """Adds a message; `due` gives it when its turn comes. False if too many wait."""
        if len(self._waiting) >= self._max_waiting or (self._waiting and self._bytes + len(message) > self._max_bytes):
            return False
        self._waiting.append(message)
        self._bytes += len(message)
        return True

    def due(self, now: float) -> list[str | bytes]:
        """The messages to send now."""
        due: list[str | bytes] = []
        while self._waiting and (not self.per_second or now >= self._next_at):
            due.append(self._waiting.popleft())
            self._bytes -= len(due[-1])
            self.sent(now)
        return due

    def sent(self, now: float) -> None:
        """Something was sent now that counts, too."""
        if self.per_second:
            self._next_at = max(self._next_at, now) + 1 / self.per_second
