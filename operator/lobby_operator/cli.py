"""`lobby`: one function per command. Invalid input is one line on standard error and exit code 2."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from lobby_gateway.commands.bench import command as bench
from lobby_gateway.errors import UserError
from lobby_gateway.process import output
from lobby_gateway.process.arguments import (
    Accepted,
    ArgumentParser,
    add_admin_hosts,
    address,
    integer,
    name,
    number,
    port,
    websocket_url,
)
from lobby_operator.simulate import command as simulate

MAX_NAME = 50
"""Longest name of a Lobby (`crds/lobbies.yaml`): its lobbies and pods append a number to it."""

_DESCRIPTION = "One WebSocket connection to an origin, shared by any number of clients."


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code. A command whose output nobody reads any more ends quietly."""
    try:
        try:
            code = _run(argv)
        except SystemExit:  # of argparse, for instance after --help
            output.flush()
            raise
        output.flush()
    except BrokenPipeError:
        if not output.reader_left():
            raise
        return output.READER_GONE
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:  # nothing is running yet that needs an orderly shutdown
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
    _add_check(commands)
    _add_origin(commands)
    _add_bench(commands)
    _add_simulate(commands)
    version_command = commands.add_parser("version", help="show the version", description="Show the version.")
    version_command.set_defaults(run=_version)
    return parser


def _add_up(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    up = commands.add_parser(
        "up",
        help="serve Lobbies on this machine, without a cluster",
        description="Serve Lobbies on this machine: runs greeters and lobbies as child processes.",
    )
    source = up.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--origin", type=websocket_url(), metavar="URL", help="serve the stream of this WebSocket server"
    )
    source.add_argument(
        "-f",
        "--file",
        action="append",
        type=Accepted(str, "a YAML file with a Lobby"),
        metavar="FILE",
        help="serve the Lobby in a YAML file, and apply its changes; can be repeated",
    )
    source.add_argument("--demo", action="store_true", help="serve a built-in ticker")
    up.add_argument("--name", type=name(MAX_NAME), help="name of the Lobby with --origin or --demo; its path is /NAME")
    up.add_argument("--host", type=address(), default="127.0.0.1", help="address for clients (%(default)s)")
    up.add_argument("--port", type=port(), default=8000, help="port for clients; 0: any free port (%(default)s)")
    up.add_argument(
        "--admin-port", type=port(), default=8001, help="port of the status page and metrics on 127.0.0.1 (%(default)s)"
    )
    add_admin_hosts(up)
    up.add_argument("--seats", type=integer(1, 4096), help="seats of one lobby (512, or as in the file)")
    up.add_argument(
        "--greeters",
        type=integer(1, 64),
        default=1,
        help="greeter processes that share the port (%(default)s)",
    )
    up.add_argument("--plain", action="store_true", help="print plain lines, even on a terminal")
    up.set_defaults(run=_up)


def _add_check(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="check the file of a Lobby, and try its origin",
        description="Check the files of Lobbies, and say what each does with its origin. With --connect, try it once.",
    )
    parser.add_argument(
        "-f",
        "--file",
        action="append",
        required=True,
        type=Accepted(Path, "a YAML file with a Lobby"),
        metavar="FILE",
        help="the Lobby; can be repeated",
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="connect to each origin once, and print each step until the stream flows; secrets come from the environment "
        "variables LOBBY_SECRET_<NAME>_<KEY>",
    )
    parser.add_argument(
        "--seconds",
        type=number(0.1, 3600),
        default=20.0,
        help="with --connect: how long to wait for the first message of the stream (%(default)s)",
    )
    parser.set_defaults(run=_check)


def _add_origin(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    # `python -m lobby_gateway.commands.origin` has the same options.
    from lobby_gateway.commands import origin as origin_command  # noqa: PLC0415  only for this command

    origin = commands.add_parser(
        "origin",
        help="run a small origin for testing",
        description="Run a small origin for testing: every connection gets the same messages, each with a number and a time.",
    )
    origin_command.add_arguments(origin)
    origin.set_defaults(run=origin_command.main)


def _add_bench(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="open many clients and measure what they receive",
        description="Open many clients of a WebSocket server; report what they receive, the latency, and missing messages.",
    )
    bench.add_arguments(parser)
    parser.set_defaults(run=bench.main)


def _add_simulate(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    parser = commands.add_parser(
        "simulate",
        help="try how many lobbies a crowd of clients gets",
        description="Simulate the clients of a Lobby, up to two million; report what the planner decides and what it costs "
        "them: lobbies, refusals, waits and moves. Nothing is started.",
    )
    simulate.add_arguments(parser)
    parser.set_defaults(run=simulate.main)


def _up(arguments: argparse.Namespace) -> int:
    from lobby_operator.local.up import UpSettings, run  # noqa: PLC0415  # slow, and only for this command

    return run(
        UpSettings(
            origin=arguments.origin,
            files=tuple(arguments.file or ()),
            demo=arguments.demo,
            name=arguments.name,
            host=arguments.host,
            port=arguments.port,
            admin_port=arguments.admin_port,
            admin_hosts=arguments.admin_hosts,
            seats=arguments.seats,
            greeters=arguments.greeters,
            plain=arguments.plain,
        )
    )


def _check(arguments: argparse.Namespace) -> int:
    from lobby_gateway.commands import check  # noqa: PLC0415  # slow, and only for this command

    return check.main(arguments.file, connect=arguments.connect, seconds=arguments.seconds)


def _version(_arguments: argparse.Namespace) -> int:
    print(f"lobby {version('lobby-gateway')}")  # noqa: T201
    return 0
