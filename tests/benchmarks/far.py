"""`make bench-far`: what far clients receive, from our server and from others.

    python -m tests.benchmarks.far --rtt 100 --loss 0 --burst 900 --size 200 --servers proxied,direct,broadcast

Without options it measures the whole matrix (about 40 minutes).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar

from prometheus_client.parser import text_string_to_metric_families
from tests.benchmarks import build, contestants, machine
from tests.benchmarks.build import CACHE
from tests.benchmarks.children import child
from tests.benchmarks.contestants import Contestant, Demand, Serving
from tests.benchmarks.far_cells import CLIENTS, LAYOUTS, Cell, Matrix, Row, full_table
from tests.benchmarks.line import Line, line, skip_reason
from tests.benchmarks.machine import LOAD_CORE
from tests.benchmarks.place import Place

RESULTS: Final = CACHE / "far.json"
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
            cell=cell.name,
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


def run(cells: Sequence[Cell], names: Sequence[str], rounds: int, seed: int) -> list[Row]:
    """Measures all cells; a failed run is reported, and the others continue."""
    rows: list[Row] = []
    for number in range(rounds):
        for cell in cells:
            for name in reversed(names) if number % 2 else names:  # the machine may speed up or slow down
                contestant = SERVERS[name]
                if contestant.missing:
                    print(f"{cell.name}: {name}: skipped: {contestant.missing}", file=sys.stderr, flush=True)
                    continue
                if cell.layout == "greeter" and name != "proxied":
                    continue
                try:
                    rows.append(measure(contestant, cell, seed + number))
                except RuntimeError as error:
                    print(f"{cell.name}: {name}: failed: {str(error)[-300:]}", file=sys.stderr, flush=True)
                    continue
                print(full_table(rows[-1:])[1], flush=True)
    return rows


def save(rows: Sequence[Row], file: Path) -> None:
    """Writes results as JSON, with the figures that are derived from them."""
    told = [
        {
            **asdict(row),
            "missing_percent": row.missing_percent,
            **{f"{share}_ms": row.milliseconds(share) for share in ("p50", "p99", "max")},
        }
        for row in rows
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(told, indent=1))


def load(file: Path) -> list[Row]:
    """Reads what `save` wrote."""
    names = Row.__dataclass_fields__
    return [
        Row(**{name: value for name, value in each.items() if name in names}) for each in json.loads(file.read_text())
    ]


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
    parser.add_argument("--clients", type=int, default=CLIENTS, help="that read everything at once (%(default)s)")
    parser.add_argument("--stalled", type=int, default=0, help="additional clients that never read")
    parser.add_argument("--slow", type=int, default=0, help="additional clients that read at half of the stream's rate")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a steady stream (%(default)g)")
    parser.add_argument("--bursts", type=int, default=2, help="number of bursts (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the lost packets (%(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="results (%(default)s)")
    made = parser.parse_args(given)
    for what, known in (("servers", SERVERS), ("layout", LAYOUTS)):
        unknown = [each for each in getattr(made, what) or () if each not in known]
        if unknown:
            parser.error(f"--{what}: unknown: {', '.join(unknown)}; accepted: {', '.join(known)}")
    return made


def matrix(given: argparse.Namespace) -> Matrix:
    """The cells that the command line selects; a stream that is not mentioned takes no part if the other is."""
    whole = Matrix()
    streams = given.steady is not None or given.burst is not None

    def chosen(selected: Sequence[_T] | None, otherwise: Sequence[_T]) -> Sequence[_T]:
        return otherwise if selected is None else selected

    return Matrix(
        rtts_ms=chosen(given.rtt, whole.rtts_ms),
        losses_percent=chosen(given.loss, whole.losses_percent),
        steady=chosen(given.steady, () if streams else whole.steady),
        bursts=chosen(given.burst, () if streams else whole.bursts),
        sizes=chosen(given.size, whole.sizes),
        layouts=chosen(given.layout, whole.layouts),
        clients=given.clients,
        stalled=given.stalled,
        slow=given.slow,
        seconds=given.seconds,
        repeat=given.bursts,
    )


def main() -> int:
    """Measures what the command line selects."""
    given = arguments()
    reason = skip_reason()
    if reason:
        print(f"far clients: skipped: {reason}", file=sys.stderr)
        return 0
    with machine.precedence():
        rows = run(matrix(given).cells(), given.servers, given.rounds, given.seed)
    save(rows, given.json)
    print("\n".join(["", *full_table(rows), "", f"wrote {given.json}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
