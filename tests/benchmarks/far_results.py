"""Results over a far line: one row for each cell, server and round; stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.far_cells import Cell, Stream

SHARES: Final = ("p50", "p99", "max")
LATE_LINE_MS: Final = 3
"""More than this, and the line was short of CPU time: its round trips were longer than they should have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The result of one server in one cell.

    Attributes:
        cell: what was measured.
        server: name of the server.
        load: what `c/far.c` counted.
        line: what `c/line.c` counted.
        dropped: messages that the server says it dropped, by process and reason.
        cpu_seconds: of all processes of the server.
    """

    cell: Cell
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
                row.cell.name,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshakes:
    """How long far clients took to connect.

    Attributes:
        server: name of the server.
        rtt_ms: round-trip time of the line.
        tls: whether nginx stood in front.
        seconds: one per client, sorted.
    """

    server: str
    rtt_ms: float
    tls: bool
    seconds: Sequence[float]

    def line(self) -> list[str]:
        """Its line of a table with `HANDSHAKE_HEAD`."""
        middle, slowest = median(self.seconds) * 1e3, self.seconds[-1] * 1e3
        front = "nginx in front" if self.tls else "none"
        return [
            f"{self.rtt_ms:g} ms",
            self.server,
            front,
            f"{middle:,.0f}",
            f"{slowest:,.0f}",
            f"{middle / self.rtt_ms:.1f}",
        ]


HANDSHAKE_HEAD: Final = ("round trip", "server", "TLS", "median, ms", "slowest, ms", "median, round trips")


@dataclass(slots=True)
class FarResults:
    """All results.

    Attributes:
        rows: of streams.
        handshakes: of clients that connect.
        about: when and where they were measured.
        missing: servers that could not take part, and why.
        failed: runs that failed, with their errors.
    """

    rows: list[Row] = field(default_factory=list)
    handshakes: list[Handshakes] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def save(self, file: Path) -> None:
        """Writes them, with the figures that are derived from them."""
        told = asdict(self)
        for row, each in zip(self.rows, told["rows"], strict=True):
            each |= {"name": row.cell.name, "missing_percent": row.missing_percent}
            each |= {f"{share}_ms": row.milliseconds(share) for share in SHARES}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(told, indent=1))

    @classmethod
    def load(cls, file: Path) -> FarResults:
        """Reads what `save` wrote."""
        told = json.loads(file.read_text())
        rows = [_row(each) for each in told["rows"]]
        handshakes = [Handshakes(**each) for each in told["handshakes"]]
        return cls(rows, handshakes, told["about"], told["missing"], told["failed"])


def _row(told: Mapping[str, Any]) -> Row:
    cell = Cell(**{**told["cell"], "stream": Stream(**told["cell"]["stream"])})
    names = ("server", "load", "line", "dropped", "cpu_seconds")
    return Row(cell=cell, **{name: told[name] for name in names})
