"""Counts what one client received of a numbered stream: messages, gaps, duplicates and reorderings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

Sequence = Callable[[bytes], int | None]
"""The number of a message; None for one that has none and is not part of the stream."""

_SEQ = re.compile(rb'"seq(?:uence)?": ?(\d+)')
_HEAD = re.compile(rb'"number":"0x([0-9a-f]+)"')
MOST_MISSING = 1_000_000


def by_seq(payload: bytes) -> int | None:
    """Number of a message of `lobby origin` and of the fake origins: `{"seq": 17, ...}`, `{"sequence": 17}`."""
    found = _SEQ.search(payload[:200])
    return int(found[1]) if found else None


def by_block(payload: bytes) -> int | None:
    """Number of an Ethereum head: `"number":"0x11"`."""
    found = _HEAD.search(payload)
    return int(found[1], 16) if found else None


@dataclass(slots=True)
class Tally:
    """Counts the messages of one client.

    Attributes:
        count: messages with a number.
        other: messages without one.
        first: number of the first one.
        last: highest number.
        missing: numbers between first and last that were not received.
        duplicates: messages whose number was received before.
        reordered: messages received after one with a higher number.
    """

    count: int = 0
    other: int = 0
    first: int | None = None
    last: int = -1
    missing: set[int] = field(default_factory=set)
    duplicates: int = 0
    reordered: int = 0

    def add(self, number: int | None) -> None:
        """Counts a message with this number."""
        if number is None:
            self.other += 1
            return
        self.count += 1
        if self.first is None:
            self.first = self.last = number
        elif number == self.last + 1:
            self.last = number
        elif number > self.last:
            if number - self.last > MOST_MISSING:
                raise AssertionError(f"message {number} after {self.last}: not a gap but another stream")
            self.missing.update(range(self.last + 1, number))
            self.last = number
        elif number in self.missing:
            self.missing.remove(number)
            self.reordered += 1
        else:
            self.duplicates += 1
