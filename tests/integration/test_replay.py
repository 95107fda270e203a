"""`replay`: who joins gets the last messages first, and then the stream without a gap."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up

REPLAY = 10


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_who_joins_gets_the_last_messages_first(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            resource = lobby_resource("prices", origin.url, clients_replay=REPLAY, routing={"mode": mode})
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                (first,) = await swarm.connect_all(1)
                await swarm.each_has(REPLAY * 2)
                seen = first.tally.last
                late = await swarm.connect_all(30, concurrency=3)
                await swarm.each_has(REPLAY * 2, of=late)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                for client in late:
                    assert client.tally.first is not None
                    assert seen - REPLAY < client.tally.first
                # The very first of them got what had been sent before it came.
                assert min(client.tally.first or 0 for client in late) <= seen - REPLAY + 5

    run(main(), deadline=60)


def test_without_replay_the_stream_begins_with_the_next_message(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up, Swarm(up.url) as swarm:
                (first,) = await swarm.connect_all(1)
                await swarm.each_has(20)
                seen = first.tally.last
                (late,) = await swarm.connect_all(1)
                await swarm.each_has(1, of=[late])
                assert (late.tally.first or 0) > seen

    run(main(), deadline=60)
