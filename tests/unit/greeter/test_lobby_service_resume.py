"""Clients that ask to continue where they were (`?resume=`)."""

from __future__ import annotations

import json

import pytest
from tests.support import web
from tests.support.sockets import run
from tests.unit.greeter.clients import EXACT, LIVE, UPGRADE, asking, http_get
from tests.unit.greeter.lobbies import Running, greeter, texts, until
from websockets.exceptions import ConnectionClosed

from lobby_gateway.trunk.identity import identity_of


async def resumes(running: Running) -> tuple[float, float]:
    metrics = await web.metrics(f"http://127.0.0.1:{running.greeter.admin_port}/metrics")
    return metrics("greeter_resumes_total", verdict="exact"), metrics("greeter_resumes_total", verdict="live")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_client_resumes_after_the_messages_that_it_hashed(compression: str | None) -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"compression": "Shared"}) as running:
            [lobby] = running.lobbies
            lobby.publish("a", "b", "c")
            lobby.publish("d")
            async with running.connect(asking("a", "b"), compression=compression) as client:
                await until(lambda: running.greeter._stats.resumes["exact"] == 1)
                lobby.publish("e")
                assert await texts(client, 4) == [EXACT, "c", "d", "e"]
            async with running.connect(asking("e"), compression=compression) as client:
                assert await texts(client, 1) == [EXACT]
                lobby.publish("f")
                assert await texts(client, 1) == ["f"]
            assert await resumes(running) == (2, 0)
            assert running.greeter.report().moves_exact == {"prices": 0}
            await until(lambda: lobby.seat_count.taken == 0)

    run(main())


def test_a_client_resumes_with_the_position_of_a_close_reason_at_another_greeter() -> None:
    async def main() -> None:
        async with greeter("prices-1") as first, greeter() as second:
            [lobby] = first.lobbies
            second.tell(lobby)
            [client] = await first.clients(1)
            lobby.publish("a")
            assert await texts(client, 1) == ["a"]
            await first.greeter.stop()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            lobby.publish("b")
            async with second.connect(f"/prices?{client.close_reason}") as again:
                assert await texts(again, 2) == [EXACT, "b"]

    run(main())


def test_a_client_whose_place_is_not_known_learns_why_and_joins_like_a_new_one() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 1}) as running:
            [lobby] = running.lobbies
            [other] = await running.clients(1)
            lobby.publish("a", "b", "a", "c")
            assert await texts(other, 4) == ["a", "b", "a", "c"]
            async with running.connect(asking("x")) as client:
                assert await texts(client, 2) == [LIVE.format("unknown"), "c"]
            async with running.connect(asking("a")) as client:
                assert await texts(client, 2) == [LIVE.format("ambiguous"), "c"]
                lobby.publish("d")
                assert await texts(client, 1) == ["d"]
            assert await resumes(running) == (0, 2)
            await other.close()

    run(main())


def test_hashes_are_of_payloads_whatever_identifies_messages_of_other_connections() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            lobby.ring.identity = identity_of("/id")
            lobby.publish('{"id": 1}', '{"id": 1}', '{"id": 2}', '{"id": 3}')
            async with running.connect(asking('{"id": 2}')) as client:
                assert await texts(client, 2) == [EXACT, '{"id": 3}']

    run(main())


def test_a_client_whose_lobby_dies_while_it_resumes_does_so_in_another() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            first, second = running.lobbies
            first.publish("a")
            second.publish("a", "b", "c")
            async with running.connect(asking("a", "b")) as client:  # for which the first lobby waits
                await until(lambda: first.seat_count.taken == 1 and running.service().clients)
                first.die()
                assert await texts(client, 2) == [EXACT, "c"]
            assert await resumes(running) == (1, 0)
            await until(lambda: second.seat_count.taken == 0)

    run(main())


def test_a_client_that_leaves_while_it_resumes_returns_its_seat() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            lobby.publish("a")
            async with running.connect(asking("a", "b")):
                await until(lambda: lobby.seat_count.taken == 1)
            await until(lambda: lobby.seat_count.taken == 0)
            assert await resumes(running) == (0, 0)

    run(main())


def test_malformed_hashes_are_refused_with_one_line() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            for query in ("resume=here", "resume=", f"{asking('a').partition('?')[2]}."):
                status, _, body = await http_get(running.greeter.port, f"/prices?{query}", **UPGRADE)
                assert status == 400
                assert body.count(b"\n") <= 1
                assert b"1 to 16 hashes" in body
            running.tell(*running.lobbies, routing={"mode": "Redirect"})
            status, _, body = await http_get(running.greeter.port, "/prices?resume=here", Accept="application/json")
            assert status == 400

    run(main())


def test_a_redirected_client_keeps_its_hashes() -> None:
    async def main() -> None:
        async with greeter("prices-1", routing={"mode": "Redirect"}) as running:
            path = asking("a", "b")
            asked = path.partition("?")[2]
            _, headers, _ = await http_get(running.greeter.port, path, **UPGRADE)
            assert headers["location"].partition("?")[2].startswith(f"{asked}&token=")
            _, _, body = await http_get(running.greeter.port, path, Accept="application/json")
            assert json.loads(body)["url"].partition("?")[2].startswith(f"{asked}&token=")

    run(main())
