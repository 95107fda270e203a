"""The results of `lobby bench`: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from lobby_gateway.commands.bench.server_metrics import ServerReport
from lobby_gateway.commands.bench.swarm import Swarm

SHARES = (0.5, 0.99, 0.999)
BUSY = 0.9
"""Above this share of a core, the figures may reflect the bench itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run.

    Attributes:
        url: the URL clients connected to.
        clients: requested number of clients.
        connected: clients that connected.
        redirects: redirects followed.
        refused: clients refused, by HTTP status.
        failed: clients that failed to connect for another reason, by reason.
        connect_seconds: until the last client had connected or failed.
        seconds: duration of the measurement.
        deliveries: messages received while measuring.
        deliveries_per_second: the same per second.
        bytes_per_second: bytes of their frames, per second.
        stamped: deliveries that contained a number.
        timed: deliveries that contained a time as well, at clients whose latency is measured.
        timed_clients: number of these clients, evenly spread over all.
        latency_ms: milliseconds from that time to the arrival: `p50`, `p99`, `p99.9`; empty without times.
        gaps: messages a client never received although it received a later one.
        duplicates: messages a client received again.
        reorderings: messages a client received after a later one.
        restarts: times a client's numbers started over.
        silent: clients that connected and received nothing.
        disconnects: clients that connected and left before the end, by close code, or `lost` without one.
        cpu: share of a core the bench itself used.
        server: what the server said meanwhile; None if it was not asked.
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
    server: ServerReport | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def report(
    swarm: Swarm,
    *,
    url: str,
    clients: int,
    connect_seconds: float,
    seconds: float,
    cpu_seconds: float,
    server: ServerReport | None = None,
) -> Report:
    """The result of a run.

    Args:
        swarm: its clients.
        url: the URL they connected to.
        clients: requested number of clients.
        connect_seconds: until the last one had connected or failed.
        seconds: duration of the measurement.
        cpu_seconds: CPU time this process used while measuring.
        server: what the server said meanwhile, if it was asked.
    """
    received = swarm.receiver.received
    order = received.order
    timed = len(received.latencies)
    quantiles = received.latencies.quantiles(SHARES) if timed else []
    rate = 1 / seconds if seconds else 0.0
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
        deliveries_per_second=round(received.deliveries * rate, 1),
        bytes_per_second=round(received.bytes * rate, 1),
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
        cpu=round(cpu_seconds * rate, 3),
        server=server,
    )


def table(result: Report) -> Table:
    """A report for people."""
    rows_table = Table(box=box.SIMPLE, show_header=False, title=result.url, title_justify="left")
    rows_table.add_column(style="dim")
    rows_table.add_column()
    rows = {
        "clients": f"{result.connected:,} of {result.clients:,} connected in {result.connect_seconds:.2f} s",
        "refused": _by(result.refused),
        "failed": _by(result.failed),
        "redirects": f"{result.redirects:,}" if result.redirects else "",
        **(_received(result) if result.connected else {}),
    }
    for name, value in rows.items():
        if value:
            rows_table.add_row(name, value)
    return rows_table


def _received(result: Report) -> dict[str, str]:
    return {
        "deliveries": f"{result.deliveries_per_second:,.0f}/s, {result.deliveries:,} in {result.seconds:.1f} s",
        "bytes": f"{result.bytes_per_second / 1e6:,.2f} MB/s",
        "latency": _latency(result),
        "gaps": f"{result.gaps:,}" if result.stamped else "messages have no numbers",
        "duplicates": f"{result.duplicates:,}" if result.stamped else "",
        "reorderings": f"{result.reorderings:,}" if result.stamped else "",
        "restarts": f"{result.restarts:,} (a client's numbers started over)" if result.restarts else "",
        "disconnects": _by(result.disconnects) or "0",
        "silent": _silent(result.silent),
        **(_of_server(result.server) if result.server is not None else {}),
        "this process": f"{result.cpu:.0%} of a core" + (_TOO_BUSY if result.cpu > BUSY else ""),
    }


def _of_server(server: ServerReport) -> dict[str, str]:
    line, not_reading = server.behind.get("line", 0), server.behind.get("not_reading", 0)
    missed = server.missed_samples
    return {
        "dropped": ", ".join(f"{count:,} {reason}" for reason, count in server.dropped.items() if count) or "0",
        "behind": f"up to {line:,} waiting for the line, {not_reading:,} not reading" if line or not_reading else "0",
        "lag": f"up to {server.lag_messages:,} messages, {server.lag_ms:,.0f} ms",
        "metrics": f"{missed:,} {'sample' if missed == 1 else 'samples'} failed" if missed else "",
    }


def _silent(count: int) -> str:
    return f"{count:,} {'client' if count == 1 else 'clients'} received nothing" if count else ""


def _latency(result: Report) -> str:
    if not result.latency_ms:
        return "messages have no times"
    quantiles = ", ".join(f"{name} {value:,.2f} ms" for name, value in result.latency_ms.items())
    return (
        quantiles if result.timed_clients == result.connected else f"{quantiles} (of {result.timed_clients:,} clients)"
    )


_TOO_BUSY = ": the figures may reflect the bench rather than the server"


def _by(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what}: {count:,}" for what, count in sorted(counts.items()))
