"""Runs one lobby (`python -m lobby_gateway.lobby`). Started by the operator, by local mode, or by hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lobby_gateway.clients import token_key_file
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.errors import UserError
from lobby_gateway.lobby.process import Addresses, LobbyProcess
from lobby_gateway.lobby.watched_files import (
    EnvironmentSecrets,
    MountedSecrets,
    SecretSource,
    current_secrets,
    file_watches,
    load_lobby,
)
from lobby_gateway.process import arguments, limits, logs
from lobby_gateway.process.lifecycle import Shutdown, run
from lobby_gateway.settings import ORIGIN, LobbySettings


def parser() -> arguments.ArgumentParser:
    """The command line."""
    made = arguments.ArgumentParser(prog="python -m lobby_gateway.lobby", description=__doc__)
    made.add_argument("--file", required=True, type=Path, metavar="FILE", help="the Lobby resource, YAML or JSON")
    made.add_argument("--validated", action="store_true", help="FILE is JSON that has been validated and defaulted")
    made.add_argument(
        "--follow-file", action="store_true", help="apply changes of FILE while running, except for spec.origin"
    )
    made.add_argument("--name", required=True, type=arguments.name(), metavar="NAME", help="name of this lobby")
    made.add_argument("--host", type=arguments.address(), default="127.0.0.1", help="address for clients and trunks")
    made.add_argument("--port", type=arguments.port(), default=0, help="port for clients and trunks; 0: any free port")
    made.add_argument(
        "--admin-host", type=arguments.address(), default="127.0.0.1", help="address for /seats, /metrics, /drain"
    )
    made.add_argument("--admin-port", type=arguments.port(), default=0, help="port for the same; 0: any free port")
    arguments.add_admin_hosts(made)
    made.add_argument(
        "--secrets-directory",
        type=Path,
        metavar="DIRECTORY",
        help="folder of the origin's secrets, in files named LOBBY_SECRET_<NAME>_<KEY>; may be replaced while running "
        "(default: environment variables of these names)",
    )
    made.add_argument(
        "--origin-deny-cidrs",
        type=arguments.networks(),
        default=(),
        metavar="NETWORKS",
        help="networks that the origin may not be in, separated by commas (default: none)",
    )
    token_key_file.add_argument(made)
    limits.add_arguments(made)
    made.add_argument(
        "--stop-seconds", type=arguments.number(0.1, 3600), default=LobbySettings().stop_seconds, metavar="SECONDS",
        help="how long to wait for clients to move elsewhere before it exits (%(default)g)",
    )  # fmt: skip
    made.add_argument(
        "--end-with-stdin", action="store_true", help="stop when standard input closes: the parent exited"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a lobby until it stops; returns the exit code."""
    given = parser().parse_args(argv)
    logs.configure(given.name)
    addresses = Addresses(
        host=given.host,
        port=given.port,
        admin_host=given.admin_host,
        admin_port=given.admin_port,
        admin_hosts=given.admin_hosts,
    )

    async def serve(stopping: Shutdown) -> None:
        process = LobbyProcess(
            lobby,
            given.name,
            keys=keys,
            secret_source=secret_source,
            resolved=resolved,
            settings=LobbySettings(
                stop_seconds=given.stop_seconds, origin=ORIGIN._replace(denied_networks=given.origin_deny_cidrs)
            ),
            limits=limits.from_arguments(given, limits.raise_descriptor_limit()),
            proxies=proxies,
        )
        watches = file_watches(
            process,
            file=given.file if given.follow_file else None,
            validated=given.validated,
            secrets=secret_source,
            keys=keys,
            key_file=given.token_key_file,
        )
        await process.run(stopping, addresses, watches)

    try:
        proxies = TrustedProxies(given.trusted_proxies)
        lobby = load_lobby(given.file, validated=given.validated)
        keys = token_key_file.token_keys(given.token_key_file, os.environ)
        folder: Path | None = given.secrets_directory
        secret_source: SecretSource = (
            MountedSecrets(folder) if folder is not None else EnvironmentSecrets(dict(os.environ))
        )
        resolved = current_secrets(secret_source, lobby.spec.origin)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return run(serve, end_with_stdin=given.end_with_stdin)
