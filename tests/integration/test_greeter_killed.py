"""A greeter dies: it restarts on the same port, and the seats of its clients are released."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support import web
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until


def test_greeter_restarts_and_seats_are_released(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            resource = lobby_resource("prices", origin.url, clients_seats=100, maxReplicas=1, spareSeats=0)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                clients = await swarm.connect_all(100)
                await up.until_clients(100)
                (greeter,) = up.greeter_processes()
                lobbies = set(up.lobby_processes())

                async def serves() -> bool:
                    async with Swarm(up.at("/nowhere")) as probe:
                        (client,) = await probe.connect(1)
                        return client.status == 404

                up.kill(greeter.pid, signal.SIGKILL)
                await until(lambda: not swarm.open, describe="all clients to be disconnected")
                assert swarm.closes == {1006: 100}
                await up.until_clients(0)

                await until(
                    lambda: [each.pid for each in up.greeter_processes()] not in ([], [greeter.pid]),
                    describe="a new greeter",
                )
                await until(serves, describe="the port to be served again")
                again = await swarm.connect_all(100)
                await swarm.each_has(2, of=again)
                assert set(up.lobby_processes()) == lobbies  # the lobbies are not affected
                assert not any(client.is_open for client in clients)

    run(main(), deadline=60)


def test_clients_of_the_other_greeter_are_not_affected(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file, "--greeters", "2") as up, Swarm(up.url) as swarm:
                # The kernel distributes connections among both greeters (SO_REUSEPORT): each gets some of the 60.
                await swarm.connect_all(60)
                await up.until_clients(60)
                first, second = up.greeter_processes()
                lost = (await web.metrics(f"{await up.admin_of(first.pid)}/metrics"))("greeter_clients")
                assert 0 < lost < 60
                up.kill(first.pid, signal.SIGKILL)
                await until(lambda: len(swarm.open) == 60 - lost, describe=swarm.summary)
                await swarm.each_gets(5)
                assert swarm.closes == {1006: lost}
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                await up.until_clients(len(swarm.open))
                await until(lambda: len(up.greeter_processes()) == 2, describe="a second greeter")
                assert second.pid in {each.pid for each in up.greeter_processes()}

    run(main(), deadline=60)
