"""Nearly empty lobbies drain into one, and no client is disconnected."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up, summary

LOBBIES = 8
SEATS = 100
LEFT = 5


async def clients_by_lobby(up: LobbyUp) -> dict[str, int]:
    return {name: report["clients"] for name, report in (await up.reports()).items()}


@pytest.mark.timeout(240)
def test_nearly_empty_lobbies_drain_into_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=2) as origin:
            resource = lobby_resource(
                "prices",
                origin.url,
                clients_seats=SEATS,
                maxReplicas=LOBBIES,
                spareSeats=0,
                waitSeconds=60,
                emptySeconds=1,
                drainSeconds=8,  # in half of which the clients move
                compaction={"stabilizationSeconds": 2},
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                # One lobby's worth of clients at a time, so that the test knows which lobby has which clients.
                groups = []
                for number in range(1, LOBBIES + 1):
                    groups.append(await swarm.connect_all(SEATS))
                    await up.until_clients(number * SEATS)
                before = await up.reports()
                assert len(before) == LOBBIES, summary(before)
                assert all(report["clients"] == SEATS for report in before.values()), summary(before)

                staying = [client for group in groups for client in group[:LEFT]]
                await swarm.close([client for group in groups for client in group[LEFT:]])
                await up.until_lobbies(1, deadline=90)
                (report,) = (await up.until_clients(LOBBIES * LEFT)).values()
                assert not report["draining"]

                assert all(client.is_open for client in staying), swarm.summary()
                await swarm.each_gets(2, of=staying)
                assert origin.connections == 1

    run(main(), deadline=220)
