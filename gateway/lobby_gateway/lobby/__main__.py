"""`python -m lobby_gateway.lobby`: one lobby. The operator and local mode start it; so can anyone by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lobby_gateway import arguments, logs
from lobby_gateway.errors import UserError
from lobby_gateway.lobby.process import Addresses, LobbyProcess
from lobby_gateway.model.spec import Lobby, lobby_from_resource
from lobby_gateway.model.token import key_from_hex
from lobby_gateway.net import limits
from lobby_gateway.net.auth import TrustedProxies
from lobby_gateway.net.lifecycle import Stopping, run
from lobby_gateway.settings import TOKEN_KEY_VARIABLE, LobbySettings


def parser() -> arguments.ArgumentParser:
    """The command line."""
    made = arguments.ArgumentParser(prog="python -m lobby_gateway.lobby", description=__doc__)
    made.add_argument("--file", required=True, metavar="FILE", help="the Lobby resource, YAML or JSON")
    made.add_argument("--validated", action="store_true", help="FILE is JSON that was checked and defaulted already")
    made.add_argument("--name", required=True, type=arguments.name(), metavar="NAME", help="of this lobby")
    made.add_argument("--host", type=arguments.address(), default="127.0.0.1", help="for clients and trunks")
    made.add_argument("--port", type=arguments.port(), default=0, help="for clients and trunks; 0: a free one")
    made.add_argument(
        "--admin-host", type=arguments.address(), default="127.0.0.1", help="for /seats, /metrics, /drain"
    )
    made.add_argument("--admin-port", type=arguments.port(), default=0, help="for /seats, /metrics, /drain")
    limits.add_arguments(made)
    made.add_argument("--end-with-stdin", action="store_true", help="stop when standard input ends: the parent is gone")
    return made


def load(file: Path, *, validated: bool) -> Lobby:
    """Reads a Lobby.

    Checking needs libraries that would double this process for good, so a child process does it.

    Raises:
        UserError: the file can't be read, or is not accepted.
    """
    if validated:
        try:
            document: Any = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"--file: {file} can't be read ({error}); accepted: a checked Lobby as JSON") from error
    else:
        command = [sys.executable, "-m", "lobby_gateway.model.schema", str(file)]
        checked = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if checked.returncode:
            raise UserError(checked.stderr.decode(errors="replace").strip())
        document = json.loads(checked.stdout)
    return lobby_from_resource(document)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a lobby to its end; returns the exit code."""
    given = parser().parse_args(argv)
    logs.configure(given.name)
    addresses = Addresses(host=given.host, port=given.port, admin_host=given.admin_host, admin_port=given.admin_port)

    async def serve(stopping: Stopping) -> None:
        process = LobbyProcess(
            lobby,
            given.name,
            key=key,
            environment=environment,
            settings=LobbySettings(),
            limits=limits.from_arguments(given, limits.raise_descriptor_limit()),
            proxies=proxies,
        )
        await process.run(stopping, addresses)

    try:
        proxies = TrustedProxies.parse(given.trusted_proxies)
        lobby = load(Path(given.file), validated=given.validated)
        key = key_from_hex(os.environ.get(TOKEN_KEY_VARIABLE, ""), TOKEN_KEY_VARIABLE)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    environment = dict(os.environ)
    return run(serve, end_with_stdin=given.end_with_stdin)


if __name__ == "__main__":
    sys.exit(main())
