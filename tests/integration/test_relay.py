"""Lobbies take the stream from each other: while one has no origin connection, or because the origin allows only few."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import web
from tests.support.origins import FakeOrigin, ticking
from tests.support.origins import reset as reset_connection
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

INTERVAL = 0.005
QUEUE = {"messages": 1000, "milliseconds": 10_000}  # so that a busy machine drops nothing


@contextlib.asynccontextmanager
async def prices(
    folder: Path, *, interval: float = INTERVAL, **spec: Any
) -> AsyncIterator[tuple[FakeOrigin, LobbyUp, Swarm]]:
    """Runs an origin, the lobbies of a Lobby with this spec (see `lobby_resource`), and clients for them."""
    async with FakeOrigin() as origin, ticking(origin, interval=interval):
        resource = lobby_resource("prices", origin.url, spareSeats=0, clients_queue=QUEUE, **spec)
        async with lobby_up("-f", lobby_file(folder, resource)) as up, Swarm(up.url) as swarm:
            yield origin, up, swarm


async def metrics_of(up: LobbyUp) -> dict[str, web.Metrics]:
    return {
        name: await web.metrics(f"{await up.admin_of(process.pid)}/metrics")
        for name, process in up.lobby_processes().items()
    }


async def total(up: LobbyUp, name: str, **labels: str) -> float:
    """Sum of a metric over all lobbies."""
    return sum(each(name, **labels) for each in (await metrics_of(up)).values())


@pytest.mark.timeout(180)
def test_lost_origin_connections_are_not_noticed_while_a_lobby_has_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with prices(tmp_path, replicas=3, origin_connect="Always", clients_seats=8) as (origin, up, swarm):
            await origin.until_open(3, deadline=30)
            await swarm.connect_all(14)
            await swarm.each_has(50)
            for round_ in range(6):
                lost = random.sample(origin.open, 1 + round_ % 2)
                for each in lost:
                    reset_connection(each.server)
                await origin.until_open(3, deadline=30)
                await swarm.each_gets(60, deadline=30)
                await until_own_sources(up)
            assert swarm.gaps == swarm.disorder == 0, swarm.summary()
            assert len(swarm.open) == 14, swarm.summary()
            assert await total(up, "lobby_stream_gaps_total") == 0
            assert await total(up, "lobby_source_changes_total", to="peer", verdict="exact") >= 6
            assert await total(up, "lobby_source_changes_total", to="origin", verdict="exact") >= 6

    run(main(), deadline=170)


async def until_own_sources(up: LobbyUp) -> None:
    """Waits until the stream of every lobby comes from its own connection."""

    async def look() -> bool:
        return all(report["flowing"] and not report["via"] for report in (await up.reports()).values())

    await until(look, deadline=30, every=0.1, describe="every stream comes from its own connection")


@pytest.mark.timeout(180)
def test_one_connection_serves_all_lobbies_and_moves_when_its_holder_is_killed(tmp_path: Path) -> None:
    async def main() -> None:
        async with prices(
            tmp_path,
            replicas=3,
            origin_limits={"connections": 1},
            origin_connect="Always",
            clients_seats=8,
        ) as (origin, up, swarm):
            await origin.until_open(1, deadline=30)
            await swarm.connect_all(14)
            await swarm.each_has(50, deadline=40)
            for _ in range(3):
                holder = await holder_of(up)
                os.kill(up.lobby_processes()[holder].pid, signal.SIGKILL)
                connections = len(origin.connections)
                await origin.until_connected(connections + 1, deadline=30)
                await swarm.each_gets(100, deadline=40)
            assert origin.most_open == 1
            assert len(swarm.open) == 14, swarm.summary()
            assert swarm.disorder == 0, swarm.summary()
            missing = {frozenset(client.tally.missing) for client in swarm.clients}
            assert len(missing) == 1, [len(each) for each in missing]

    run(main(), deadline=170)


async def holder_of(up: LobbyUp) -> str:
    """Waits until one lobby is connected and all others take its stream; returns its name."""
    found: list[str] = []

    async def look() -> bool:
        try:
            reports = await up.reports()
        except (OSError, LookupError):
            return False
        found[:] = [name for name, report in reports.items() if report["origin"]["state"] == "Connected"]
        return len(found) == 1 and all(report["flowing"] for report in reports.values())

    await until(look, deadline=30, every=0.1, describe=lambda: f"one connection for all; {found}; {up.process.tail()}")
    return found[0]


@pytest.mark.timeout(120)
def test_a_renewal_is_not_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        async with prices(
            tmp_path,
            replicas=1,
            origin_connect="Always",
            origin_limits={"connections": 1},
            origin_renew={"everySeconds": 10},
        ) as (origin, up, swarm):
            await swarm.connect_all(10)
            await origin.until_connected(3, deadline=60)
            await origin.until_open(1)
            await swarm.each_gets(100)
            assert origin.most_open == 2  # only during a renewal
            assert swarm.gaps == swarm.disorder == 0, swarm.summary()
            assert [each.close_code for each in origin.connections[:2]] == [1000, 1000]
            assert await total(up, "lobby_source_changes_total", to="renewal", verdict="exact") == 2
            assert await total(up, "lobby_stream_gaps_total") == 0

    run(main(), deadline=110)


@pytest.mark.timeout(120)
def test_a_message_of_a_client_reaches_the_origin_over_the_lobby_that_is_connected(tmp_path: Path) -> None:
    async def main() -> None:
        async with prices(
            tmp_path,
            interval=0.05,
            replicas=2,
            origin_limits={"connections": 1},
            clients_seats=2,
            clients_messages="Forward",
        ) as (origin, up, swarm):
            clients = await swarm.connect_all(4)
            await swarm.each_has(3, deadline=30)
            assert len(await up.reports()) == 2
            assert len(origin.connections) == 1
            for number, client in enumerate(clients):
                client.send(f"from {number}")
            record = origin.connections[0]
            await origin.until(lambda: len(record.messages) == 4, deadline=30)
            assert sorted(map(str, record.messages)) == [f"from {number}" for number in range(4)]

    run(main(), deadline=110)


@pytest.mark.timeout(180)
def test_all_lobbies_together_connect_no_more_often_than_the_origin_allows(tmp_path: Path) -> None:
    """Lobbies that wait for a permit take the stream from one that is connected, also when lobbies are replaced."""
    count, seconds = 2, 4.0

    async def main() -> None:
        async with prices(
            tmp_path,
            replicas=4,
            origin_limits={"connects": {"count": count, "seconds": int(seconds)}},
            origin_connect="Always",
            clients_seats=8,
        ) as (origin, up, swarm):
            await origin.until_connected(1, deadline=30)
            await swarm.connect_all(14)
            await swarm.each_has(50, deadline=40)  # before all have a connection of their own
            assert len(origin.open) < 4
            await origin.until_open(4, deadline=60)
            for _ in range(2):
                names = sorted(up.lobby_processes())
                os.kill(up.lobby_processes()[names[0]].pid, signal.SIGKILL)
                for each in origin.open[:2]:
                    reset_connection(each.server)
                await swarm.each_gets(50, deadline=60)
            await origin.until_open(4, deadline=60)
            attempts = sorted(origin.attempts)
            late = zip(attempts, attempts[count:], strict=False)
            assert all(after - before >= seconds - 1.0 for before, after in late), attempts

    run(main(), deadline=170)
