"""Greeter pods are deleted one after the other under clients that resume (`lobby_gateway.client`): they miss nothing."""

from __future__ import annotations

import asyncio
from functools import partial

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.support.resuming import NO_FAULTS, Resuming, resuming
from tests.support.sockets import run
from tests.support.waiting import until

CLIENTS = 200
NAME = "resuming"
QUEUE = {"messages": 1024, "milliseconds": 60_000}
"""So that the test's own process, which runs all clients, may lag."""
AT_ONCE = ("--grace-period=0", "--force")


def test_clients_that_resume_miss_nothing_when_greeter_pods_are_deleted(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    # Both lobbies have been connected for a while when a client arrives at the other one.
    resource = lobby(
        NAME, origin, clients_seats=CLIENTS // 2 + 10, clients_queue=QUEUE, origin_connect="Always", replicas=2,
        maxReplicas=2, spareSeats=0, waitSeconds=60, compaction={"enabled": False},
    )  # fmt: skip

    async def delete_each(clients: Resuming, *how: str) -> None:
        """Deletes the greeters that there are now, each once all are ready again and serve clients."""
        for greeter in await asyncio.to_thread(cluster.clients_of_greeters, NAME):
            mine = (await asyncio.to_thread(cluster.clients_of_greeters, NAME))[greeter]
            expected = clients.reconnects + mine
            await asyncio.to_thread(kubectl, "delete", "pod", greeter, "-n", cluster.namespace, *how, deadline=90)
            await asyncio.to_thread(installed.until_whole, deadline=120)
            await until(partial(_reconnected, clients, expected), describe=clients.summary)
            await clients.each_goes_on()

    async def main() -> None:
        async with resuming(installed.url(f"/{NAME}"), CLIENTS) as clients:
            first = clients.newest
            await until(lambda: clients.newest > first + 32, describe="each lobby to have messages to compare")
            await delete_each(clients)
            await delete_each(clients, *AT_ONCE)
            assert clients.faults() == NO_FAULTS, clients.summary()
            assert clients.reconnects >= CLIENTS
            FIGURES.note(f"greeter pods deleted 4 times under {CLIENTS} resuming clients: {clients.summary()}")

    with cluster.lobby(resource):
        cluster.until_ready(NAME, 2)
        run(main(), deadline=400)


def _reconnected(clients: Resuming, count: int) -> bool:
    return clients.reconnects >= count
