"""The limits of a greeter as clients see them: a greeter and lobbies in the test's process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.support import web
from tests.support.sockets import run
from tests.unit.greeter.lobbies import SETTINGS, Running, greeter, until
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.rate_limit import FloodLimit
from lobby_gateway.process.arguments import networks
from lobby_gateway.process.limits import ProcessLimits


async def refused(made: Running, **options: Any) -> Response:
    with pytest.raises(InvalidStatus) as caught:
        await made.connect(**options)
    return caught.value.response


def clients_of(made: Running) -> int:
    return made.greeter.report().clients["prices"]


def test_an_address_has_a_limited_number_of_connections_and_each_that_ends_makes_room() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"limits": {"connectionsPerAddress": 2}}) as made:
            first, second = await made.clients(2)
            answer = await refused(made)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
            await first.close()
            await until(lambda: clients_of(made) == 1)
            [third] = await made.clients(1)
            for client in (second, third):
                await client.close()

    run(main())


def test_waiting_clients_are_counted_until_they_disconnect() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=1, clients={"limits": {"connectionsPerAddress": 2}}) as made:
            [client] = await made.clients(1)
            waiting = asyncio.ensure_future(made.connect().__aenter__())
            await until(lambda: made.greeter.report().waiting["prices"] == 1)
            assert (await refused(made)).status_code == 429
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await until(lambda: made.greeter.report().waiting["prices"] == 0)
            await client.close()
            await until(lambda: clients_of(made) == 0)
            for each in [await made.connect() for _ in range(1)]:
                await each.close()

    run(main())


def test_an_address_connects_at_a_limited_rate() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"limits": {"connectsPerSecond": 1}}) as made:
            clients = await made.clients(5)
            answer = await refused(made)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            for client in clients:
                await client.close()

    run(main())


def test_a_changed_limit_applies_at_once_and_closes_no_client() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            clients = await made.clients(3)
            made.tell(*made.lobbies, clients={"limits": {"connectionsPerAddress": 2}})
            assert (await refused(made)).status_code == 429
            assert clients_of(made) == 3
            made.tell(*made.lobbies, clients={"limits": {"connectionsPerAddress": 4}})
            clients += await made.clients(1)
            for client in clients:
                await client.close()

    run(main())


@pytest.mark.parametrize(("proxies", "status"), [("127.0.0.0/8", 101), ("192.0.2.0/24", 429), ("", 429)])
def test_only_trusted_proxies_report_the_client_address(proxies: str, status: int) -> None:
    async def main() -> None:
        settings = replace(SETTINGS, trusted_proxies=TrustedProxies(networks()(proxies)))
        spec = {"limits": {"connectionsPerAddress": 1}}
        async with greeter("prices-1", settings=settings, clients=spec) as made:
            [client] = await made.clients(1, additional_headers={"X-Forwarded-For": "192.0.2.1"})
            other = {"X-Forwarded-For": "192.0.2.2"}
            if status == 101:
                [second] = await made.clients(1, additional_headers=other)
                await second.close()
                # What a client writes itself stands to the left of what the proxy adds.
                forged = {"X-Forwarded-For": "192.0.2.9, 192.0.2.1"}
                assert (await refused(made, additional_headers=forged)).status_code == 429
            else:
                assert (await refused(made, additional_headers=other)).status_code == 429
            await client.close()

    run(main())


def test_a_redirected_client_counts_for_the_rate_but_not_as_a_connection() -> None:
    async def main() -> None:
        spec = {"limits": {"connectionsPerAddress": 1, "connectsPerSecond": 1}}
        async with greeter("prices-1", clients=spec, routing={"mode": "Redirect"}) as made:
            url = f"http://127.0.0.1:{made.greeter.port}/prices"
            answers = [await web.get(url, accept="application/json") for _ in range(6)]
            assert [answer.status for answer in answers] == [200] * 5 + [429]

    run(main())


def test_a_full_greeter_refuses_clients_until_one_leaves() -> None:
    async def main() -> None:
        settings = replace(SETTINGS, limits=ProcessLimits(max_clients=2))
        async with greeter("prices-1", settings=settings) as made:
            first, second = await made.clients(2)
            answer = await refused(made)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            await first.close()
            await until(lambda: clients_of(made) == 1)
            [third] = await made.clients(1)
            for client in (second, third):
                await client.close()

    run(main())


def test_a_greeter_without_memory_accepts_no_clients() -> None:
    async def main() -> None:
        settings = replace(SETTINGS, limits=ProcessLimits(max_memory=1))
        async with greeter("prices-1", settings=settings) as made:
            answer = await refused(made)
            assert answer.status_code == 503
            assert b"reached its limit of memory" in (answer.body or b"")

    run(main())


def test_a_client_that_floods_is_closed_and_others_are_not() -> None:
    async def main() -> None:
        limits = ProcessLimits(flood=FloodLimit(frames_per_second=10, burst_seconds=1))
        async with greeter("prices-1", settings=replace(SETTINGS, limits=limits)) as made:
            flooding, other = await made.clients(2)
            for _ in range(30):
                await flooding.send("x")
            await flooding.wait_closed()
            assert flooding.close_code == 1008
            made.lobbies[0].publish("still here")
            assert await other.recv() == "still here"
            await other.close()

    run(main())
