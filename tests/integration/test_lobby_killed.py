"""A lobby is killed or hangs: its proxied clients continue on other lobbies, and new clients are accepted."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up, summary

CLIENTS = 300
SEATS = 200
CONTINUE_WITHIN = 3.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_clients_continue_elsewhere_and_new_ones_are_accepted(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            resource = lobby_resource("prices", origin.url, clients_seats=SEATS, spareSeats=250)
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url) as swarm,
                Swarm(up.url) as late,
            ):
                await swarm.connect_all(CLIENTS)
                await up.until_ready(3)
                reports = await up.until_clients(CLIENTS)
                assert sum(report["seats"] for report in reports.values()) >= CLIENTS + SEATS, summary(reports)
                await swarm.each_has(10)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()

                # The latest lobby: it has clients, and the greeter sends new ones to it.
                victim = (await up.status())["latest"]["name"]
                moved = reports[victim]["clients"]
                assert moved > 0, summary(reports)  # the number depends on which new lobby was ready first
                pid = up.lobby_processes()[victim].pid
                swarm.mark()
                up.kill(pid, number)
                connecting = asyncio.create_task(late.connect_all(50, concurrency=10))
                await swarm.each_gets(20 * 4)  # 4 s of the stream
                await connecting
                await late.each_has(5)

                assert len(swarm.open) == CLIENTS, swarm.summary()
                assert swarm.longest_silence() < CONTINUE_WITHIN, swarm.summary()
                assert max(client.handshake_seconds for client in late.clients) < CONTINUE_WITHIN
                # The dead lobby has no clients left and is replaced under a new name.
                await up.until_gone(pid)
                reports = await up.until_clients(CLIENTS + 50)
                assert victim not in reports
                greeter = (await up.greeter_metrics())[0]
                assert greeter("greeter_moves_total") == moved

    run(main(), deadline=100)
