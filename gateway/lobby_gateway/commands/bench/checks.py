"""What `lobby bench` finds out about what clients receive: its order by sequence, its age by time. Nothing here does I/O.

Messages that say nothing of themselves are counted and no more. Those of `lobby origin` do, and so does any JSON object with
a whole number `seq`, which goes up by one from message to message, and a number `time`, Unix time in seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

KEY_BYTES = 96
"""Where both numbers stand at the beginning of a message, it is told from all others by that."""
_MAX_KNOWN = 1024
_MAX_HOLES = 64
_EXACT_BITS = 10  # latencies are kept to one part in 2^9

_find_seq = re.compile(rb'"seq"\s*:\s*(\d{1,18})\s*[,}]').search
_find_time = re.compile(rb'"time"\s*:\s*(\d{1,12}(?:\.\d{1,12})?)\s*[,}]').search


class Stamp(NamedTuple):
    """What a message says of itself.

    Attributes:
        seq: its number.
        time: when it was made, Unix time in seconds; 0.0 if it does not say.
    """

    seq: int
    time: float


class Stamps:
    """Reads stamps. All clients get the same messages, so each is read once, and then only looked up.

    Attributes:
        known: stamps by the first `KEY_BYTES` of a message, where those tell it from all others.
    """

    __slots__ = ("_others", "known")

    def __init__(self) -> None:
        self.known: dict[bytes, Stamp] = {}
        self._others: dict[bytes, Stamp | None] = {}  # by the whole message

    def read(self, payload: bytes) -> Stamp | None:
        """The stamp of a message; None if it has none."""
        key = payload[:KEY_BYTES]
        found: Stamp | None = self.known.get(key)
        if found is not None:
            return found
        seq, time = _find_seq(key), _find_time(key)
        if seq is not None and time is not None:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            found = self.known[key] = Stamp(int(seq[1]), float(time[1]))
            return found
        if payload not in self._others:
            if len(self._others) >= _MAX_KNOWN:
                self._others.clear()
            self._others[payload] = _parse(payload)
        return self._others[payload]


def _parse(payload: bytes) -> Stamp | None:
    try:
        message = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    seq, time = message.get("seq"), message.get("time")
    if not isinstance(seq, int) or isinstance(seq, bool):
        return None
    return Stamp(seq, float(time) if isinstance(time, int | float) and not isinstance(time, bool) else 0.0)


class OrderCounts:
    """What was out of order, at all clients together.

    Attributes:
        gaps: messages that never came, though a later one did.
        duplicates: messages that came again.
        reorderings: messages that came after a later one.
        restarts: times that the numbers began anew, with a message that is not older.
    """

    __slots__ = ("duplicates", "gaps", "reorderings", "restarts")

    def __init__(self) -> None:
        self.gaps = 0
        self.duplicates = 0
        self.reorderings = 0
        self.restarts = 0


class Order:
    """One client's place in the sequence.

    Where messages have the numbers expected the caller may set both attributes itself: that is the hot path.

    Attributes:
        next: number expected; -1 before the first message.
        newest: time of the newest message.
    """

    __slots__ = ("_holes", "newest", "next")

    def __init__(self) -> None:
        self.next = -1
        self.newest = 0.0
        self._holes: tuple[range, ...] = ()  # what is missing; of a client that misses too much, the latest

    def take(self, stamp: Stamp, counts: OrderCounts) -> None:
        """Takes a message, and counts what is wrong with its number."""
        seq, time = stamp
        if seq == self.next or self.next < 0:
            self.next = seq + 1
        elif seq > self.next:
            counts.gaps += seq - self.next
            self._holes = (*self._holes, range(self.next, seq))[-_MAX_HOLES:]
            self.next = seq + 1
        elif any(seq in hole for hole in self._holes):
            self._fill(seq)
            counts.gaps -= 1
            counts.reorderings += 1
        elif time > self.newest:
            counts.restarts += 1
            self._holes = ()
            self.next = seq + 1
        else:
            counts.duplicates += 1
        self.newest = max(self.newest, time)

    def _fill(self, seq: int) -> None:
        self._holes = tuple(
            part
            for hole in self._holes
            for part in ((range(hole.start, seq), range(seq + 1, hole.stop)) if seq in hole else (hole,))
            if part
        )


class Latencies:
    """Latencies by the microsecond, coarser the longer they are: bounded however many there are."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, arrivals: Iterable[float], made: float, count: int = 1) -> None:
        """Adds the latencies of messages.

        Args:
            arrivals: when each came.
            made: when it was made. Clocks that disagree may make a latency negative.
            count: messages that have this latency.
        """
        counts = self.counts
        for arrival in arrivals:
            us = int((arrival - made) * 1e6)
            shift = us.bit_length() - _EXACT_BITS
            if shift > 0:
                us = us >> shift << shift
            counts[us] = counts.get(us, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """The latencies, in seconds, that these shares of all do not exceed; of none at all, 0."""
        ordered = sorted(self.counts.items())
        total = len(self)
        found = []
        for share in shares:
            left = share * (total - 1)
            for us, count in ordered:
                left -= count
                if left < 0:
                    found.append(us / 1e6)
                    break
            else:
                found.append(0.0)
        return found
