"""`lobby bench`: opens clients, looks at what they receive, and says how fast and how well it comes.

What it needs is imported when it runs: this module is imported whatever `lobby` is asked to do.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lobby_gateway.errors import UserError
from lobby_gateway.process.arguments import number, websocket_url, whole

MAX_CLIENTS = 100_000
_OTHER_DESCRIPTORS = 32

Show = Callable[[str, float, float], None]
"""Takes what is done, how much of it, and how much there is to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lobby bench`."""
    parser.add_argument(
        "url", type=websocket_url(), metavar="URL", help="ws:// or wss://, of a Lobby or any other server"
    )
    parser.add_argument("--clients", type=whole(1, MAX_CLIENTS), default=100, help="how many (%(default)s)")
    parser.add_argument(
        "--seconds", type=number(0.1, 86_400), default=10.0, help="so long it counts, once they are in (%(default)g)"
    )
    parser.add_argument(
        "--ramp",
        type=number(0, 3600),
        default=1.0,
        metavar="SECONDS",
        help="they come in evenly over so long (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def main(arguments: argparse.Namespace) -> int:
    """Runs `lobby bench`; returns the exit code: 0, 1 if no client got in, 130 if it was interrupted.

    Raises:
        UserError: there can't be so many clients here.
    """
    from rich.console import Console  # noqa: PLC0415

    from lobby_gateway.commands.bench.report import report, table  # noqa: PLC0415
    from lobby_gateway.commands.bench.swarm import Swarm  # noqa: PLC0415
    from lobby_gateway.process.limits import raise_descriptor_limit  # noqa: PLC0415

    room = raise_descriptor_limit() - _OTHER_DESCRIPTORS
    if arguments.clients > room:
        raise UserError(f"--clients: {arguments.clients} is too large here (`ulimit -n`); accepted: 1 to {room}")
    gc.collect()
    gc.freeze()  # what was made at import is not looked at again
    swarm = Swarm(arguments.url)
    connect_seconds = seconds = cpu = 0.0
    code = 0
    with _progress() as show:
        try:
            connect_seconds = swarm.open(
                arguments.clients, arguments.ramp, lambda: show("connecting", swarm.decided, arguments.clients)
            )
            if swarm.connected:
                begun, cpu = time.monotonic(), time.process_time()
                try:
                    swarm.measure(
                        arguments.seconds, lambda: show("measuring", time.monotonic() - begun, arguments.seconds)
                    )
                finally:
                    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
    told = report(
        swarm,
        url=arguments.url,
        clients=arguments.clients,
        connect_seconds=connect_seconds,
        seconds=seconds,
        cpu_seconds=cpu,
    )
    swarm.close()
    if arguments.json:
        print(json.dumps(told.to_json()))  # noqa: T201
    else:
        Console().print(table(told))
    return code or (0 if told.connected else 1)


@contextmanager
def _progress() -> Iterator[Show]:
    """A progress bar on standard error, if that is a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False
    ) as bar:
        task = bar.add_task("connecting", total=None)

        def show(what: str, done: float, of: float) -> None:
            bar.update(task, description=what, completed=done, total=of, refresh=True)

        yield show
