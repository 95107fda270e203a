"""How long to wait before the next try: exponential with full jitter, and never earlier than the other side asked.

The formula is `sleep = random_between(0, min(cap, base * 2 ** attempt))`, "Full Jitter" in Marc Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015 (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/):
of the variants compared there it makes the fewest calls, and many lobbies that lost one origin at the same moment do not
come back at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable

LONGEST_FLOOR_SECONDS = 3600.0
"""A floor (an origin's Retry-After) is honoured up to an hour, so that a mistaken one can't keep a Lobby away for days."""

_MOST_DOUBLINGS = 63  # beyond any cap; keeps the float finite however long an origin is away


class Backoff:
    """Waits of one connection that is tried again and again.

    Attributes:
        base: upper end of the first wait, seconds.
        cap: upper end of any wait, seconds.
        attempt: failures since the last `reset`.
    """

    __slots__ = ("_fraction", "attempt", "base", "cap")

    def __init__(self, *, base: float, cap: float, fraction: Callable[[], float]) -> None:
        """`fraction` gives a random number of 0 to 1, a new one with each call."""
        if not 0 < base <= cap:
            raise ValueError(f"base: {base} is not between 0 and the cap, {cap}")
        self.base = base
        self.cap = cap
        self.attempt = 0
        self._fraction = fraction

    @property
    def ceiling(self) -> float:
        """The longest that the next wait can be, without a floor."""
        return min(self.cap, self.base * 2.0 ** min(self.attempt, _MOST_DOUBLINGS))

    def next(self, floor: float = 0.0) -> float:
        """Seconds until the next try.

        Args:
            floor: seconds that have to pass at least (Retry-After); the jitter comes on top of them, or all who were sent
                away together would come back together. At most `LONGEST_FLOOR_SECONDS` of it are honoured.
        """
        wait = min(max(floor, 0.0), LONGEST_FLOOR_SECONDS) + self._fraction() * self.ceiling
        self.attempt += 1
        return wait

    def reset(self) -> None:
        """The connection lasted: the next wait is a first one again."""
        self.attempt = 0
