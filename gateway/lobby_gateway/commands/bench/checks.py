"""How `lobby bench` checks received messages: their order by sequence number, their latency by time. No I/O.

Messages are checked if they are JSON objects with an integer `seq` that increases by one and a number `time`, Unix time in
seconds, as `lobby origin` sends them. All others are only counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

KEY_BYTES = 96
"""If both numbers are within this many bytes, they identify the message."""
_MAX_KNOWN = 1024
_MAX_HOLES = 64
_EXACT_BITS = 10  # latencies are accurate to one part in 2^9

_find_seq = re.compile(rb'"seq"\s*:\s*(\d{1,18})\s*[,}]').search
_find_time = re.compile(rb'"time"\s*:\s*(\d{1,12}(?:\.\d{1,12})?)\s*[,}]').search


class Stamp(NamedTuple):
    """The sequence number and time in a message.

    Attributes:
        seq: its number.
        time: when it was created, Unix time in seconds; 0.0 if it has none.
    """

    seq: int
    time: float


class Stamps:
    """Reads stamps. All clients get the same messages, so each one is parsed once and then looked up.

    Attributes:
        known: stamps by the first `KEY_BYTES` of a message, if those identify it.
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
    """Messages out of order, over all clients.

    Attributes:
        gaps: messages that never arrived although a later one did.
        duplicates: messages that arrived again.
        reorderings: messages that arrived after a later one.
        restarts: times the numbers started over, with a newer message.
    """

    __slots__ = ("duplicates", "gaps", "reorderings", "restarts")

    def __init__(self) -> None:
        self.gaps = 0
        self.duplicates = 0
        self.reorderings = 0
        self.restarts = 0


class Order:
    """One client's place in the sequence.

    If a message has the expected number, the caller may set both attributes itself; that is the hot path.

    Attributes:
        next: expected number; -1 before the first message.
        newest: time of the newest message.
    """

    __slots__ = ("_holes", "newest", "next")

    def __init__(self) -> None:
        self.next = -1
        self.newest = 0.0
        self._holes: tuple[range, ...] = ()  # missing numbers; only the latest if there are too many

    def take(self, stamp: Stamp, counts: OrderCounts) -> None:
        """Takes a message and counts what is wrong with its number."""
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
    """A histogram of latencies in microseconds, coarser for long ones, so its size is bounded."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, arrivals: Iterable[float], made: float, count: int = 1) -> None:
        """Adds the latencies of messages.

        Args:
            arrivals: when each arrived.
            made: when they were created. Latencies may be negative if clocks disagree.
            count: number of messages with this latency.
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
        """The latencies in seconds not exceeded by these shares of all; 0 if there are none."""
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
