"""`make bench`: every server in turn, several rounds, on one core; writes `docs/performance.md`.

The server has one core; the origin and all clients, one C program, have the other. The servers take turns within each round,
so that a machine that becomes slower does so for all. Shown is the median over the rounds of each server's ratio to the C loop
of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import Any

from tests.benchmarks.servers import BUILT, OTHER_CORE, ROOT, available, build, serving

SERVERS = ("C loop", "lobby", "lobby + greeter", "websockets.broadcast", "npm ws")
LIMIT = SERVERS[0]
PAGE = ROOT / "docs" / "performance.md"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured.

    Attributes:
        title: for people.
        size: bytes of a message.
        mode: of the load program.
        value: likewise.
    """

    title: str
    size: int
    mode: str
    value: int


THROUGHPUT = (
    Case("64 B, one at a time", 64, "one", 1),
    Case("1 KiB, one at a time", 1024, "one", 1),
    Case("16 KiB, one at a time", 16384, "one", 1),
    Case("64 B, bursts", 64, "burst", 30000),
)
LATENCY = Case("64 B, 100 a second", 64, "rate", 100)


def cpu_seconds(processes: tuple[int, ...]) -> float:
    """CPU time that processes have used, user and system."""
    total = 0.0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def measure(name: str, case: Case, clients: int, seconds: float, python: str) -> dict[str, Any]:
    """One run of one server: what the load program says, and the CPU seconds of the server's processes.

    Raises:
        RuntimeError: the load program has no result.
    """
    arguments = [str(clients), str(case.size), case.mode, str(case.value), str(seconds)]
    command = ["taskset", "-c", OTHER_CORE, str(BUILT / "load"), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        try:
            origin_port = int(load.stdout.readline().split()[1])
            with (
                serving(name, origin_port, clients, python) as server,
                NamedTemporaryFile("w", suffix=".paths") as paths,
            ):
                paths.write("\n".join(server.paths) + "\n")
                paths.flush()
                before = cpu_seconds(server.processes)
                load.stdin.write(f"{server.port} {paths.name}\n")
                load.stdin.flush()
                answer = load.stdout.readline()
                used = cpu_seconds(server.processes) - before
        finally:
            load.kill()
    if not answer:
        raise RuntimeError(f"{name}: {case.title}: the load program has no result")
    result: dict[str, Any] = json.loads(answer)
    result["cpu_seconds"] = used
    return result


def rounds(cases: tuple[Case, ...], servers: list[str], given: argparse.Namespace) -> dict[str, dict[str, list[Any]]]:
    """All runs, by title of the case and server; one list entry a round."""
    runs: dict[str, dict[str, list[Any]]] = {case.title: {name: [] for name in servers} for case in cases}
    for number in range(given.rounds):
        for case in cases:
            for name in servers:
                result = measure(name, case, given.clients, given.seconds, given.python)
                runs[case.title][name].append(result)
                figure = f"{result['deliveries_per_second']:,}/s, p99 {result['p99_ms']} ms, {result['cpu_seconds']:.2f} CPU s"
                print(f"round {number + 1}: {case.title}: {name}: {figure}", flush=True)
    return runs


def ratio(runs: dict[str, list[Any]], name: str, key: str) -> float:
    """Median over the rounds of a server's figure in relation to the C loop's of the same round."""
    return float(median(ours[key] / limit[key] for ours, limit in zip(runs[name], runs[LIMIT], strict=True)))


def page(
    throughput: dict[str, Any], latency: dict[str, Any], given: argparse.Namespace, missing: dict[str, str]
) -> str:
    """The page, from all runs."""
    servers = list(next(iter(throughput.values())))
    version = subprocess.run([given.python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Performance",
        "",
        "<!-- Made by `make bench`. -->",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d} with `make bench`: {given.clients} clients, {given.rounds} rounds of",
        f"{given.seconds:g} s, {version} ({given.python_note}), Linux {platform.release()}, {os.cpu_count()} cores. The server has one",
        "core; origin and clients, one C program, have the other, on loopback. For `lobby + greeter` the greeter, which holds the",
        "clients, has the measured core, and the lobby shares the other one.",
        "",
        "The machine is shared and its speed drifts, so what counts is the ratio to the C loop (`tests/benchmarks/c/fan_out.c`: the",
        "least that a process can do, without checks, bounds or mailboxes) in the same round; in brackets the median deliveries a second.",
        "",
        "| | " + " | ".join(servers) + " |",
        "| --- |" + " --- |" * len(servers),
    ]
    for title, runs in throughput.items():
        cells = [
            f"{ratio(runs, name, 'deliveries_per_second'):.2f} ({median(r['deliveries_per_second'] for r in runs[name]):,.0f})"
            for name in servers
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "CPU microseconds a delivery, of all processes that a message goes through (median):", ""]
    lines += ["| | " + " | ".join(servers) + " |", "| --- |" + " --- |" * len(servers)]
    for title, runs in throughput.items():
        cells = [
            f"{median(1e6 * r['cpu_seconds'] / max(1, r['deliveries']) for r in runs[name]):.3g}" for name in servers
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "Latency from the origin's send to the client's read, in ms (median of the rounds):", ""]
    lines += ["| | " + " | ".join(servers) + " |", "| --- |" + " --- |" * len(servers)]
    for title, runs in latency.items():
        for key, label in (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9")):
            cells = [f"{median(r[key] for r in runs[name]):.2f}" for name in servers]
            lines.append(f"| {title}, {label} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "CPU seconds are from the first client's connection to the end of a run, and so have the handshakes in them, too.",
        "",
        "Bursts keep 30 kB under way, which fits every client's TCP window. What does not fit is cut to the latest 16 messages",
        "of each client, on purpose (`clients.queue`): a burst of a megabyte in one moment reaches nobody whole.",
        "",
        *(f"Left out: {name}: {why}." for name, why in missing.items()),
        "Not measured here yet: nchan as a peer, stalled clients, memory, handshakes, growth with the number of clients, compression,",
        "cost in money.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Runs everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the measured processes")
    parser.add_argument("--python-note", default="as it is installed", help="how that interpreter was built")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    build()
    missing = available()
    servers = [name for name in SERVERS if name not in missing]
    text = page(rounds(THROUGHPUT, servers, given), rounds((LATENCY,), servers, given), given, missing)
    if given.write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
