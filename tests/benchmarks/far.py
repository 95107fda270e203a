"""`make bench-far`: what far clients receive, from our server and from others.

    python -m tests.benchmarks.far --rtt 100 --loss 0 --burst 900 --size 200 --servers proxied,direct,broadcast

Without a selection it measures everything (an hour) and writes the section of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from prometheus_client.parser import text_string_to_metric_families
from tests.benchmarks import build, contestants, far_handshakes, far_page, machine
from tests.benchmarks.build import CACHE
from tests.benchmarks.children import child
from tests.benchmarks.contestants import Contestant, Demand, Serving
from tests.benchmarks.far_cells import CLIENTS, GROUPS, HANDSHAKE_RTTS, LAYOUTS, Cell, Matrix
from tests.benchmarks.far_results import FarResults, Row, full_table
from tests.benchmarks.line import Line, line, skip_reason
from tests.benchmarks.machine import LOAD_CORE
from tests.benchmarks.place import Place
from tests.support.processes import ROOT

RESULTS: Final = CACHE / "far.json"
PAGE: Final = ROOT / "docs" / "performance.md"
SERVERS: Final = {
    "proxied": contestants.PROXIED,
    "direct": contestants.DIRECT,
    "broadcast": contestants.WEBSOCKETS,
    "ws": contestants.WS,
    "nchan": contestants.NCHAN_CONTESTANT,
}
_T = TypeVar("_T")


def measure(contestant: Contestant, cell: Cell, seed: int = 1) -> Row:
    """Runs a cell once, over a line of its own.

    Raises:
        RuntimeError: a process failed.
    """
    with line(cell.delay(seed)) as made:
        origin, server, greeter, clients = places(cell.layout, made)
        demand = Demand(cell.everyone, cell.everyone, server, greeter)
        options = ["--origin-address", origin.address, "--origin-namespace", origin.namespace]
        options += ["--client-namespace", clients.namespace, *cell.options()]
        with child("far", str(build.program("far")), *options, core=LOAD_CORE) as load:
            address = f"{origin.address}:{load.line().split()[1]}"
            with contestant.serve(address, demand) as serving, tempfile.NamedTemporaryFile("w") as paths:
                paths.write("\n".join(serving.paths) + "\n")
                paths.flush()
                pids = [*serving.holders, *serving.helpers]
                before = sum(map(machine.cpu_seconds, pids))
                load.write(serving.line(paths.name))
                load.line()  # counted
                used = sum(map(machine.cpu_seconds, pids)) - before
                dropped = dict(dropped_messages(serving))
                counted = json.loads(load.line())
                load.end()
        return Row(
            cell=cell,
            server=contestant.name,
            load=counted,
            line=made.end(),
            dropped=dropped,
            cpu_seconds=used,
        )


def places(layout: str, made: Line) -> tuple[Place, Place, Place, Place]:
    """Where origin, server, greeter and clients are."""
    near, far = made.near, made.far
    if layout == "greeter":
        return near, near, far, far
    if layout == "origin":
        return far, near, near, near
    return near, near, near, far


def dropped_messages(serving: Serving) -> Iterator[tuple[str, float]]:
    """Messages that each process says it dropped, by reason if it gives reasons."""
    for place, port in serving.admins:
        text = place.inside(lambda port=port: _get(f"http://127.0.0.1:{port}/metrics"))  # type: ignore[misc]
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.endswith("_dropped_messages_total"):
                    labels = [value for name, value in sample.labels.items() if name not in {"lobby", "namespace"}]
                    yield " ".join([sample.name.partition("_")[0], "dropped", *labels]), sample.value


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def run(cells: Sequence[Cell], names: Sequence[str], seed: int, results: FarResults) -> None:
    """Measures cells once; a failed run is recorded, and the others continue."""
    for cell in cells:
        for name in names:
            contestant = SERVERS[name]
            if contestant.missing:
                results.missing[contestant.name] = contestant.missing
            elif cell.layout != "greeter" or name == "proxied":
                with _recorded(results, f"{cell.name}: {contestant.name}"):
                    results.rows.append(measure(contestant, cell, seed))
                    print(full_table(results.rows[-1:])[1], flush=True)


def run_handshakes(results: FarResults) -> None:
    """Measures how long clients take to connect."""
    for rtt_ms, contestant, tls in itertools.product(
        HANDSHAKE_RTTS, (contestants.PROXIED, contestants.WEBSOCKETS), (False, True)
    ):
        with _recorded(results, f"handshakes, {rtt_ms} ms: {contestant.name}"):
            results.handshakes.append(far_handshakes.measure(contestant, rtt_ms, tls=tls))
            print("  ".join(results.handshakes[-1].line()), flush=True)


@contextlib.contextmanager
def _recorded(results: FarResults, what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        results.failed.append(f"{what}: {str(error)[-300:]}")
        print(results.failed[-1], file=sys.stderr, flush=True)


def everything(names: Sequence[str], rounds: int, seed: int) -> FarResults:
    """Measures all groups of cells and the handshakes."""
    results = FarResults()
    begun, others = time.monotonic(), machine.Others()
    for number in range(rounds):
        turns = names[::-1] if number % 2 else names  # the machine may speed up or slow down
        for group in GROUPS.values():
            run(group.cells(), turns, seed + number, results)
    run_handshakes(results)
    about = {"rounds": rounds, "minutes": (time.monotonic() - begun) / 60, "others": others.shares()}
    results.about = {**machine.describe([]), **about}
    return results


def _numbers(kind: Callable[[str], _T]) -> Callable[[str], list[_T]]:
    return lambda text: [kind(each) for each in text.split(",") if each]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.far", description=__doc__.split("\n")[0])
    lists = "comma-separated"
    parser.add_argument("--rtt", type=_numbers(float), metavar="MS", help=f"round-trip times, {lists}")
    parser.add_argument("--loss", type=_numbers(float), metavar="PERCENT", help=f"lost packets, {lists}")
    parser.add_argument("--steady", type=_numbers(int), metavar="RATE", help=f"messages per second, {lists}")
    parser.add_argument("--burst", type=_numbers(int), metavar="MESSAGES", help=f"messages of a burst, {lists}")
    parser.add_argument("--size", type=_numbers(int), metavar="BYTES", help=f"message sizes, {lists}")
    parser.add_argument("--servers", type=_numbers(str), default=list(SERVERS), help=f"{', '.join(SERVERS)}, {lists}")
    parser.add_argument("--layout", type=_numbers(str), help=f"what is far: {', '.join(LAYOUTS)}, {lists}")
    parser.add_argument("--clients", type=int, metavar="N", help=f"that read everything at once ({CLIENTS})")
    parser.add_argument("--stalled", type=int, metavar="N", help="additional clients that never read")
    parser.add_argument(
        "--slow", type=int, metavar="N", help="additional clients that read at half of the stream's rate"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="of a steady stream (2)")
    parser.add_argument("--bursts", type=int, metavar="N", help="number of bursts (2)")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the lost packets (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="results (%(default)s)")
    made = parser.parse_args(given)
    for what, known in (("servers", SERVERS), ("layout", LAYOUTS)):
        unknown = [each for each in getattr(made, what) or () if each not in known]
        if unknown:
            parser.error(f"--{what}: unknown: {', '.join(unknown)}; accepted: {', '.join(known)}")
    return made


_SELECTIONS: Final = {
    "rtts_ms": "rtt", "losses_percent": "loss", "steady": "steady", "bursts": "burst", "sizes": "size", "layouts": "layout",
    "clients": "clients", "stalled": "stalled", "slow": "slow", "seconds": "seconds", "repeat": "bursts",
}  # fmt: skip
"""Fields of the matrix, and the options that choose them."""


def matrix(given: argparse.Namespace) -> Matrix | None:
    """The cells that the command line selects, None for everything. A kind of stream that it does not name takes no part."""
    chosen = {name: getattr(given, option) for name, option in _SELECTIONS.items()}
    if all(value is None for value in chosen.values()):
        return None
    if given.steady is not None or given.burst is not None:
        chosen |= {"steady": given.steady or (), "bursts": given.burst or ()}
    return Matrix(**{name: value for name, value in chosen.items() if value is not None})


def main() -> int:
    """Measures what the command line selects."""
    given = arguments()
    reason = skip_reason()
    if reason:
        print(f"far clients: skipped: {reason}", file=sys.stderr)
        return 0
    selected = matrix(given)
    with machine.precedence():
        if selected is None:
            results = everything(given.servers, given.rounds, given.seed)
        else:
            results = FarResults()
            for number in range(given.rounds):
                turns = given.servers[::-1] if number % 2 else given.servers
                run(selected.cells(), turns, given.seed + number, results)
    results.save(given.json)
    print("\n".join(["", *full_table(results.rows), "", f"wrote {given.json}"]))
    for name, why in results.missing.items():
        print(f"{name}: skipped: {why}", file=sys.stderr)
    if selected is None:
        PAGE.write_text(far_page.replaced(PAGE.read_text(), far_page.section(results)))
        print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
