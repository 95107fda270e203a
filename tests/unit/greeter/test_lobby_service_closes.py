"""Clients of a Lobby that was deleted, and of a greeter that stops."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.support.raw_client import RawClient, request
from tests.support.sockets import run
from tests.unit.greeter.clients import REDIRECT, SUBPROTOCOLS, UPGRADE, http_get
from tests.unit.greeter.lobbies import SETTINGS, greeter, texts, until
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lobby_gateway.settings import RemovalSettings


async def outcome(client: ClientConnection) -> str:
    """The next message of a client, or the code with which it was closed."""
    try:
        async with asyncio.timeout(10):
            return str(await client.recv())
    except ConnectionClosed:
        return str(client.close_code)


def test_the_clients_of_a_deleted_lobby_are_closed_at_once_and_new_ones_refused() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=2) as running:
            [lobby] = running.lobbies
            clients = await running.clients(2)
            waiting = asyncio.ensure_future(http_get(running.greeter.port, **UPGRADE))
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            running.greeter.directory.update([])
            status, headers, body = await waiting
            assert (status, body) == (410, b"This Lobby was deleted.\n")
            assert "retry-after" not in headers
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (1001, "the Lobby was deleted")
            assert (await http_get(running.greeter.port, **UPGRADE))[0] == 404
            await until(lambda: lobby.seat_count.taken == 0 and not lobby.trunks)
            await until(lambda: not running.greeter._services)
            assert running.greeter._stats.closes["lobby_deleted"] == 2

    run(main())


def test_a_client_that_waits_to_be_redirected_is_refused_when_the_lobby_is_deleted() -> None:
    async def main() -> None:
        async with greeter(**REDIRECT) as running:
            page = {"Accept": "application/json", "Origin": "http://h"}
            waiting = asyncio.ensure_future(http_get(running.greeter.port, **page))
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            running.greeter.directory.update([])
            status, headers, _ = await waiting
            assert (status, headers["access-control-allow-origin"]) == (410, page["Origin"])

    run(main())


def test_a_client_whose_subprotocol_is_undecided_is_refused_when_the_lobby_is_deleted() -> None:
    async def main() -> None:
        async with greeter("prices-1", origin=SUBPROTOCOLS) as running:
            [lobby] = running.lobbies
            undecided = asyncio.ensure_future(running.connect(subprotocols=["v2"]).__aenter__())
            await until(lambda: running.service()._undecided)
            running.greeter.directory.update([])
            with pytest.raises(InvalidStatus) as refused:
                await undecided
            assert refused.value.response.status_code == 410
            await until(lambda: lobby.seat_count.taken == 0)

    run(main())


def test_clients_that_wait_for_another_lobby_are_closed_when_the_lobby_is_deleted() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            [client] = await running.clients(1)
            lobby.die()
            await until(lambda: running.greeter.report().lost == {"prices": 1})
            running.greeter.directory.update([])
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001

    run(main())


def test_many_clients_of_a_deleted_lobby_are_closed_in_batches_and_none_after_it_was_created_again() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            clients = await running.clients(10)
            service = running.service()
            service._removal_settings = RemovalSettings(batch=3, pause_seconds=0.01)
            running.greeter.directory.update([])
            assert sum(client.closing for client in service.clients) == 3, "no more in one turn of the event loop"
            await until(lambda: len(service.clients) <= 4)
            running.tell(lobby)
            left = len(service.clients)
            lobby.publish("still here")
            heard = [client for client in clients if await outcome(client) == "still here"]
            assert len(heard) == sum(not client.closing for client in service.clients) <= left
            for client in heard:
                await client.close()

    run(main())


def test_a_stopping_greeter_closes_clients_and_refuses_waiting_ones() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=3) as running:
            [lobby] = running.lobbies
            clients = await running.clients(3)
            waiting = asyncio.ensure_future(http_get(running.greeter.port, **UPGRADE))
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            await running.greeter.stop()
            status, _, _ = await waiting
            assert status == 503
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (1012, "the server is restarting")
            await until(lambda: lobby.seat_count.taken == 0 and not lobby.trunks)

    run(main())


@pytest.mark.parametrize("batch_milliseconds", [0, 1000])
def test_a_stopping_greeter_tells_each_client_the_place_after_its_last_message(batch_milliseconds: int) -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"batchMilliseconds": batch_milliseconds}) as running:
            [lobby] = running.lobbies
            clients = await running.clients(2)
            lobby.publish("a", "b")
            lobby.publish("c")
            [trunk] = running.service().trunks
            await until(lambda: trunk.offset == 3)
            await running.greeter.stop()
            for client in clients:
                assert await texts(client, 3) == ["a", "b", "c"]
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (1012, "resume=0000000000000001-3")

    run(main())


def test_the_place_of_a_client_that_lags_is_before_what_waits_for_it() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"queue": {"messages": 1000}}) as running:
            [lobby] = running.lobbies
            stalled = await RawClient.upgraded(running.greeter.port, request("/prices"), receive_buffer=4096)
            service = running.service()
            await until(lambda: service.clients)
            [client] = service.clients
            while client.waiting_messages < 5:
                lobby.publish("x" * 60_000)
                await asyncio.sleep(0)
            [trunk] = service.trunks
            position = service._position(client)
            assert position is not None
            assert position.offset == trunk.offset - client.waiting_messages
            stalled.sock.close()

    run(main())


def test_clients_of_a_stopping_greeter_whose_lobby_is_lost_are_closed_at_once() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=replace(SETTINGS, close_seconds=6)) as running:
            [lobby] = running.lobbies
            clients = await running.clients(2)
            service = running.service()
            stopping = asyncio.create_task(running.greeter.stop())
            await asyncio.sleep(0)
            lobby.die()
            await until(lambda: not service.trunks)
            assert all(client.closing for client in service.clients)
            for client in clients:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1012
            await stopping

    run(main())
