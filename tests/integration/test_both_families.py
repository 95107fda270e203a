"""Processes that listen on all addresses, as in a pod, are reached over IPv4 and IPv6."""

from __future__ import annotations

import json
import socket
import sys

import pytest
from tests.support import web
from tests.support.lobby import greeter_process, lobby_process, new_key, with_open
from tests.support.processes import running
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_resource

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")

ALL = ("--host", "::", "--admin-host", "::")
HOSTS = ("127.0.0.1", "[::1]")


def test_a_lobby_and_a_greeter_serve_clients_of_both_families() -> None:
    async def main() -> None:
        key = new_key()
        async with ticker() as origin:
            resource = lobby_resource("prices", origin.url, clients_limits={"connectionsPerAddress": 1})
            async with (
                lobby_process(resource, key=key, options=ALL) as lobby,
                greeter_process(key=key, options=ALL) as greeter,
            ):
                for host in HOSTS:
                    for admin in (lobby.admin, greeter.admin):
                        assert (await web.get(f"{admin.replace('127.0.0.1', host)}/healthz")).status == 200
                entry = {**lobby.directory_entry, "address": f"[::1]:{lobby.port}"}
                greeter.set_directory({**with_open(resource, lobby), "status": {"open": [entry]}})
                url = greeter.url("/prices")
                async with Swarm(url) as old, Swarm(url.replace("127.0.0.1", "[::1]")) as new:
                    # The first 64 bits of an IPv6 address are limited together: IPv4-mapped ones would be those of ::1, too.
                    await old.connect_all(1)
                    await new.connect_all(1)
                    for each in (old, new):
                        await each.each_gets(2)
                        (refused,) = await each.connect(1)
                        assert refused.status == 429

    run(main(), deadline=60)


def test_the_demo_origin_serves_both_families() -> None:
    async def main() -> None:
        command = ("-m", "lobby_gateway.commands.origin", "--host", "::", "--port", "0", "--end-with-stdin")
        async with running("origin", sys.executable, *command) as process:
            port = json.loads((await process.line(r"^\{.*\}$"))[0])["port"]
            for host in HOSTS:
                assert (await web.get(f"http://{host}:{port}/healthz")).status == 200

    run(main(), deadline=30)
