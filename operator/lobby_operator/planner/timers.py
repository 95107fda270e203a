"""One way to compare times, so that a plan that says when to look again is never a rounding error too early."""

from __future__ import annotations


def due(since: float, seconds: float, now: float) -> bool:
    """Whether `seconds` have passed.

    The same sum as in a plan's `wake_at`: `now - since >= seconds` may be false at the very moment `since + seconds`.
    """
    return since + seconds <= now


def earliest(*times: float | None) -> float | None:
    """The first of some times, where None is never."""
    return min((time for time in times if time is not None), default=None)
