"""The least value that a figure had during the last N seconds, in a tuple.

What the planner takes away (an empty lobby, a sparse one) must have been superfluous all the time, not only at the moment
at which it looks. A figure that is above zero at each look but different every time would restart a plain clock or fool
it; the least value within the window does neither. (The stabilization window of the horizontal pod autoscaler, for ints.)
"""

from __future__ import annotations

from typing import NamedTuple

from lobby_operator.planner.timers import due


class Sample(NamedTuple):
    """A value and when it was last seen."""

    at: float
    value: int


Window = tuple[Sample, ...]
"""Samples in order of time, each of a greater value than the one before: a smaller one makes those before it irrelevant."""


def add(window: Window, now: float, value: int, seconds: float) -> Window:
    """The window with one more value; what is older than `seconds` falls out.

    Before its first sample a window is taken to have seen a zero: nothing is superfluous that was never looked at.
    """
    if not window and value > 0:
        window = (Sample(now, 0),)
    kept = [sample for sample in window if not due(sample.at, seconds, now)]
    while kept and kept[-1].value >= value:
        kept.pop()
    return (*kept, Sample(now, value))


def lowered(window: Window, by: int) -> Window:
    """The window as if all its values had been less by so much, though never below zero."""
    if by == 0:
        return window
    result: list[Sample] = []
    for sample in window:
        value = max(0, sample.value - by)
        if result and result[-1].value == value:  # only zeros can meet; the later one is the one that counts
            result.pop()
        result.append(Sample(sample.at, value))
    return tuple(result)


def least(window: Window, now: float, seconds: float) -> int:
    """The least value of the last `seconds`; the newest always counts. An empty window has seen nothing: 0."""
    for sample in window[:-1]:
        if not due(sample.at, seconds, now):
            return sample.value
    return window[-1].value if window else 0


def rises_at(window: Window, now: float, seconds: float) -> float | None:
    """When `least` will be greater than now if nothing else is seen; None: never."""
    for sample in window[:-1]:
        if not due(sample.at, seconds, now):
            return sample.at + seconds
    return None
