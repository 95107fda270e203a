"""A third-party origin: an Ethereum node, with the Lobby from the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support import npm_tools
from tests.support.examples import readme_lobby
from tests.support.sockets import run
from tests.support.swarm import Client, Swarm
from tests.support.tally import by_block
from tests.support.up import lobby_file, lobby_up, summary
from tests.support.waiting import until

CLIENTS = 1100
SUBSCRIBE = '{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'

pytestmark = pytest.mark.skipif(bool(npm_tools.skip_reason("ganache")), reason=npm_tools.skip_reason("ganache"))


def heads(client: Client) -> dict[int, dict[str, Any]]:
    """The heads that a client received, by number."""
    messages = [json.loads(payload)["params"]["result"] for _, payload in client.kept if by_block(payload) is not None]
    return {int(head["number"], 16): head for head in messages}


@pytest.mark.timeout(240)
def test_1100_clients_in_three_lobbies_get_every_head_over_three_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with npm_tools.ethereum_node(block_seconds=1) as node:
            resource = readme_lobby("heads")
            resource["spec"]["origin"]["url"] = node.url
            file = lobby_file(tmp_path, resource)
            async with lobby_up("-f", file) as up, Swarm(up.url, sequence=by_block, keep=64) as swarm:
                await swarm.connect_all(CLIENTS)
                reports = await up.until_clients(CLIENTS)
                assert len([report for report in reports.values() if report["clients"]]) == 3, summary(reports)
                await until(lambda: node.connections == 3, describe=lambda: f"3 connections, not {node.connections}")

                async with Swarm(node.url, sequence=by_block, keep=64) as reference:
                    (direct,) = await reference.connect_all(1)
                    direct.send(SUBSCRIBE)
                    await reference.each_has(1)
                    await swarm.each_gets(6, deadline=30)
                    await reference.each_reaches(max(client.tally.last for client in swarm.clients))
                    known = heads(direct)
                await swarm.each_gets(1)

                assert node.connections == 3
                assert all(report["origin"]["connections"] == 1 for report in (await up.reports()).values())
                assert len(swarm.open) == CLIENTS, swarm.summary()
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                for client in swarm.clients:
                    # Replies to the script are not part of the stream.
                    assert client.tally.other == 0, client.kept
                    received = heads(client)
                    both = known.keys() & received.keys()
                    assert len(both) >= 5
                    assert all(received[number] == known[number] for number in both)

    run(main(), deadline=220)


@pytest.mark.timeout(240)
def test_clients_of_a_lobby_that_is_killed_miss_no_head_and_get_none_twice(tmp_path: Path) -> None:
    """Each connection has a subscription of its own, whose id is in every message: the hash of a block is what they share."""

    async def main() -> None:
        async with npm_tools.ethereum_node(block_seconds=1) as node:
            resource = readme_lobby("heads")
            spec = resource["spec"]
            spec["origin"] |= {"url": node.url, "connect": "Always", "identity": "/params/result/hash"}
            spec |= {"replicas": 2, "spareSeats": 0, "clients": {**spec.get("clients", {}), "seats": 20}}
            file = lobby_file(tmp_path, resource)
            async with lobby_up("-f", file) as up, Swarm(up.url, sequence=by_block, keep=64) as swarm:
                await up.until_ready(2)  # with one ready, clients could need both
                await swarm.connect_all(15)
                reports = await up.until_clients(15)
                await until(lambda: node.connections == 2, describe=lambda: f"2 connections, not {node.connections}")
                await swarm.each_gets(20, deadline=60)
                (busy,) = (name for name, report in reports.items() if report["clients"])
                pid = up.lobby_processes()[busy].pid
                up.kill(pid)
                await up.until_gone(pid)
                await swarm.each_gets(6, deadline=60)
                assert len(swarm.open) == 15, swarm.summary()
                assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
                for client in swarm.clients:
                    numbers = sorted(heads(client))
                    assert numbers == list(range(numbers[0], numbers[-1] + 1))
                    assert len(client.kept) == len(numbers), "a head came twice"

    run(main(), deadline=220)
