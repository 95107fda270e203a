"""What `lobby bench` found out: as a table for people, as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from lobby_gateway.commands.bench.swarm import Swarm

SHARES = (0.5, 0.99, 0.999)
BUSY = 0.9
"""Above this share of a core the figures may be those of the bench itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        url: that clients connected to.
        clients: that were asked for.
        connected: clients that got in.
        redirects: that were followed.
        refused: clients that were turned away, by HTTP status.
        failed: clients that did not get in for another reason, by reason.
        connect_seconds: until the last client was in, or not.
        seconds: that counted.
        deliveries: messages received in that time.
        deliveries_per_second: likewise.
        bytes_per_second: of their frames.
        stamped: deliveries that had a number.
        timed: those of them that had a time, too, at clients whose latencies were measured.
        timed_clients: these clients, evenly among all.
        latency_ms: milliseconds between that time and the arrival: `p50`, `p99`, `p99.9`; empty without times.
        gaps: messages that never came to a client, though a later one did.
        duplicates: messages that came to a client again.
        reorderings: messages that came to a client after a later one.
        restarts: times that the numbers of a client began anew.
        silent: clients that got in and received nothing.
        disconnects: clients that were in and left before the end, by close code, or `lost` without one.
        cpu: share of a core that the bench itself took.
    """

    url: str
    clients: int
    connected: int
    redirects: int
    refused: Mapping[str, int]
    failed: Mapping[str, int]
    connect_seconds: float
    seconds: float
    deliveries: int
    deliveries_per_second: float
    bytes_per_second: float
    stamped: int
    timed: int
    timed_clients: int
    latency_ms: Mapping[str, float]
    gaps: int
    duplicates: int
    reorderings: int
    restarts: int
    silent: int
    disconnects: Mapping[str, int]
    cpu: float

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def report(
    swarm: Swarm, *, url: str, clients: int, connect_seconds: float, seconds: float, cpu_seconds: float
) -> Report:
    """What came of a run.

    Args:
        swarm: its clients.
        url: that they connected to.
        clients: that were asked for.
        connect_seconds: until the last one was in, or not.
        seconds: that counted.
        cpu_seconds: processor time of this process in them.
    """
    received = swarm.receiver.received
    order = received.order
    timed = len(received.latencies)
    quantiles = received.latencies.quantiles(SHARES) if timed else []
    each_second = 1 / seconds if seconds else 0.0
    return Report(
        url=url,
        clients=clients,
        connected=swarm.connected,
        redirects=swarm.redirects,
        refused=dict(swarm.refused),
        failed=dict(swarm.failed),
        connect_seconds=round(connect_seconds, 3),
        seconds=round(seconds, 3),
        deliveries=received.deliveries,
        deliveries_per_second=round(received.deliveries * each_second, 1),
        bytes_per_second=round(received.bytes * each_second, 1),
        stamped=received.stamped,
        timed=timed,
        timed_clients=swarm.timed,
        latency_ms={
            f"p{share * 100:g}": round(value * 1e3, 3) for share, value in zip(SHARES, quantiles, strict=False)
        },
        gaps=order.gaps,
        duplicates=order.duplicates,
        reorderings=order.reorderings,
        restarts=order.restarts,
        silent=swarm.silent,
        disconnects=dict(swarm.disconnects),
        cpu=round(cpu_seconds * each_second, 3),
    )


def table(told: Report) -> Table:
    """The same for people."""
    shown = Table(box=box.SIMPLE, show_header=False, title=told.url, title_justify="left")
    shown.add_column(style="dim")
    shown.add_column()
    rows = {
        "clients": f"{told.connected:,} of {told.clients:,} connected in {told.connect_seconds:.2f} s",
        "refused": _by(told.refused),
        "failed": _by(told.failed),
        "redirects": f"{told.redirects:,}" if told.redirects else "",
        **(_received(told) if told.connected else {}),
    }
    for name, value in rows.items():
        if value:
            shown.add_row(name, value)
    return shown


def _received(told: Report) -> dict[str, str]:
    return {
        "deliveries": f"{told.deliveries_per_second:,.0f}/s, {told.deliveries:,} in {told.seconds:.1f} s",
        "bytes": f"{told.bytes_per_second / 1e6:,.2f} MB/s",
        "latency": _latency(told),
        "gaps": f"{told.gaps:,}" if told.stamped else "no message has a number",
        "duplicates": f"{told.duplicates:,}" if told.stamped else "",
        "reorderings": f"{told.reorderings:,}" if told.stamped else "",
        "restarts": f"{told.restarts:,} (of the numbers, at a client)" if told.restarts else "",
        "disconnects": _by(told.disconnects) or "0",
        "silent": f"{told.silent:,} clients received nothing" if told.silent else "",
        "this process": f"{told.cpu:.0%} of a core" + (_TOO_BUSY if told.cpu > BUSY else ""),
    }


def _latency(told: Report) -> str:
    if not told.latency_ms:
        return "no message has a time"
    shown = ", ".join(f"{name} {value:,.2f} ms" for name, value in told.latency_ms.items())
    return shown if told.timed_clients == told.connected else f"{shown} (of {told.timed_clients:,} clients)"


_TOO_BUSY = ": the figures may be its own, not those of what it measures"


def _by(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what}: {count:,}" for what, count in sorted(counts.items()))
