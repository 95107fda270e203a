"""`python -m lobby_gateway.greeter`: takes every new client and brings it to a lobby."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lobby_gateway import arguments, logs
from lobby_gateway.errors import UserError
from lobby_gateway.greeter.directory import StdinSource
from lobby_gateway.greeter.process import GreeterSettings, serve
from lobby_gateway.net import limits, token_key_file
from lobby_gateway.net.auth import TrustedProxies
from lobby_gateway.net.lifecycle import Stopping, run


def parser() -> arguments.ArgumentParser:
    """The command line."""
    made = arguments.ArgumentParser(prog="python -m lobby_gateway.greeter", description=__doc__)
    made.add_argument("--host", type=arguments.address(), default="127.0.0.1", help="for clients")
    made.add_argument("--port", type=arguments.port(), default=0, help="for clients; 0: a free one")
    made.add_argument("--admin-host", type=arguments.address(), default="127.0.0.1", help="for /waiting, /metrics")
    made.add_argument("--admin-port", type=arguments.port(), default=0, help="for /waiting, /metrics; 0: a free one")
    made.add_argument("--reuse-port", action="store_true", help="share the port with other greeters (SO_REUSEPORT)")
    token_key_file.add_argument(made)
    limits.add_arguments(made)
    limits.add_max_clients(made)
    made.add_argument(
        "--directory-from-stdin",
        action="store_true",
        required=True,
        help='each line on standard input is {"items": [...]}: all Lobbies, with status; its end ends the greeter',
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a greeter to its end; returns the exit code."""
    given = parser().parse_args(argv)
    logs.configure("greeter")
    try:
        settings = GreeterSettings(
            host=given.host,
            port=given.port,
            admin_host=given.admin_host,
            admin_port=given.admin_port,
            reuse_port=given.reuse_port,
            trusted_proxies=TrustedProxies.parse(given.trusted_proxies),
            token_keys=token_key_file.token_keys(given.token_key_file, os.environ),
            token_key_file=given.token_key_file,
            limits=limits.from_arguments(given, limits.raise_descriptor_limit()),
        )
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2

    async def greet(stopping: Stopping) -> None:
        await serve(settings, StdinSource(), stopping)

    return run(greet)


if __name__ == "__main__":
    sys.exit(main())
