"""At maxReplicas, clients without a seat wait briefly, get 503 with Retry-After, and are accepted once a seat is free."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up


def test_503_with_retry_after_until_a_seat_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=5, replicas=2, maxReplicas=2, spareSeats=0, waitSeconds=3
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await up.until_ready(2)
                clients = await swarm.connect_all(10)
                late = await swarm.connect(3)
                for client in late:
                    assert client.status == 503, swarm.summary()
                    assert int(client.headers["Retry-After"]) >= 1
                    assert client.handshake_seconds >= 3  # held for waitSeconds before it was refused
                assert len(up.lobby_processes()) == 2

                await swarm.close(clients[3:4])
                await swarm.connect_all(1)
                await swarm.each_gets(2)
                assert len(swarm.open) == 10, swarm.summary()
                await up.until_clients(10)

    run(main(), deadline=60)


def test_waiting_client_gets_the_seat_that_becomes_free(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=5, maxReplicas=1, spareSeats=0, waitSeconds=60
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                clients = await swarm.connect_all(5)
                connecting = asyncio.create_task(swarm.connect_all(1))
                await up.until_waiting(1)
                assert not connecting.done()
                await swarm.close(clients[:1])
                (late,) = await connecting
                await swarm.each_has(1, of=[late])

    run(main(), deadline=60)
