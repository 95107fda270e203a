"""Clients that resume (`lobby_gateway.client`) miss nothing, whatever ends their connections.

`RESUMING_CLIENTS=1000 RESUMING_KILLS=20 RESUMING_RATE=5` runs as many clients, kills as often, and sends as many messages per
second.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.support.resuming import NO_FAULTS, Resuming, fuller_greeter, resuming, until_found_anywhere
from tests.support.sockets import run
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

CLIENTS = int(os.environ.get("RESUMING_CLIENTS", "60"))
KILLS = int(os.environ.get("RESUMING_KILLS", "4"))
RATE = float(os.environ.get("RESUMING_RATE", "20"))
"""Messages per second."""
QUEUE = {"messages": 1024, "milliseconds": 60_000}
"""So that the test's own process, which runs all clients, may lag."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
DEADLINE = 100 + 10 * KILLS + CLIENTS / 10

pytestmark = pytest.mark.timeout(DEADLINE + 20)


def seats() -> int:
    """Of a lobby: the clients need several."""
    return CLIENTS // 2 + 5


async def end(up: LobbyUp, pid: int, number: signal.Signals, clients: Resuming) -> None:
    """Ends a process by a signal; returns once its clients are back and all clients go on."""
    before = clients.reconnects
    up.kill(pid, number)

    def ended() -> bool:
        running = [*up.greeter_processes(), *up.lobby_processes().values()]
        return pid not in {each.pid for each in running}

    await until(ended, describe="the end of the process")
    await until(lambda: clients.reconnects > before, describe=clients.summary)
    await clients.each_goes_on()


@pytest.mark.parametrize("batch_milliseconds", [0, 20])
def test_greeters_that_are_killed_in_turn_cost_a_reconnect_and_no_message(
    tmp_path: Path, batch_milliseconds: int
) -> None:
    async def main() -> None:
        async with ticker(rate=RATE) as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                clients_seats=seats(),
                clients_batchMilliseconds=batch_milliseconds,
                clients_queue=QUEUE,
                replicas=2,
                maxReplicas=2,
                origin_connect="Always",
                waitSeconds=60,
            )
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource), "--greeters", "2") as up,
                resuming(up.url, CLIENTS) as clients,
            ):
                await until_found_anywhere(up)
                for number in range(KILLS):
                    await end(up, await fuller_greeter(up), SIGNALS[number % 2], clients)
                assert clients.faults() == NO_FAULTS, clients.summary()
                await up.until_clients(CLIENTS)

    run(main(), deadline=DEADLINE)


@pytest.mark.parametrize("number", SIGNALS)
def test_redirected_clients_whose_lobby_ends_resume_in_another(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with ticker(rate=RATE) as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=seats(), clients_queue=QUEUE, replicas=3, origin_connect="Always",
                routing={"mode": "Redirect"}, waitSeconds=60,
            )  # fmt: skip
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                resuming(up.url, CLIENTS) as clients,
            ):
                await until_found_anywhere(up)
                for _ in range(KILLS // 2):
                    reports = await up.until_clients(CLIENTS)
                    victim = max(reports, key=lambda name: reports[name]["clients"])
                    await end(up, up.lobby_processes()[victim].pid, number, clients)
                assert clients.faults() == NO_FAULTS, clients.summary()

    run(main(), deadline=DEADLINE)
