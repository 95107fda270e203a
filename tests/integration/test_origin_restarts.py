"""The origin restarts: clients stay connected, and the stream resumes by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.support.sockets import hold_port, run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

CLIENTS = 600
FAST = {"minMilliseconds": 50, "maxMilliseconds": 500}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "closed in order"])
def test_clients_stay_and_the_stream_resumes(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        with hold_port() as held:
            await restarted(held.getsockname()[1])

    async def restarted(port: int) -> None:
        async with ticker(rate=10, port=port, may_be_killed=True) as origin:
            resource = lobby_resource("prices", origin.url, clients_seats=400, origin_reconnect=FAST)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(CLIENTS)
                await swarm.each_has(5)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                await until(lambda: origin.connections == 2, describe=lambda: f"{origin.connections} connections")

                await origin.process.stop(number)
                await up.until_origin("Waiting", "Connecting")
                await up.delivered()
                assert len(swarm.open) == CLIENTS, swarm.summary()
                swarm.begin_stream()

                async with ticker(rate=10, port=origin.port) as again:
                    await swarm.each_has(5)
                    assert again.connections == 2
                    assert len(swarm.open) == CLIENTS, swarm.summary()
                    assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                    # No client missed a message after the first one that any client got.
                    assert len({client.tally.first for client in swarm.clients}) <= 2, swarm.summary()

    run(main(), deadline=100)


def test_clients_are_accepted_while_the_origin_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        with hold_port() as held:
            await restarted(held.getsockname()[1])

    async def restarted(port: int) -> None:
        async with ticker(rate=10, port=port, may_be_killed=True) as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(1)
                await swarm.each_has(1)
                await origin.process.stop(signal.SIGKILL)
                await swarm.connect_all(50)
                swarm.begin_stream()
                async with ticker(rate=10, port=origin.port):
                    await swarm.each_has(3)
                    assert len(swarm.open) == 51, swarm.summary()

    run(main(), deadline=100)
