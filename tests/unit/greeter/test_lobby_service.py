"""Which client gets a seat where, and how clients share a trunk."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace

import pytest
from tests.support.sockets import run
from tests.unit.greeter.clients import UPGRADE, WAIT_SECONDS, http_get
from tests.unit.greeter.lobbies import SETTINGS, greeter, texts, until
from websockets.exceptions import ConnectionClosed, InvalidStatus


def test_clients_share_one_trunk_and_return_their_seats() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            clients = await running.clients(3)
            assert lobby.seat_count.taken == 3
            lobby.publish("a")
            lobby.publish("b", "ü")
            for client in clients:
                assert await texts(client, 3) == ["a", "b", "ü"]
                await client.close()
            await until(lambda: lobby.seat_count.taken == 0)
            assert lobby.trunks_opened == 1
            report = running.greeter.report()
            assert (report.clients, report.waiting) == ({"prices": 0}, {"prices": 0})

    run(main())


def test_a_burst_fills_lobbies_in_order_with_few_claims() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", "prices-3", seats=40) as running:
            clients = await running.clients(100)
            assert [lobby.seat_count.taken for lobby in running.lobbies] == [40, 40, 20]
            assert sum(len(lobby.claims) for lobby in running.lobbies) < 40
            for client in clients:
                await client.close()
            await until(lambda: not any(lobby.seat_count.taken for lobby in running.lobbies))

    run(main())


def test_a_full_lobby_is_skipped() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", seats=2) as running:
            full, other = running.lobbies
            full.seat_count.claim(2)  # by another greeter; the directory does not show it yet
            [client] = await running.clients(1)
            assert (full.claims, other.seat_count.taken) == ([1], 1)
            await client.close()

    run(main())


def test_a_waiting_client_gets_the_seat_that_becomes_free() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=1) as running:
            [first] = await running.clients(1)
            second = asyncio.ensure_future(running.connect().__aenter__())
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            await first.close()
            await (await second).close()

    run(main())


def test_a_client_waits_for_a_lobby_that_starts() -> None:
    async def main() -> None:
        async with greeter() as running:
            waiting = asyncio.ensure_future(running.connect().__aenter__())
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            running.tell(running.lobby("prices-1"))
            await (await waiting).close()

    run(main())


def test_a_client_that_has_waited_too_long_is_refused() -> None:
    async def main() -> None:
        async with greeter(waitSeconds=1) as running:
            with pytest.raises(InvalidStatus) as raised:
                await running.connect()
            assert raised.value.response.status_code == 503
            assert raised.value.response.headers["Retry-After"] == "5"
            assert running.greeter.report().waiting == {"prices": 0}

    run(main())


def test_a_client_that_disconnects_while_waiting_takes_no_seat() -> None:
    async def main() -> None:
        async with greeter() as running:
            leaving = asyncio.ensure_future(running.connect().__aenter__())
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            leaving.cancel()
            await until(lambda: running.greeter.report().waiting == {"prices": 0})

    run(main())


def test_an_unreachable_lobby_is_skipped() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            running.lobbies[0].die()
            [client] = await running.clients(1)
            assert running.lobbies[1].seat_count.taken == 1
            await client.close()

    run(main())


def test_a_lobby_that_does_not_answer_delays_clients_by_only_a_second() -> None:
    async def main() -> None:
        deaf = socket.create_server(("127.0.0.1", 0))  # the kernel accepts, nobody answers
        async with greeter("prices-1", "prices-2") as running:
            first, second = running.lobbies
            first.address = f"127.0.0.1:{deaf.getsockname()[1]}"
            running.tell(first, second)
            begin = time.monotonic()
            [client] = await running.clients(1)
            assert time.monotonic() - begin < WAIT_SECONDS / 2, "not for as long as a client would wait"
            [other] = await running.clients(1)
            assert second.seat_count.taken == 2
            await client.close()
            await other.close()
        deaf.close()

    run(main())


def test_replay_gives_the_latest_messages_to_each_joining_client() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 3}) as running:
            [lobby] = running.lobbies
            lobby.publish("a", "b")
            lobby.publish("c", "d")
            [first] = await running.clients(1)
            assert await texts(first, 3) == ["b", "c", "d"]
            lobby.publish("e")
            assert await texts(first, 1) == ["e"]
            [second] = await running.clients(1)
            assert await texts(second, 3) == ["c", "d", "e"]
            await first.close()
            await second.close()

    run(main())


@pytest.mark.parametrize("compression", ["Shared", "Off"])
def test_compressed_and_plain_clients_get_the_same(compression: str) -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"compression": compression}) as running:
            [deflating] = await running.clients(1, compression="deflate")
            [plain] = await running.clients(1)
            assert bool(deflating.protocol.extensions) == (compression == "Shared")
            message = json.dumps({"prices": [100.5] * 200})
            running.lobbies[0].publish(message, "x")
            for client in (deflating, plain):
                assert await texts(client, 2) == [message, "x"]
                await client.close()

    run(main())


def test_an_unused_trunk_is_closed() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=replace(SETTINGS, linger_seconds=0.5)) as running:
            [lobby] = running.lobbies
            [client] = await running.clients(1)
            await client.close()
            await until(lambda: not lobby.trunks)
            [again] = await running.clients(1)
            assert lobby.trunks_opened == 2
            await again.close()

    run(main())


def test_changes_of_a_lobby_apply_to_connected_clients() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            [client] = await running.clients(1)
            running.tell(lobby, clients={"queue": {"messages": 3}, "messages": "Reject", "replay": 1})
            (service,) = running.greeter._services.values()
            assert [each.policy.queue.messages for each in service.clients] == [3]
            lobby.publish("a", "b")
            assert await texts(client, 2) == ["a", "b"]
            [late] = await running.clients(1)
            assert await texts(late, 1) == ["b"]
            running.tell(lobby, path="/elsewhere")
            assert (await http_get(running.greeter.port, **UPGRADE))[0] == 404
            async with running.connect("/elsewhere"):
                lobby.publish("c")
                assert await texts(late, 1) == ["c"]
            await client.send("hello")
            assert await texts(client, 1) == ["c"]
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1008

    run(main())
