"""Back-off between attempts, for everything that is retried.

With a source of random numbers it is exponential with full jitter, `random_between(0, min(cap, base * 2 ** attempt))`: "Full
Jitter" in Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Of the variants compared there it makes the fewest
calls, and lobbies that lost their origin at the same moment do not return at the same moment. Without random numbers the wait
is the upper bound itself, for attempts of a single process, or that must be predictable. In between, only a share of the wait
is random: half of it is "Equal Jitter" there.
"""

from __future__ import annotations

from collections.abc import Callable

_MAX_DOUBLINGS = 63  # beyond any cap; keeps the float finite


def ceiling(base: float, cap: float, attempt: int) -> float:
    """Upper bound of the wait after `attempt` earlier failures: `base`, doubled by each of them, up to `cap`."""
    return min(cap, base * 2.0 ** min(attempt, _MAX_DOUBLINGS))


class Backoff:
    """The waits between attempts at one thing.

    Attributes:
        base: upper bound of the first wait, in seconds.
        cap: upper bound of any wait, in seconds.
        jitter: share of each wait that is random, from 0 to 1.
        max_floor: upper bound of a floor, in seconds.
        attempt: failures since the last `reset`.
    """

    __slots__ = ("_fraction", "attempt", "base", "cap", "jitter", "max_floor")

    def __init__(
        self,
        *,
        base: float,
        cap: float,
        fraction: Callable[[], float] | None = None,
        jitter: float = 1.0,
        max_floor: float = float("inf"),
    ) -> None:
        """`fraction` returns a new random number from 0 to 1 with each call; None: no jitter.

        Raises:
            ValueError: `base` is not between 0 and `cap`.
        """
        if not 0 < base <= cap:
            raise ValueError(f"base: {base} is not between 0 and the cap, {cap}")
        self.base = base
        self.cap = cap
        self.jitter = jitter
        self.max_floor = max_floor
        self.attempt = 0
        self._fraction = fraction

    @property
    def ceiling(self) -> float:
        """Upper bound of the next wait, without a floor."""
        return ceiling(self.base, self.cap, self.attempt)

    def next(self, floor: float = 0.0) -> float:
        """Counts a failure; returns the seconds until the next attempt.

        Args:
            floor: fewest seconds to wait (Retry-After). The jitter is added to it: otherwise all clients turned away together
                would return together.
        """
        fraction = 1.0 if self._fraction is None else 1.0 - self.jitter * (1.0 - self._fraction())
        wait = min(max(floor, 0.0), self.max_floor) + fraction * self.ceiling
        self.attempt += 1
        return wait

    def reset(self) -> None:
        """The attempt succeeded: the waits start over."""
        self.attempt = 0
