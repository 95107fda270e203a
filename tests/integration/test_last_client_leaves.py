"""A lobby without clients does not need the origin: its connection is closed some time after the last client leaves."""

from __future__ import annotations

from pathlib import Path

from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import stays, until


def test_origin_connection_lasts_from_the_first_client_to_the_last(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up, Swarm(up.url) as swarm:
                await up.until_lobbies(1)
                assert origin.connections == 0  # OnDemand: a lobby without clients does not connect
                clients = await swarm.connect_all(3)
                await swarm.each_has(1)
                assert origin.connections == 1
                await swarm.close(clients[1:])
                await swarm.each_gets(2)
                assert origin.connections == 1
                await swarm.close()
                await until(lambda: origin.connections == 0, deadline=30, describe="the connection to be closed")
                (client,) = await swarm.connect_all(1)
                await swarm.each_has(1, of=[client])
                assert origin.connections == 1

    run(main(), deadline=90)


def test_origin_with_connect_always_needs_no_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource("prices", origin.url, origin_connect="Always", replicas=1)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                await until(lambda: origin.connections == 1, describe="a connection")
                async with Swarm(up.url) as swarm:
                    await swarm.connect_all(1)
                    await swarm.each_has(1)
                await stays(lambda: origin.connections == 1, seconds=1, describe="the connection was closed")

    run(main(), deadline=60)
