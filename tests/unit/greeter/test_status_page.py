"""What a greeter shows: news of its own trunks over what it was told."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support import web
from tests.support.sockets import run
from tests.support.waiting import until
from tests.unit.greeter.lobbies import Lobby, Running, greeter, texts
from tests.unit.greeter.support import resource

from lobby_gateway.settings import RemovalSettings


async def items(made: Running) -> dict[str, dict[str, Any]]:
    told = (await web.get(f"http://127.0.0.1:{made.greeter.admin_port}/status")).json()
    return {item["name"]: item for item in told["items"]}


async def lobbies(made: Running) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (await items(made))["prices"]["lobbies"]}


def tell(made: Running, *open_: Lobby, **status: Any) -> None:
    """News with more than open lobbies."""
    raw = resource("prices")
    raw["status"] = {"open": [each.entry for each in open_], **status}
    made.greeter.directory.update([raw])


def told(name: str, phase: str, clients: int = 0, origin: str = "Connected") -> dict[str, Any]:
    return {"name": name, "phase": phase, "clients": clients, "seats": 512, "origin": origin}


def test_without_a_trunk_it_shows_the_directory() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            tell(
                made,
                made.lobbies[0],
                lobbies=[told("prices-1", "Ready", 7), told("prices-2", "Silent", 9, "Waiting")],
                conditions=[{"type": "Ready", "status": "True", "reason": "Open", "message": "fine"}],
                latest={"name": "prices-1", "address": "h:1"},
            )
            item = (await items(made))["prices"]
            assert (item["address"], item["origin"], item["latest"]) == ("/prices", "ws://origin.example/", "prices-1")
            assert item["conditions"] == [{"type": "Ready", "status": "True", "reason": "Open", "message": "fine"}]
            one, two = item["lobbies"]
            assert (one["phase"], one["clients"], one["messages"]) == ("open", 7, None)
            assert (two["phase"], two["clients"], two["origin"]) == ("silent", 9, "Waiting")

    run(main())


def test_seats_of_a_trunk_are_newer_than_the_directory() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=3) as made:
            [client] = await made.clients(1)
            shown = (await lobbies(made))["prices-1"]
            assert (shown["phase"], shown["clients"], shown["seats"]) == ("open", 1, 3)
            others = await made.clients(2)
            shown = (await lobbies(made))["prices-1"]
            assert (shown["phase"], shown["clients"], shown["origin"]) == ("full", 3, "Connected")
            made.lobbies[0].publish("abc", "de")
            await texts(client, 2)
            item = (await items(made))["prices"]
            assert item["lobbies"][0]["messages"] == 2
            assert item["counts"]["clients"] == 3
            assert item["counts"]["deliveries"] == 6
            assert (item["clients"], item["free"]) == (3, 0)
            for each in (client, *others):
                await each.close()

    run(main())


def test_a_lobby_that_asks_for_its_seats_back_is_draining_whatever_the_directory_says() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            clients = await made.clients(2)
            made.lobbies[0].drain()

            async def shown() -> dict[str, Any]:
                return (await lobbies(made))["prices-1"]

            async def drains() -> bool:
                return bool((await shown())["phase"] == "draining")

            await until(drains)
            assert (await shown())["clients"] == 2
            # What was told since counts the clients of other greeters, too.
            tell(made, lobbies=[told("prices-1", "Draining", 5)], draining=["prices-1"])
            assert (await shown())["clients"] == 5
            tell(made, draining=["prices-1"])
            assert (await shown())["clients"] == 2
            for client in clients:
                await client.close()

    run(main())


def test_an_origin_lost_since_the_latest_directory_is_away() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            [client] = await made.clients(1)
            made.lobbies[0].origin_connected = False
            tell(made, made.lobbies[0], lobbies=[told("prices-1", "Ready")])

            async def away() -> bool:
                return bool((await lobbies(made))["prices-1"]["origin"] == "Away")

            await until(away)
            tell(made, made.lobbies[0], lobbies=[told("prices-1", "Ready", origin="Refused")])
            assert (await lobbies(made))["prices-1"]["origin"] == "Refused"
            await client.close()

    run(main())


def test_a_lobby_with_a_trunk_is_shown_even_if_it_is_not_in_the_directory() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            [client] = await made.clients(1)
            tell(made)
            assert (await lobbies(made))["prices-1"]["clients"] == 1
            await client.close()

    run(main())


def test_a_lobby_that_has_not_answered_yet_is_shown_as_in_the_directory() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            made.lobbies[0].refusing = True
            tell(made, made.lobbies[0], lobbies=[told("prices-1", "Ready", 7)])
            waiting = asyncio.ensure_future(made.clients(1, open_timeout=30))
            await until(lambda: made.greeter.report().waiting["prices"])
            shown = (await lobbies(made))["prices-1"]
            assert (shown["phase"], shown["clients"], shown["messages"]) == ("open", 7, None)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    run(main())


def test_waiting_and_moved_clients_are_counted() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            clients = await made.clients(2)
            two = made.lobby("prices-2")
            made.tell(two)
            made.lobbies[0].drain()
            await until(lambda: two.seat_count.taken == 2 and made.greeter.report().moves_live["prices"] == 2)
            counts = (await items(made))["prices"]["counts"]
            assert (counts["moves_exact"], counts["moves_live"], counts["waiting"]) == (0, 2, 0)
            for client in clients:
                await client.close()

    run(main())


def test_a_deleted_lobby_is_marked_until_its_clients_are_gone() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            [client] = await made.clients(1)
            made.service()._removal_settings = RemovalSettings(batch=0, pause_seconds=60)
            made.greeter.directory.update([])
            item = (await items(made))["prices"]
            assert item["removed"]
            assert item["counts"]["clients"] == 1
            await client.close()

    run(main())


def test_a_greeter_without_a_directory_says_so() -> None:
    async def main() -> None:
        async with greeter() as made:
            made.greeter.directory.known = False
            told_ = (await web.get(f"http://127.0.0.1:{made.greeter.admin_port}/status")).json()
            assert told_["problem"] == "no directory yet"

    run(main())
