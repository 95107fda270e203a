"""`lobby bench`: opens clients, checks what they receive, and reports how fast and how complete it is.

Its dependencies are imported when it runs, because every `lobby` command imports this module.
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
from lobby_gateway.process.arguments import http_url, integer, number, websocket_url

MAX_CLIENTS = 100_000
_OTHER_DESCRIPTORS = 32

ShowProgress = Callable[[str, float, float], None]
"""Takes the current step, how much of it is done, and how much there is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lobby bench`."""
    parser.add_argument(
        "url", type=websocket_url(), metavar="URL", help="a ws:// or wss:// URL of a Lobby or any other server"
    )
    parser.add_argument("--clients", type=integer(1, MAX_CLIENTS), default=100, help="number of clients (%(default)s)")
    parser.add_argument(
        "--seconds",
        type=number(0.1, 86_400),
        default=10.0,
        help="how long to measure once they are connected (%(default)g)",
    )
    parser.add_argument(
        "--ramp",
        type=number(0, 3600),
        default=1.0,
        metavar="SECONDS",
        help="spread connecting evenly over this time (%(default)g)",
    )
    parser.add_argument(
        "--metrics",
        type=http_url(),
        action="append",
        default=[],
        metavar="URL",
        help="also report messages dropped, and how far clients lag, from /metrics of a lobby or greeter, or from /targets "
        "of `lobby up`; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def main(arguments: argparse.Namespace) -> int:
    """Runs `lobby bench`; returns the exit code: 0, 1 if no client connected, 130 if it was interrupted.

    Raises:
        UserError: this machine does not allow that many clients, or the metrics of the server cannot be read.
    """
    from rich.console import Console  # noqa: PLC0415

    from lobby_gateway.commands.bench.report import report, table  # noqa: PLC0415
    from lobby_gateway.commands.bench.server_metrics import ServerWatch  # noqa: PLC0415
    from lobby_gateway.commands.bench.swarm import Swarm  # noqa: PLC0415
    from lobby_gateway.process.limits import raise_descriptor_limit  # noqa: PLC0415

    room = raise_descriptor_limit() - _OTHER_DESCRIPTORS
    if arguments.clients > room:
        raise UserError(f"--clients: {arguments.clients} is too large here (`ulimit -n`); accepted: 1 to {room}")
    watch = ServerWatch(arguments.metrics) if arguments.metrics else None
    if watch is not None:
        watch.start()
    gc.collect()
    gc.freeze()  # objects created at import need no further collection
    swarm = Swarm(arguments.url)
    connect_seconds = seconds = cpu = 0.0
    code = 0
    with _progress() as show:
        try:
            connect_seconds = swarm.open(
                arguments.clients, arguments.ramp, lambda: show("connecting", swarm.decided, arguments.clients)
            )
            if swarm.connected:
                started, cpu = time.monotonic(), time.process_time()
                try:
                    swarm.measure(
                        arguments.seconds, lambda: show("measuring", time.monotonic() - started, arguments.seconds)
                    )
                finally:
                    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        except KeyboardInterrupt:
            code = 128 + signal.SIGINT
    result = report(
        swarm,
        url=arguments.url,
        clients=arguments.clients,
        connect_seconds=connect_seconds,
        seconds=seconds,
        cpu_seconds=cpu,
        server=watch.stop() if watch is not None else None,
    )
    swarm.close()
    if arguments.json:
        print(json.dumps(result.to_json()))  # noqa: T201
    else:
        Console().print(table(result))
    return code or (0 if result.connected else 1)


@contextmanager
def _progress() -> Iterator[ShowProgress]:
    """A progress bar on standard error, if it is a terminal."""
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
