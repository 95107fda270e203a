"""`python -m lobby_gateway.greeter`: accepts clients and gets each one a seat in a lobby."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from lobby_gateway.clients import token_key_file
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.errors import UserError
from lobby_gateway.greeter.directory import DirectorySource, StdinSource
from lobby_gateway.greeter.process import GreeterSettings, serve
from lobby_gateway.greeter.watch import ApiServer, KubernetesSource
from lobby_gateway.process import arguments, limits, logs
from lobby_gateway.process.lifecycle import Shutdown, run


def parser() -> arguments.ArgumentParser:
    """The command line."""
    made = arguments.ArgumentParser(prog="python -m lobby_gateway.greeter", description=__doc__)
    made.add_argument(
        "--host", type=arguments.address(), default="127.0.0.1", help="address of the client port (%(default)s)"
    )
    made.add_argument("--port", type=arguments.port(), default=0, help="client port; 0: a free one")
    made.add_argument(
        "--admin-host", type=arguments.address(), default="127.0.0.1", help="address of the admin port (%(default)s)"
    )
    made.add_argument(
        "--admin-port", type=arguments.port(), default=0, help="admin port (/waiting, /metrics); 0: a free one"
    )
    arguments.add_admin_hosts(made)
    made.add_argument(
        "--stop-seconds", type=arguments.number(0.1, 3600), default=2.0, metavar="SECONDS",
        help="over how long a stopping greeter closes its clients (%(default)g)",
    )  # fmt: skip
    made.add_argument("--reuse-port", action="store_true", help="share the port with other greeters (SO_REUSEPORT)")
    token_key_file.add_argument(made)
    limits.add_arguments(made)
    limits.add_max_clients(made)
    source = made.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--directory-from-stdin",
        action="store_true",
        help='read the Lobbies from standard input: each line is {"items": [...]}, all Lobbies with status; stop at its end',
    )
    source.add_argument(
        "--directory-from-kubernetes",
        action="store_true",
        help="watch Lobbies with the service account of this pod",
    )
    scope = made.add_mutually_exclusive_group()
    scope.add_argument("--namespace", type=arguments.name(), help="watch the Lobbies of one namespace")
    scope.add_argument("--all-namespaces", action="store_true", help="watch the Lobbies of all namespaces")
    made.add_argument(
        "--prefix-paths",
        action="store_true",
        help="serve Lobbies at /NAMESPACE/PATH; the operator needs the same option",
    )
    made.add_argument(
        "--api-server", metavar="URL", help="use this API server without credentials, such as a kubectl proxy"
    )
    return made


def directory_source(given: argparse.Namespace, environment: Mapping[str, str]) -> DirectorySource:
    """The source of the Lobbies.

    Raises:
        UserError: the options conflict, or the process does not run in a pod.
    """
    scoped = given.namespace is not None or given.all_namespaces
    if given.directory_from_stdin:
        if scoped or given.api_server is not None:
            raise UserError(
                "--directory-from-stdin: cannot be combined with --namespace, --all-namespaces, --api-server; "
                "accepted: these with --directory-from-kubernetes"
            )
        return StdinSource()
    if not scoped:
        raise UserError(
            "--directory-from-kubernetes: no namespace given; accepted: --namespace NAME or --all-namespaces"
        )
    server = ApiServer.of_url(given.api_server) if given.api_server is not None else ApiServer.of_pod(environment)
    return KubernetesSource(server, given.namespace or "")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a greeter; returns the exit code."""
    given = parser().parse_args(argv)
    logs.configure("greeter")
    try:
        source = directory_source(given, os.environ)
        settings = GreeterSettings(
            host=given.host,
            port=given.port,
            admin_host=given.admin_host,
            admin_port=given.admin_port,
            admin_hosts=given.admin_hosts,
            reuse_port=given.reuse_port,
            close_seconds=given.stop_seconds,
            trusted_proxies=TrustedProxies(given.trusted_proxies),
            token_keys=token_key_file.token_keys(given.token_key_file, os.environ),
            token_key_file=given.token_key_file,
            prefix_paths=given.prefix_paths,
            limits=limits.from_arguments(given, limits.raise_descriptor_limit()),
        )
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2

    async def greet(stopping: Shutdown) -> None:
        await serve(settings, source, stopping)

    return run(greet)
