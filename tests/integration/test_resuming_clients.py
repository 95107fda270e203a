"""Clients that resume (`lobby_gateway.client`) miss nothing, whatever ends their connections.

`RESUMING_CLIENTS=1000` runs with as many clients, `RESUMING_KILLS=20` kills as often.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.support import web
from tests.support.resuming import NO_FAULTS, Resuming, resuming
from tests.support.sockets import run
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_gateway.clients.resuming import HASHES_KEPT

CLIENTS = int(os.environ.get("RESUMING_CLIENTS", "60"))
KILLS = int(os.environ.get("RESUMING_KILLS", "4"))
RATE = 20
"""Messages per second."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def seats() -> int:
    """Of a lobby: the clients need several."""
    return CLIENTS // 2 + 5


async def fuller_greeter(up: LobbyUp) -> int:
    """Process id of the greeter with the most clients, once all greeters are open."""

    async def counts() -> dict[int, int] | None:
        try:
            found = {pid: await up.admin_of(pid) for pid in (each.pid for each in up.greeter_processes())}
            reports = {pid: (await web.get(f"{admin}/waiting")).json() for pid, admin in found.items()}
        except (OSError, LookupError):
            return None
        return {pid: report["clients"].get("prices", 0) for pid, report in reports.items()}

    seen: dict[int, int] = await until(counts, describe="all greeters to be open")
    return max(seen, key=lambda pid: seen[pid])


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


async def until_found_anywhere(up: LobbyUp) -> None:
    """Waits until each lobby has more messages than clients send hashes of: before, it cannot tell where they were."""

    async def look() -> bool:
        try:
            reports = await up.reports()
        except (OSError, LookupError):
            return False  # a lobby does not listen yet
        return all(report["messages"] > 2 * HASHES_KEPT for report in reports.values())

    await until(look, every=0.1, describe="each lobby to have a few messages")


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

    run(main(), deadline=100 + KILLS * 10)


@pytest.mark.parametrize("number", SIGNALS)
def test_redirected_clients_whose_lobby_ends_resume_in_another(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with ticker(rate=RATE) as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=seats(), replicas=3, origin_connect="Always",
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

    run(main(), deadline=100 + KILLS * 10)
