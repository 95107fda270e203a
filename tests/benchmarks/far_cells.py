"""What is measured over a far line: the cells of the matrix."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.line import Delay

CLIENTS: Final = 50
BURST_SECONDS: Final = 0.3
PAUSE_SECONDS: Final = 1.5
"""Before each burst: longer than the retransmission timeout, so that TCP starts again from its initial window."""
SETTLE_SECONDS: Final = 0.5
"""Between the handshakes and a steady stream."""
LATE_SECONDS: Final = 2.0
"""A message that a client does not have this much and a round trip after the last one was due counts as missing."""
LAYOUTS: Final = {
    "clients": "the server is beside the origin, the clients are far away",
    "greeter": "the lobby is beside the origin, the greeter beside the clients, far away",
    "origin": "the server is beside the clients, the origin is far away",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """What the origin sends.

    Attributes:
        name: for people.
        messages: in one burst.
        seconds: over which a burst is spread.
        bursts: how many.
        pause: seconds before each burst.
    """

    name: str
    messages: int
    seconds: float
    bursts: int
    pause: float


def steady(per_second: int, seconds: float) -> Stream:
    """The same number of messages each second."""
    return Stream(f"steady {per_second:,}/s", round(per_second * seconds), seconds, 1, SETTLE_SECONDS)


def burst(messages: int, bursts: int) -> Stream:
    """Bursts after pauses."""
    return Stream(f"bursts of {messages:,}", messages, BURST_SECONDS, bursts, PAUSE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the matrix.

    Attributes:
        rtt_ms: round-trip time of the line.
        loss_percent: packets lost in either direction.
        stream: what the origin sends.
        size: bytes of a message.
        layout: what is far from what (`LAYOUTS`).
        stalled: additional clients that never read.
        slow: additional clients that read at half of the stream's rate.
        clients: that read everything at once.
    """

    rtt_ms: float
    loss_percent: float
    stream: Stream
    size: int
    layout: str = "clients"
    stalled: int = 0
    slow: int = 0
    clients: int = CLIENTS

    @property
    def everyone(self) -> int:
        """All clients."""
        return self.clients + self.stalled + self.slow

    @property
    def name(self) -> str:
        """For people."""
        parts = [f"{self.rtt_ms:g} ms", f"{self.loss_percent:g}% loss", self.stream.name, f"{self.size:,} B"]
        if self.layout != "clients":
            parts.append(f"far {self.layout}")
        if self.clients != CLIENTS:
            parts.append(f"{self.clients} clients")
        parts += [f"{count} {what}" for what, count in (("stalled", self.stalled), ("slow", self.slow)) if count]
        return ", ".join(parts)

    def delay(self, seed: int) -> Delay:
        """The line it needs."""
        half = self.rtt_ms / 2
        return Delay(there_ms=half, back_ms=half, loss_per_mille=round(self.loss_percent * 10), seed=seed)

    def options(self) -> list[str]:
        """Command-line options of `c/far.c`."""
        given = {
            "clients": self.clients, "slow": self.slow, "stalled": self.stalled, "size": self.size,
            "burst": self.stream.messages, "spread": self.stream.seconds, "bursts": self.stream.bursts,
            "pause": self.stream.pause, "drain": LATE_SECONDS + self.rtt_ms / 1e3, "quiet": 0.3 + 4 * self.rtt_ms / 1e3,
        }  # fmt: skip
        return [each for name, value in given.items() for each in (f"--{name}", str(value))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Which cells are measured: all combinations.

    Attributes:
        rtts_ms: round-trip times.
        losses_percent: packets lost in either direction.
        steady: messages per second of steady streams.
        bursts: messages of bursts.
        sizes: bytes of a message.
        layouts: what is far from what.
        stalled: additional clients that never read.
        slow: additional clients that read at half of the stream's rate.
        clients: that read everything at once.
        seconds: of a steady stream.
        repeat: number of bursts.
    """

    rtts_ms: Sequence[float] = (2, 20, 100, 250)
    losses_percent: Sequence[float] = (0, 0.1, 1)
    steady: Sequence[int] = (100, 1000)
    bursts: Sequence[int] = (100, 900)
    sizes: Sequence[int] = (200, 4096)
    layouts: Sequence[str] = ("clients",)
    stalled: int = 0
    slow: int = 0
    clients: int = CLIENTS
    seconds: float = 2.0
    repeat: int = 2

    def cells(self) -> list[Cell]:
        """The cells, near ones first."""
        streams = [steady(rate, self.seconds) for rate in self.steady]
        streams += [burst(messages, self.repeat) for messages in self.bursts]
        everyone = {"stalled": self.stalled, "slow": self.slow, "clients": self.clients}
        return [
            Cell(rtt_ms=rtt, loss_percent=loss, stream=stream, size=size, layout=layout, **everyone)
            for layout, rtt, loss, stream, size in itertools.product(
                self.layouts, self.rtts_ms, self.losses_percent, streams, self.sizes
            )
        ]


GROUPS: Final = {
    "far clients": Matrix(),
    "far greeter": Matrix(layouts=("greeter",), rtts_ms=(2, 50), losses_percent=(0,), steady=(1000,), bursts=(900,)),
    "far origin": Matrix(layouts=("origin",), rtts_ms=(2, 100), losses_percent=(0, 0.1), steady=(1000,), bursts=(900,)),
    "slow clients": Matrix(
        rtts_ms=(2, 100), losses_percent=(0,), steady=(100, 500), bursts=(), sizes=(200,), slow=25, seconds=6
    ),
    "stalled clients": Matrix(
        rtts_ms=(2, 100), losses_percent=(0,), steady=(100, 500), bursts=(), sizes=(200,), stalled=25, seconds=6
    ),
}
"""Everything that is measured without a selection."""
HANDSHAKE_RTTS: Final = (20, 100, 250)
