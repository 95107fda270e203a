"""What clients send to the origin."""

from __future__ import annotations

import pytest
from tests.support.sockets import run
from tests.unit.greeter.lobbies import greeter, texts, until
from websockets.exceptions import ConnectionClosed

from lobby_gateway.websocket.frames import Opcode


def test_messages_of_clients_are_forwarded() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"messages": "Forward"}) as running:
            [client] = await running.clients(1)
            await client.send("hello")
            await client.send(b"\x00\x01")
            await until(lambda: len(running.lobbies[0].forwarded) == 2)
            assert running.lobbies[0].forwarded == [(Opcode.TEXT, b"hello"), (Opcode.BINARY, b"\x00\x01")]
            await client.close()

    run(main())


def test_messages_of_a_client_that_lost_its_lobby_reach_its_next_one() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", clients={"messages": "Forward"}) as running:
            [client] = await running.clients(1)
            old, new = sorted(running.lobbies, key=lambda lobby: -lobby.seat_count.taken)
            new.refusing = True
            old.die()
            await until(lambda: running.service().waiting == 1)
            await client.send("held")
            await until(lambda: running.service()._held)
            await client.send("too")
            new.refusing = False
            await until(lambda: len(new.forwarded) == 2)
            assert new.forwarded == [(Opcode.TEXT, b"held"), (Opcode.TEXT, b"too")]
            assert running.service().stats.fates["forwarded"] == 2
            await client.close()

    run(main())


def test_messages_of_a_client_that_leaves_without_a_lobby_are_undeliverable() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"messages": "Forward"}) as running:
            [client] = await running.clients(1)
            running.lobbies[0].die()
            await until(lambda: running.service().waiting == 1)
            await client.send("held")
            await until(lambda: running.service()._held)
            await client.close()
            await until(lambda: running.service().stats.fates["undeliverable"] == 1)
            assert not running.service()._held

    run(main())


def test_a_client_whose_message_made_the_origin_close_is_closed() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"messages": "Forward"}) as running:
            good, bad = await running.clients(2)
            [lobby] = running.lobbies
            await good.send("good")
            await until(lambda: len(lobby.forwarded) == 1)
            await bad.send("bad")
            await until(lambda: len(lobby.forwarded) == 2)
            first, second = lobby.forwarders
            assert first != second
            lobby.trunks[0].blame(second, 1008)
            lobby.trunks[0].blame(second + 100, 1008)  # has disconnected
            with pytest.raises(ConnectionClosed):
                await bad.recv()
            assert bad.close_code == 1008
            assert "origin closed its connection" in str(bad.close_reason)
            await until(lambda: running.service().stats.closes["origin_objected"] == 1)
            lobby.publish("a")
            assert await texts(good, 1) == ["a"]
            await good.close()

    run(main())


def test_a_client_that_sends_too_many_messages_to_the_origin_is_closed() -> None:
    async def main() -> None:
        forward = {"messagesPerSecondPerClient": 10}
        async with greeter("prices-1", clients={"messages": "Forward", "forward": forward}) as running:
            good, bad = await running.clients(2)
            for _ in range(150):
                await bad.send("x")
            with pytest.raises(ConnectionClosed):
                await bad.recv()
            assert bad.close_code == 1008
            [lobby] = running.lobbies
            assert 90 <= len(lobby.forwarded) <= 100
            await good.send("y")
            await until(lambda: lobby.forwarded[-1] == (Opcode.TEXT, b"y"))
            await good.close()

    run(main())


def test_messages_of_clients_close_them_if_messages_are_rejected() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"messages": "Reject"}) as running:
            [client] = await running.clients(1)
            await client.send("hello")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1008
            await until(lambda: running.lobbies[0].seat_count.taken == 0)

    run(main())


def test_messages_of_clients_are_ignored_by_default() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [client] = await running.clients(1)
            await client.send("hello")
            pong = await client.ping()
            await pong
            running.lobbies[0].publish("still here")
            assert await texts(client, 1) == ["still here"]
            assert running.lobbies[0].forwarded == []
            await client.close()

    run(main())
