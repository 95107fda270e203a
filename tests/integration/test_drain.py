"""A greeter and lobbies without a lobby host: the directory makes twenty lobbies of 25 clients drain into one."""

from __future__ import annotations

from functools import partial

import pytest
from tests.support import web
from tests.support.lobby import drain, greeter_process, lobby_process, lobby_processes, new_key, with_open
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_resource
from tests.support.waiting import until

LOBBIES = 20
EACH = 25


def test_a_drain_without_a_valid_token_is_refused() -> None:
    async def main() -> None:
        async with ticker() as origin, lobby_process(lobby_resource("prices", origin.url)) as lobby:
            for headers in ({}, {"Authorization": "Bearer v1.e30.x"}):
                answer = await web.request("POST", f"{lobby.admin}/drain", **headers)
                assert answer.status == 401
                assert answer.headers["www-authenticate"] == "Bearer"
            answer = await drain(lobby.admin, bytes(32), lobby.name)
            assert answer.status == 401
            assert not (await lobby.seats())["draining"]
            metrics = await lobby.metrics()
            assert metrics("lobby_tokens_total", result="forged") == 2
            assert metrics("lobby_tokens_total", result="malformed") == 1
            await lobby.drain()
            assert (await lobby.seats())["draining"]

    run(main(), deadline=30)


@pytest.mark.timeout(180)
def test_20_lobbies_of_25_clients_drain_into_one_without_disconnects() -> None:
    async def main() -> None:
        key = new_key()
        resource_of = partial(lobby_resource, "prices", drainSeconds=8)  # in half of which the clients move
        async with (
            ticker(rate=5) as origin,
            lobby_processes(resource_of(origin.url), LOBBIES, key=key) as lobbies,
            greeter_process(key=key) as greeter,
            Swarm(greeter.url("/prices")) as swarm,
        ):
            resource = resource_of(origin.url)
            for lobby in lobbies:
                # Only one lobby is open at a time, so that each gets 25 clients.
                greeter.set_directory(with_open(resource, lobby))
                await swarm.connect_all(EACH)
                await lobby.until_clients(EACH)
            await swarm.each_has(3)
            assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
            assert origin.connections == LOBBIES

            last, draining = lobbies[-1], lobbies[:-1]
            swarm.mark()
            greeter.set_directory(with_open(resource, last, draining=tuple(each.name for each in draining)))
            for each in draining:
                await each.drain()
            await last.until_clients(LOBBIES * EACH, deadline=30)
            for each in draining:
                await each.until_clients(0)
            await swarm.each_gets(10)
            assert len(swarm.open) == LOBBIES * EACH, swarm.summary()
            assert swarm.longest_silence() < 3, swarm.summary()
            metrics = await greeter.metrics()
            assert metrics("greeter_moves_total") == (LOBBIES - 1) * EACH
            # A drained lobby has no clients, so it closes its origin connection.
            await until(lambda: origin.connections == 1, deadline=30, describe=lambda: f"{origin.connections}")

    run(main(), deadline=170)
