"""What is measured over a far line: the cells of the matrix, and their results as tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.benchmarks.line import Delay

CLIENTS: Final = 50
BURST_SECONDS: Final = 0.3
PAUSE_SECONDS: Final = 1.5
"""Before each burst: longer than the retransmission timeout, so that TCP starts again from its initial window."""
SETTLE_SECONDS: Final = 0.5
"""Between the handshakes and a steady stream."""
LATE_SECONDS: Final = 2.0
"""A message that a client does not have this much and a round trip after the last one was due counts as missing."""
LATE_LINE_MS: Final = 3
"""More than this, and the line was short of CPU time: its round trips were longer than they should have been."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one server in one cell.

    Attributes:
        cell: name of the cell.
        server: name of the server.
        load: what `c/far.c` counted.
        line: what `c/line.c` counted.
        dropped: messages that the server says it dropped, by process and reason.
        cpu_seconds: of all processes of the server.
    """

    cell: str
    server: str
    load: Mapping[str, Any]
    line: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dropped: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0

    @property
    def missing_percent(self) -> float:
        """Messages that did not arrive, of those that should have."""
        return 100 * float(self.load["missing"]) / max(1, int(self.load["sent"]) * int(self.load["clients"]))

    def milliseconds(self, share: str) -> float:
        """`p50`, `p99` or `max` of the latency."""
        return float(self.load[share]) * 1e3


def percent(value: float) -> str:
    """At least one significant digit, so that a single missing message shows."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def full_table(rows: Iterable[Row]) -> list[str]:
    """One line for each row, aligned, for a terminal."""
    head = ["cell", "server", "missing %", "p50 ms", "p99 ms", "max ms", "connect ms", "CPU s", "dropped, notes"]
    lines = [head]
    for row in rows:
        latencies = [f"{row.milliseconds(share):.1f}" for share in ("p50", "p99", "max")]
        connect = f"{float(row.load['connect_seconds']) * 1e3:.0f}"
        lines.append(
            [
                row.cell,
                row.server,
                percent(row.missing_percent),
                *latencies,
                connect,
                f"{row.cpu_seconds:.2f}",
                notes(row),
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = (0, 1, len(head) - 1)
    return [
        "  ".join(
            cell.ljust(width) if column in text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def notes(row: Row) -> str:
    """Everything else that a reader of one row should know."""
    found = [f"{name} {count:,.0f}" for name, count in row.dropped.items() if count]
    for what in ("lost_clients", "duplicates"):
        found += [f"{what.replace('_', ' ')} {row.load[what]:,}"] if row.load.get(what) else []
    slow, stalled = row.load.get("slow"), row.load.get("stalled")
    if slow:
        share = 100 * slow["missing"] / max(1, slow["clients"] * int(row.load["sent"]))
        found.append(f"slow: {percent(share)}% missing, {slow['oldest'] * 1e3:,.0f} ms and {slow['behind']:,} behind")
    if stalled:
        found.append(f"stalled: {stalled['beyond']:.0f} beyond {stalled['receive_buffer'] / 1024:.0f} KiB")
    if slow or stalled:
        found.append(f"TCP {row.load['tcp_bytes'] / 1e6:.1f} MB")
    congested = sum(counts["overflowed"] + counts["dropped"] for counts in row.line.values())
    late = max((counts["late_us"] / 1e3 for counts in row.line.values()), default=0)
    found += [f"line overflowed {congested:,}"] if congested else []
    found += [f"line up to {late:.0f} ms late"] if late >= LATE_LINE_MS else []
    return ", ".join(found)


def page_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a table with one line for each cell and one column for each server: missing % / p50 / p99 / max in ms."""
    servers = list(dict.fromkeys(row.server for row in rows))
    found = {(row.cell, row.server): row for row in rows}
    lines = []
    for cell in dict.fromkeys(row.cell for row in rows):
        line = [cell]
        for server in servers:
            row = found.get((cell, server))
            line.append(_short(row) if row else "–")  # noqa: RUF001
        lines.append(line)
    return ["missing % · p50 · p99 · max, ms", *servers], lines


def _short(row: Row) -> str:
    missing = percent(row.missing_percent)
    latencies = [f"{row.milliseconds(share):,.0f}" for share in ("p50", "p99", "max")]
    return " · ".join([f"**{missing}**" if row.missing_percent else missing, *latencies])
