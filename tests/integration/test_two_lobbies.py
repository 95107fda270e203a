"""Several Lobbies in one `lobby up`: each has its own path, origin and lobbies, and none gets the other's messages."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.origins import FakeOrigin
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until


def test_each_lobby_has_its_own_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as trades, FakeOrigin() as heads:
            files = (
                lobby_file(tmp_path, lobby_resource("trades", trades.url)),
                lobby_file(tmp_path, lobby_resource("heads", heads.url, path="/v1/heads")),
            )
            async with (
                lobby_up("-f", files[0], "-f", files[1]) as up,
                Swarm(up.at("/trades"), keep=5) as of_trades,
                Swarm(up.at("/v1/heads?client=7"), keep=5) as of_heads,
            ):
                await of_trades.connect_all(3)
                await of_heads.connect_all(3)
                await trades.until_open(1)
                await heads.until_open(1)
                await trades.send(json.dumps({"seq": 1, "of": "trades"}))
                await heads.send(json.dumps({"seq": 1, "of": "heads"}))
                await of_trades.each_has(1)
                await of_heads.each_has(1)
                assert {payload for client in of_trades.clients for _, payload in client.kept} == {
                    b'{"seq": 1, "of": "trades"}'
                }
                assert {payload for client in of_heads.clients for _, payload in client.kept} == {
                    b'{"seq": 1, "of": "heads"}'
                }
                assert {item["metadata"]["name"] for item in await up.lobbies()} == {"trades", "heads"}

                await trades.stop()
                await until(lambda: not trades.open, describe="the origin to stop")
                await heads.send(json.dumps({"seq": 2}))
                await of_heads.each_has(2)
                assert len(of_trades.open) == 3

    run(main(), deadline=60)
