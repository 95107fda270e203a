"""Memory and descriptors of processes over time, and whether they grow."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sample:
    """Memory and descriptors of a process at one time."""

    at: float
    resident: int
    files: int


@dataclass(slots=True)
class Samples:
    """Samples of one process, or of one kind of processes, in order."""

    items: list[Sample] = field(default_factory=list)

    def growth(self, what: Callable[[Sample], float], warm_up: float) -> float:
        """Median of the last quarter minus that of the first quarter after the warm-up (in seconds)."""
        begin, end = self.items[0].at + warm_up, self.items[-1].at
        part = (end - begin) / 4
        first = [what(each) for each in self.items if begin <= each.at <= begin + part]
        last = [what(each) for each in self.items if each.at >= end - part]
        return statistics.median(last) - statistics.median(first)
