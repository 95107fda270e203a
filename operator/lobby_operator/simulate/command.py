"""`lobby simulate`: what the planner does with a crowd, and what that costs the clients.

The simulation is imported when it runs, because every `lobby` command imports this module.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lobby_gateway.errors import UserError
from lobby_gateway.process.arguments import Accepted, integer
from lobby_operator.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from lobby_operator.planner.spec import PlannerSpec

MAX_CLIENTS = 2_000_000
"""Most clients: two minutes, and more lobbies than one Lobby should have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lobby simulate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, SCENARIOS))
    listed = "\n".join(f"  {name:{width}}  {scenario.sentence}" for name, scenario in SCENARIOS.items())
    parser.epilog = f"scenarios:\n{listed}"
    parser.add_argument("scenario", choices=list(SCENARIOS), metavar="SCENARIO", help="what happens; see below")
    parser.add_argument(
        "--clients", type=integer(1, MAX_CLIENTS), default=10_000, help="number of clients (%(default)s)"
    )
    parser.add_argument(
        "-f",
        "--file",
        type=Accepted(str, "a YAML file with a Lobby"),
        metavar="FILE",
        help="simulate the Lobby in a YAML file (a Lobby with the defaults and any number of lobbies)",
    )
    parser.add_argument(
        "--seed", type=integer(0, 2**32 - 1), default=1, help="the same seed gives the same result (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--plot",
        type=Accepted(_svg, "a file name that ends with .svg"),
        metavar="FILE",
        help="write a plot to an SVG file",
    )


def _svg(text: str) -> Path:
    if not text.lower().endswith(".svg"):
        raise ValueError("is not an SVG file")
    return Path(text)


def main(arguments: argparse.Namespace) -> int:
    """Runs `lobby simulate`; returns the exit code.

    Raises:
        UserError: the Lobby is invalid, or the plot can't be written.
    """
    from lobby_operator.simulate.simulation import Simulation  # noqa: PLC0415

    if arguments.plot is not None:
        _write(arguments.plot, "")  # a minute later would be a pity
    spec, wait_seconds = _lobby(arguments.file)
    scenario = SCENARIOS[arguments.scenario]
    simulation = Simulation(scenario, spec, arguments.clients, wait_seconds=wait_seconds, seed=arguments.seed)
    with _progress(scenario.name) as progress:
        report = simulation.run(progress)
    if arguments.plot is not None:
        from lobby_operator.simulate.plot import draw  # noqa: PLC0415

        title = f"{scenario.name}, {arguments.clients:,} clients, {spec.seats} seats per lobby"
        _write(arguments.plot, draw(report, title))
    if arguments.json:
        print(json.dumps(report.to_json()))  # noqa: T201
    else:
        print(f"{scenario.name}: {scenario.sentence}")  # noqa: T201
        for name, value in report.lines():
            print(f"  {name:9} {value}")  # noqa: T201
    return 0


def _lobby(file: str | None) -> tuple[PlannerSpec, float]:
    """The Lobby to simulate, and how long its clients wait for a seat."""
    from lobby_gateway.resource.schema import load_file  # noqa: PLC0415
    from lobby_gateway.resource.spec import lobby_from_resource  # noqa: PLC0415
    from lobby_operator.planner.spec import PlannerSpec  # noqa: PLC0415

    if file is None:
        return PlannerSpec(lobby="prices", max_replicas=MAX_CLIENTS), 15.0
    lobby = lobby_from_resource(load_file(file))
    return PlannerSpec.of(lobby), lobby.spec.wait_seconds


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--plot: can't write {path} ({error.strerror}); accepted: a file that can be written"
        ) from error


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float], None] | None]:
    """Shows how much is done on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda share: print(f"\r{name}: {share:4.0%}", end="", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)  # noqa: T201
