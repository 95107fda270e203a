"""Time arithmetic, in one place.

A plan's `wake_at` must not be too early by a rounding error.
"""

from __future__ import annotations


def due(since: float, seconds: float, now: float) -> bool:
    """Whether `seconds` have passed.

    Computes the same sum as a plan's `wake_at`: `now - since >= seconds` may be false at exactly `since + seconds`.
    """
    return since + seconds <= now


def earliest(*times: float | None) -> float | None:
    """The earliest of some times, where None is never."""
    return min((time for time in times if time is not None), default=None)
