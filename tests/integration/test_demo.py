"""The first thing a new user runs: `lobby up --demo` and a third-party client."""

from __future__ import annotations

import json
import sys

from tests.support import web
from tests.support.proc import descendants
from tests.support.processes import running
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_up


def test_websockets_command_line_client_shows_demo_messages() -> None:
    async def main() -> None:
        async with (
            lobby_up("--demo") as up,
            running("client", sys.executable, "-m", "websockets", up.url, ends_with=None) as client,
        ):
            await client.line(r'"seq": \d+')

    run(main(), deadline=60)


def test_demo_messages_have_consecutive_numbers_and_times() -> None:
    async def main() -> None:
        async with lobby_up("--demo") as up, Swarm(up.url, keep=100) as swarm:
            clients = await swarm.connect_all(20)
            await swarm.each_has(3)
            assert (swarm.gaps, swarm.disorder, swarm.closes) == (0, 0, {}), swarm.summary()
            for client in clients:
                messages = [json.loads(payload) for _, payload in client.kept]
                times = [message["time"] for message in messages]
                assert times == sorted(times)

    run(main(), deadline=60)


def test_admin_port_serves_lobbies_and_metrics() -> None:
    async def main() -> None:
        async with lobby_up("--demo") as up, Swarm(up.url) as swarm:
            await swarm.connect_all(3)
            await up.until_clients(3)
            (lobby,) = await up.lobbies()
            assert lobby["spec"]["clients"]["seats"] == 512
            assert up.url.endswith(f"/{lobby['metadata']['name']}")
            (entry,) = lobby["status"]["open"]
            assert entry["name"] == lobby["status"]["latest"]["name"]
            assert list(up.lobby_processes()) == [entry["name"]]
            page = await web.get(f"{up.admin}/metrics")
            assert page.status == 200
            assert "lobby_operator_" in page.body.decode()

    run(main(), deadline=60)


def test_unknown_path_gets_404() -> None:
    async def main() -> None:
        async with lobby_up("--demo") as up, Swarm(up.at("/nowhere")) as swarm:
            (client,) = await swarm.connect(1)
            assert client.status == 404
            assert client.body

    run(main(), deadline=60)


def test_killed_demo_origin_is_restarted() -> None:
    async def main() -> None:
        async with lobby_up("--demo") as up, Swarm(up.url) as swarm:
            await swarm.connect_all(5)
            await swarm.each_has(1)
            (origin,) = [
                each for each in descendants(up.process.pid) if "lobby_gateway.commands.origin" in each.command
            ]
            up.kill(origin.pid)
            await up.until_gone(origin.pid)
            swarm.begin_stream()
            await swarm.each_has(2, deadline=40)
            assert len(swarm.open) == 5, swarm.summary()

    run(main(), deadline=90)
