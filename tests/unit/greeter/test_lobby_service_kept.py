"""What clients get first of what is kept for them (`keep`)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.sockets import run
from tests.unit.greeter.clients import EXACT, LIVE, asking, both_publish, numbered
from tests.unit.greeter.lobbies import SETTINGS, greeter, texts, until

from lobby_gateway.settings import TrunkConsumerSettings


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_joining_clients_get_what_is_kept_then_the_replay_then_the_stream(compression: str | None) -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 2, "compression": "Shared"}) as running:
            [lobby] = running.lobbies
            lobby.keep(id="id" * 200)
            [first] = await running.clients(1, compression=compression)
            assert await texts(first, 1) == ["id" * 200]
            lobby.keep(state="state", ahead=3)
            lobby.publish("a", "b", "state")
            assert await texts(first, 3) == ["a", "b", "state"]  # which is not told twice
            [second] = await running.clients(1, compression=compression)
            assert await texts(second, 3) == ["id" * 200, "b", "state"]
            lobby.publish("c")
            assert [await texts(each, 1) for each in (first, second)] == [["c"], ["c"]]
            lobby.keep(id="other", state="another")
            lobby.publish("d")
            assert await texts(first, 1) == ["d"]
            [third] = await running.clients(1, compression=compression)
            assert await texts(third, 4) == ["other", "another", "c", "d"]
            for client in (first, second, third):
                await client.close()

    run(main())


def test_clients_whose_stream_breaks_are_told_what_is_kept_before_it_goes_on() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            [client] = await running.clients(1)
            lobby.keep(tell=True, id="1")
            lobby.publish("a")
            lobby.ring.begin_epoch(2)
            lobby.keep(tell=True, id="2")
            lobby.publish("b")
            assert await texts(client, 4) == ["1", "a", "2", "b"]
            await client.close()

    run(main())


def test_nothing_is_replayed_from_before_what_is_kept_changed_because_the_stream_broke() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 9}) as running:
            [lobby] = running.lobbies
            lobby.keep(tell=True, id="1")
            lobby.publish("a")
            [first] = await running.clients(1)
            assert await texts(first, 2) == ["1", "a"]
            lobby.ring.begin_epoch(2)
            lobby.keep(tell=True, id="2")
            assert await texts(first, 1) == ["2"]
            async with running.connect() as client:
                lobby.publish("b")
                assert await texts(client, 2) == ["2", "b"]
            async with running.connect() as client:
                assert await texts(client, 2) == ["2", "b"]
            await first.close()

    run(main())


def test_nothing_is_kept_of_a_stream_that_nobody_needs_any_more() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            lobby.keep(id="1")
            [first] = await running.clients(1)
            assert await texts(first, 1) == ["1"]
            lobby.ring.forget()
            lobby.keep()
            lobby.publish("a")
            assert await texts(first, 1) == ["a"]
            [second] = await running.clients(1)
            lobby.publish("b")
            assert await texts(second, 1) == ["b"]
            for client in (first, second):
                await client.close()

    run(main())


def test_moved_clients_that_continue_exactly_get_nothing_of_what_is_kept() -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [old] = running.lobbies
            old.keep(id="1")
            clients = await running.clients(2)
            both_publish(running, *numbered(1, 20))
            new = running.lobby("prices-2")
            new.publish(*numbered(1, 20))
            new.keep(id="2")
            old.drain()
            running.tell(new)
            await until(lambda: running.greeter.report().moves_exact == {"prices": 2})
            new.publish("21")
            for client in clients:
                assert await texts(client, 22) == ["1", *numbered(1, 21)]
                await client.close()

    run(main())


@pytest.mark.parametrize("dies", [False, True])
def test_moved_clients_that_continue_live_get_what_is_new_of_what_is_kept(dies: bool) -> None:
    hasty = replace(SETTINGS, trunk=TrunkConsumerSettings(find_seconds=0.1, find_again_seconds=0.02))

    async def main() -> None:
        async with greeter("prices-1", settings=hasty) as running:
            [old] = running.lobbies
            old.keep(id="1", same="same")
            clients = await running.clients(2)
            old.publish("a")
            for client in clients:
                assert await texts(client, 3) == ["1", "same", "a"]
            new = running.lobby("prices-2")
            new.ring.begin_epoch(7)
            new.keep(same="same", id="2")
            old.die() if dies else old.drain()
            running.tell(new)
            await until(lambda: running.greeter.report().moves_live == {"prices": 2})
            new.publish("b")
            for client in clients:
                assert await texts(client, 2) == ["2", "b"]
                await client.close()

    run(main())


def test_moved_clients_that_missed_a_break_get_what_is_kept_there() -> None:
    """Like those that had the stream when it broke."""

    async def main() -> None:
        async with greeter("prices-1") as running:
            [old] = running.lobbies
            old.keep(id="1")
            clients = await running.clients(2)
            both_publish(running, *numbered(1, 20))
            for client in clients:
                assert await texts(client, 21) == ["1", *numbered(1, 20)]
            new = running.lobby("prices-2")
            new.publish(*numbered(1, 22))
            new.ring.begin_epoch(7)
            new.keep(id="2", tell=True)
            new.publish("30")
            old.die()
            running.tell(new)
            await until(lambda: running.greeter.report().moves_exact == {"prices": 2})
            new.publish("31")
            for client in clients:
                assert await texts(client, 5) == ["21", "22", "2", "30", "31"]
                await client.close()

    run(main())


@pytest.mark.parametrize("more", [[], ["3"]])
@pytest.mark.parametrize("behind", [0, 1])
def test_clients_of_a_lost_trunk_whose_lobby_broke_meanwhile_get_what_is_kept_there(
    more: list[str], behind: int
) -> None:
    async def main() -> None:
        async with greeter("prices-1") as running:
            [lobby] = running.lobbies
            lobby.keep(id="1", same="same")
            clients = await running.clients(2)
            lobby.publish("1")
            for client in clients:
                assert await texts(client, 3) == ["1", "same", "1"]
            lobby.break_trunks()
            lobby.publish(*["2"][:behind])
            lobby.ring.begin_epoch(2)
            lobby.keep(id="2", tell=True)
            lobby.publish(*more)
            await until(lambda: running.greeter.report().moves_exact == {"prices": 2})
            lobby.publish("4")
            for client in clients:
                assert await texts(client, 2 + behind + len(more)) == [*["2"][:behind], "2", *more, "4"]
                await client.close()

    run(main())


@pytest.mark.parametrize("more", [[], ["c"]])
@pytest.mark.parametrize("behind", [0, 1])
def test_a_resuming_client_that_missed_a_break_gets_what_is_kept_there(more: list[str], behind: int) -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 1}) as running:
            [lobby] = running.lobbies
            lobby.keep(id="1")
            lobby.publish("a", "b")
            [other] = await running.clients(1)
            lobby.ring.begin_epoch(2)
            lobby.keep(id="2", tell=True)
            lobby.publish(*more)
            assert await texts(other, 3 + len(more)) == ["1", "b", "2", *more]
            async with running.connect(f"/prices?resume={1:016x}-{2 - behind}") as client:
                assert await texts(client, 2 + behind + len(more)) == [EXACT, *["b"][:behind], "2", *more]
                lobby.publish("d")
                assert await texts(client, 1) == ["d"]
            async with running.connect(f"/prices?resume={2:016x}-0") as client:
                assert await texts(client, 2 + len(more)) == [EXACT, *more, "d"]
            await other.close()

    run(main())


def test_a_resuming_client_gets_what_is_kept_only_if_it_continues_live() -> None:
    async def main() -> None:
        async with greeter("prices-1", clients={"replay": 1}) as running:
            [lobby] = running.lobbies
            [other] = await running.clients(1)
            lobby.publish("a", "b", "c")
            lobby.keep(id="id")
            assert await texts(other, 3) == ["a", "b", "c"]
            async with running.connect(asking("id", "a", "b")) as client:  # it joined before "a"
                assert await texts(client, 2) == [EXACT, "c"]
                lobby.publish("d")
                assert await texts(client, 1) == ["d"]
            async with running.connect(asking("x")) as client:
                assert await texts(client, 3) == [LIVE.format("unknown"), "id", "d"]
            await other.close()

    run(main())
