"""Clients that wait for the subprotocol that the origin chooses."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.support.sockets import run
from tests.unit.greeter.clients import SUBPROTOCOLS
from tests.unit.greeter.lobbies import SETTINGS, greeter, until


@pytest.mark.parametrize(("chosen", "told"), [("v1", "v1"), ("", None)])
def test_a_client_waits_for_the_subprotocol_that_the_origin_chooses(chosen: str, told: str | None) -> None:
    async def main() -> None:
        async with greeter("prices-1", origin=SUBPROTOCOLS) as running:
            [lobby] = running.lobbies
            first = asyncio.ensure_future(running.connect(subprotocols=["v2", "v1"]).__aenter__())
            await until(lambda: running.service()._undecided)
            assert lobby.seat_count.taken == 1
            lobby.connect_origin(chosen)
            clients = [await first, *await running.clients(1, subprotocols=["v2", "v1"])]
            assert [client.subprotocol for client in clients] == [told, told]
            for client in clients:
                await client.close()

    run(main())


def test_a_client_gets_no_subprotocol_if_the_origin_is_not_connected_in_time() -> None:
    settings = replace(SETTINGS, trunk=SETTINGS.trunk._replace(subprotocol_wait_seconds=0.05))

    async def main() -> None:
        async with greeter("prices-1", origin=SUBPROTOCOLS, settings=settings) as running:
            [client] = await running.clients(1, subprotocols=["v2", "v1"])
            assert client.subprotocol is None
            await client.close()

    run(main())


def test_a_client_that_disconnects_while_the_origin_chooses_returns_its_seat() -> None:
    async def main() -> None:
        async with greeter("prices-1", origin=SUBPROTOCOLS) as running:
            leaving = asyncio.ensure_future(running.connect(subprotocols=["v2"]).__aenter__())
            await until(lambda: running.service()._undecided)
            leaving.cancel()
            await until(lambda: running.lobbies[0].seat_count.taken == 0)
            assert not running.service()._undecided

    run(main())


def test_a_client_whose_lobby_is_lost_while_its_origin_chooses_gets_a_seat_elsewhere() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", origin=SUBPROTOCOLS) as running:
            waiting = asyncio.ensure_future(running.connect(subprotocols=["v2"]).__aenter__())
            await until(lambda: running.service()._undecided)
            old, new = sorted(running.lobbies, key=lambda lobby: -lobby.seat_count.taken)
            new.subprotocol = "v2"
            old.die()
            client = await waiting
            assert client.subprotocol == "v2"
            assert new.seat_count.taken == 1
            await client.close()

    run(main())
