"""The minimum of a number over the last N seconds, like the stabilization window of the horizontal pod autoscaler.

A lobby is removed only if it was superfluous throughout, not merely at the moment of planning. A plain timer would be
restarted, or fooled, by a number that is always above zero but keeps changing; a minimum over a window is not.
"""

from __future__ import annotations

from typing import NamedTuple

from lobby_operator.planner.timers import due


class Sample(NamedTuple):
    """A value and when it was last observed."""

    at: float
    value: int


Window = tuple[Sample, ...]
"""Samples in order of time, values strictly increasing: a smaller value makes the ones before it irrelevant."""


def add(window: Window, now: float, value: int, seconds: float) -> Window:
    """The window with one more value, and without samples older than `seconds`.

    A new window starts with a zero: nothing counts as superfluous before the first sample.
    """
    if not window and value > 0:
        window = (Sample(now, 0),)
    kept = [sample for sample in window if not due(sample.at, seconds, now)]
    while kept and kept[-1].value >= value:
        kept.pop()
    return (*kept, Sample(now, value))


def lowered(window: Window, by: int) -> Window:
    """The window with all values lowered by `by`, but not below zero."""
    if by == 0:
        return window
    result: list[Sample] = []
    for sample in window:
        value = max(0, sample.value - by)
        if result and result[-1].value == value:  # only zeros can be equal; the later one counts
            result.pop()
        result.append(Sample(sample.at, value))
    return tuple(result)


def least(window: Window, now: float, seconds: float) -> int:
    """The minimum over the last `seconds`; the newest value always counts. An empty window gives 0."""
    for sample in window[:-1]:
        if not due(sample.at, seconds, now):
            return sample.value
    return window[-1].value if window else 0


def rises_at(window: Window, now: float, seconds: float) -> float | None:
    """When `least` will rise if no other value is added; None: never."""
    for sample in window[:-1]:
        if not due(sample.at, seconds, now):
            return sample.at + seconds
    return None
