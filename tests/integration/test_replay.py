"""`replay`: new clients get the last messages first, then the stream without a gap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.origins import FakeOrigin, ticking
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up

REPLAY = 10


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_new_clients_get_the_last_messages_first(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_replay=REPLAY, routing={"mode": mode})
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                Swarm(up.url, follow_redirects=True) as swarm,
            ):
                await swarm.connect_all(1)
                await origin.until_open(1)
                await origin.send(*(json.dumps({"seq": number}) for number in range(1, 2 * REPLAY + 1)))
                await swarm.each_has(2 * REPLAY)

                # While the origin is idle, new clients get exactly the replayed messages.
                late = await swarm.connect_all(30)
                await swarm.each_has(REPLAY, of=late)
                assert {(client.tally.first, client.tally.last) for client in late} == {(REPLAY + 1, 2 * REPLAY)}

                # While it sends, there is no gap between the replayed messages and the stream.
                async with ticking(origin, interval=0.02, first=2 * REPLAY + 1):
                    later = await swarm.connect_all(30, concurrency=3)
                    await swarm.each_has(3 * REPLAY, of=later)
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                assert all((client.tally.first or 0) > REPLAY for client in later)

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


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_client_gets_no_message_of_a_connection_that_was_closed_because_nobody_was_there(
    tmp_path: Path, mode: str
) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_replay=REPLAY, routing={"mode": mode})
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                async with Swarm(up.url, follow_redirects=True) as first:
                    await first.connect_all(1)
                    connection = await origin.until_open(1)
                    await origin.send(json.dumps({"seq": 1}), json.dumps({"seq": 2}))
                    await first.each_reaches(2)
                await origin.until_closed(connection, deadline=30)  # 10 s after its last client disconnected
                async with Swarm(up.url, follow_redirects=True) as second:
                    (client,) = await second.connect_all(1)
                    await origin.until_open(1)
                    await up.until_origin("Connected")
                    await origin.send(json.dumps({"seq": 101}))
                    await second.each_reaches(101)
                    assert (client.tally.first, client.tally.count) == (101, 1), second.summary()

    run(main(), deadline=90)
