"""`lobby`: one function per command. Bad input is one line on standard error and exit code 2."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from lobby_gateway.commands.bench import command as bench
from lobby_gateway.errors import UserError
from lobby_gateway.process.arguments import Accepted, ArgumentParser, address, name, port, websocket_url, whole

MAX_NAME = 50
"""Of a Lobby: its lobbies and their pods have longer ones (`crds/lobbies.yaml`)."""

_DESCRIPTION = "One WebSocket connection to an origin, shared by any number of clients."


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:  # before there was anything to end in order
        return 128 + signal.SIGINT
    except UserError as error:
        for line in str(error).splitlines():
            print(f"lobby {arguments.command}: {line}", file=sys.stderr)  # noqa: T201
        return 2


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="lobby", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"lobby {version('lobby-gateway')}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_up(commands)
    _add_origin(commands)
    _add_bench(commands)
    shown = commands.add_parser("version", help="show the version", description="Shows the version.")
    shown.set_defaults(run=_version)
    return parser


def _add_up(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    up = commands.add_parser(
        "up",
        help="serve Lobbies on this machine, without a cluster",
        description="Serves Lobbies on this machine: greeters, lobbies and the lobby host, as child processes.",
    )
    source = up.add_mutually_exclusive_group(required=True)
    source.add_argument("--origin", type=websocket_url(), metavar="URL", help="share this WebSocket server")
    source.add_argument(
        "-f",
        "--file",
        action="append",
        type=Accepted(str, "a YAML file with a Lobby"),
        metavar="FILE",
        help="serve the Lobby of a YAML file; may be given several times",
    )
    source.add_argument("--demo", action="store_true", help="share a small ticker, started for it")
    up.add_argument("--name", type=name(MAX_NAME), help="name of the Lobby with --origin or --demo; its path is /NAME")
    up.add_argument("--host", type=address(), default="127.0.0.1", help="address for clients (%(default)s)")
    up.add_argument("--port", type=port(), default=8000, help="port for clients; 0: a free one (%(default)s)")
    up.add_argument(
        "--admin-port", type=port(), default=8001, help="port of /lobbies and /metrics on 127.0.0.1 (%(default)s)"
    )
    up.add_argument("--seats", type=whole(1, 4096), help="clients of one lobby (512, or what the file says)")
    up.add_argument("--greeters", type=whole(1, 64), default=1, help="greeter processes, all on the port (%(default)s)")
    up.add_argument("--plain", action="store_true", help="plain lines on a terminal, too")
    up.set_defaults(run=_up)


def _add_origin(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    # The ticker is a command of its own, too (`python -m lobby_gateway.commands.origin`); both have the same options.
    from lobby_gateway.commands import origin as origin_command  # noqa: PLC0415  only this command needs it

    origin = commands.add_parser(
        "origin",
        help="run a small origin to try things with",
        description="A small origin: every connection gets the same messages, with a number and a time.",
    )
    origin_command.add_arguments(origin)
    origin.set_defaults(run=origin_command.main)


def _add_bench(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    made = commands.add_parser(
        "bench",
        help="open many clients, and measure what they receive",
        description="Opens clients of a WebSocket server; says what they receive, how late, and what is missing.",
    )
    bench.add_arguments(made)
    made.set_defaults(run=bench.main)


def _up(arguments: argparse.Namespace) -> int:
    from lobby_operator.local.up import UpSettings, run  # noqa: PLC0415  # other commands need none of it

    return run(
        UpSettings(
            origin=arguments.origin,
            files=tuple(arguments.file or ()),
            demo=arguments.demo,
            name=arguments.name,
            host=arguments.host,
            port=arguments.port,
            admin_port=arguments.admin_port,
            seats=arguments.seats,
            greeters=arguments.greeters,
            plain=arguments.plain,
        )
    )


def _version(_arguments: argparse.Namespace) -> int:
    print(f"lobby {version('lobby-gateway')}")  # noqa: T201
    return 0
