"""Clients whose lobby drains, dies or hangs: where they continue, and the seats that they hold meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.support.sockets import run
from tests.unit.greeter.clients import WAIT_SECONDS, both_publish, numbered
from tests.unit.greeter.lobbies import SETTINGS, Lobby, Running, greeter, texts, until
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from lobby_gateway.settings import SeatQueueSettings, TrunkConsumerSettings


def test_after_a_broken_trunk_clients_continue_exactly_in_the_same_lobby() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            lobby = running.lobbies[0]
            clients = await running.clients(5)
            lobby.publish(*numbered(1, 20))
            for client in clients:
                await texts(client, 20)
            lobby.break_trunks()
            lobby.publish(*numbered(21, 5))
            await until(lambda: lobby.trunks_opened == 2)
            lobby.publish("26")
            for client in clients:
                assert await texts(client, 6) == numbered(21, 6)
            assert running.greeter.report().moves_exact == {"prices": 5}
            assert (lobby.seat_count.taken, running.lobbies[1].seat_count.taken) == (5, 0)
            for client in clients:
                await client.close()

    run(main())


def test_when_a_lobby_dies_its_clients_continue_exactly_if_their_position_is_known() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            clients = await running.clients(5)
            both_publish(running, *numbered(1, 20))
            for client in clients:
                await texts(client, 20)
            running.lobbies[0].die()
            both_publish(running, *numbered(21, 5))
            for client in clients:
                assert await texts(client, 5) == numbered(21, 5)
            report = running.greeter.report()
            assert (report.moves_exact, report.moves_live) == ({"prices": 5}, {"prices": 0})
            assert running.lobbies[1].seat_count.taken == 5
            for client in clients:
                await client.close()

    run(main())


def test_clients_with_an_unknown_position_continue_live_and_are_counted() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            first, second = running.lobbies
            second.ring.begin_epoch(2)
            clients = await running.clients(2)
            first.publish("a")
            second.publish("x", "y")
            for client in clients:
                await texts(client, 1)
            first.die()
            await until(lambda: running.greeter.report().moves_live == {"prices": 2})
            second.publish("z")
            for client in clients:
                assert await texts(client, 1) == ["z"]
                await client.close()

    run(main())


def test_clients_leave_a_draining_lobby_without_a_gap_and_return_its_seats_last() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=4) as running:
            [old] = running.lobbies
            clients = await running.clients(4)
            both_publish(running, "1")
            old.drain()
            running.tell()
            both_publish(running, "2")  # still served: there is no other seat
            for client in clients:
                assert await texts(client, 2) == ["1", "2"]
            assert running.greeter.report().waiting == {"prices": 0}
            small = running.lobby("prices-2", 3)
            small.publish("1", "2")
            running.tell(small)
            await until(lambda: (small.seat_count.taken, old.seat_count.taken) == (3, 1))
            both_publish(running, "3")
            last = running.lobby("prices-3", 3)
            last.publish("1", "2", "3")
            running.tell(small, last)
            await until(lambda: (last.seat_count.taken, old.seat_count.taken) == (1, 0))
            both_publish(running, "4")
            for client in clients:
                assert await texts(client, 2) == ["3", "4"]
            await until(lambda: not old.trunks)
            assert running.greeter.report().moves_exact == {"prices": 4}
            for client in clients:
                await client.close()
            await until(lambda: not any(lobby.seat_count.taken for lobby in running.lobbies))

    run(main())


QUICK = replace(SETTINGS, trunk=TrunkConsumerSettings(find_again_seconds=0.02))


async def moving(running: Running, count: int) -> tuple[Lobby, Lobby, list[ClientConnection]]:
    """Clients of a draining lobby that have seats in another one, which does not know their place."""
    [old] = running.lobbies
    clients = await running.clients(count)
    old.publish(*numbered(1, 20))
    for client in clients:
        await texts(client, 20)
    new = running.lobby("prices-2")
    new.ring.begin_epoch(7)
    new.publish(*numbered(15, 6))  # it connected a moment ago
    old.drain()
    running.tell(new)
    await until(lambda: (new.seat_count.taken, old.seat_count.taken) == (count, count))
    return old, new, clients


def test_clients_stay_on_the_stream_of_a_draining_lobby_until_the_next_one_knows_their_place() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=QUICK) as running:
            old, new, clients = await moving(running, 3)
            old.publish(*numbered(21, 20))
            for client in clients:
                assert await texts(client, 20) == numbered(21, 20)
            assert old.seat_count.taken == 3
            new.publish(*numbered(21, 20))
            await until(lambda: old.seat_count.taken == 0)
            new.publish("41")
            for client in clients:
                assert await texts(client, 1) == ["41"]
                await client.close()
            assert running.greeter.report().moves_exact == {"prices": 3}
            await until(lambda: not new.seat_count.taken)

    run(main())


def test_clients_that_stay_on_a_draining_lobby_leave_when_it_is_lost() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=QUICK) as running:
            old, new, clients = await moving(running, 3)
            new.publish(*numbered(21, 16))
            old.publish(*numbered(21, 11))
            old.die()
            for client in clients:
                assert await texts(client, 16) == numbered(21, 16)
                await client.close()
            assert running.greeter.report().moves_exact == {"prices": 3}
            assert new.claims == [3]
            await until(lambda: not new.seat_count.taken)

    run(main())


def test_clients_stay_on_a_draining_lobby_when_the_next_one_is_lost_and_move_to_another() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=QUICK) as running:
            old, new, clients = await moving(running, 3)
            new.die()
            old.publish("21")
            for client in clients:
                assert await texts(client, 1) == ["21"]
            third = running.lobby("prices-3")
            third.ring.begin_epoch(8)
            third.publish(*numbered(1, 21))
            running.tell(third)
            await until(lambda: (third.seat_count.taken, old.seat_count.taken) == (3, 0))
            third.publish("22")
            for client in clients:
                assert await texts(client, 1) == ["22"]
                await client.close()
            await until(lambda: not third.seat_count.taken)
            assert running.greeter.report().moves_exact == {"prices": 3}

    run(main())


def test_a_client_that_disconnects_while_its_place_is_looked_for_returns_both_seats() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=QUICK) as running:
            old, new, clients = await moving(running, 2)
            for client in clients:
                await client.close()
            await until(lambda: (new.seat_count.taken, old.seat_count.taken) == (0, 0))
            await until(lambda: not old.trunks)

    run(main())


def test_clients_leave_a_draining_lobby_in_the_end_even_if_their_place_is_not_found() -> None:
    hasty = replace(SETTINGS, trunk=TrunkConsumerSettings(find_seconds=0.1, find_again_seconds=0.02))

    async def main() -> None:
        async with greeter("prices-1", settings=hasty) as running:
            old, new, clients = await moving(running, 2)
            await until(lambda: not old.seat_count.taken)
            new.publish("next")
            for client in clients:
                assert await texts(client, 1) == ["next"]
                await client.close()
            assert running.greeter.report().moves_live == {"prices": 2}

    run(main())


def test_clients_whose_messages_have_no_identity_move_at_once() -> None:
    async def main() -> None:
        origin = {"url": "ws://origin.example/", "identity": "None"}
        async with greeter("prices-1", origin=origin) as running:
            [old] = running.lobbies
            clients = await running.clients(2)
            old.publish("1")
            new = running.lobby("prices-2")
            new.ring.begin_epoch(7)
            new.publish("1")
            old.drain()
            running.tell(new)
            await until(lambda: (new.seat_count.taken, old.seat_count.taken) == (2, 0))
            assert running.greeter.report().moves_live == {"prices": 2}
            for client in clients:
                await client.close()

    run(main())


def test_clients_of_a_draining_lobby_move_one_after_the_other() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            old, new = running.lobbies
            clients = await running.clients(8)
            both_publish(running, "1")
            begin = time.monotonic()
            old.drain(0.8)
            await until(lambda: old.seat_count.taken <= 4)
            assert time.monotonic() - begin >= 0.2
            assert len(old.trunks) == 1, "the rest stays on the stream"
            both_publish(running, "2")
            await until(lambda: not old.trunks)
            assert new.seat_count.taken == 8
            assert len(new.claims) >= 4
            both_publish(running, "3")
            for client in clients:
                assert await texts(client, 3) == ["1", "2", "3"]
            assert running.greeter.report().moves_exact == {"prices": 8}
            for client in clients:
                await client.close()

    run(main())


@pytest.mark.parametrize("how", ["asks again", "dies", "clients leave"])
def test_clients_that_are_not_due_to_move_yet_are_not_forgotten(how: str) -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            old, new = running.lobbies
            clients = await running.clients(3)
            both_publish(running, "1")
            old.drain(3600)
            await until(lambda: new.seat_count.taken == 1)
            [late] = await running.clients(1)
            assert (old.seat_count.taken, new.seat_count.taken) == (2, 2)
            if how == "asks again":
                old.drain()
            elif how == "dies":
                old.die()
            else:
                for client in clients:
                    await client.close()
                clients = []
            await until(lambda: new.seat_count.taken == len(clients) + 1)
            await until(lambda: not old.trunks)
            both_publish(running, "2")
            for client in clients:
                assert await texts(client, 2) == ["1", "2"]
            for client in (*clients, late):
                await client.close()

    run(main())


def test_moved_clients_come_before_new_ones() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=2) as running:
            [old] = running.lobbies
            clients = await running.clients(2)
            running.tell()
            new = asyncio.ensure_future(running.connect().__aenter__())
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            old.drain()
            small = running.lobby("prices-2", 2)
            running.tell(small)
            await until(lambda: old.seat_count.taken == 0)
            assert small.seat_count.taken == 2
            assert running.greeter.report().waiting == {"prices": 1}
            await clients[0].close()
            await (await new).close()
            await clients[1].close()

    run(main())


def test_an_unresponsive_lobby_is_given_up_and_its_clients_continue_elsewhere() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2") as running:
            silent, other = running.lobbies
            [client] = await running.clients(1)
            both_publish(running, "1")
            await texts(client, 1)
            for trunk in silent.trunks:
                silence(trunk)
            begin = time.monotonic()
            other.publish("2")
            assert await texts(client, 1) == ["2"]
            assert 1.5 < time.monotonic() - begin < WAIT_SECONDS / 2
            assert running.greeter.report().moves_exact == {"prices": 1}
            await client.close()

    run(main())


def silence(trunk: Any) -> None:
    """As if its process was stopped: nothing is read, nothing is sent."""
    trunk._timer.cancel()
    asyncio.get_running_loop().remove_reader(trunk.fd)


def test_a_client_that_disconnects_between_two_lobbies_leaves_no_seat_taken() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=2) as running:
            [old] = running.lobbies
            staying, leaving = await running.clients(2)
            old.die()
            await until(lambda: running.greeter.report().waiting == {"prices": 2})
            await leaving.close()
            await until(lambda: running.greeter.report().waiting == {"prices": 1})
            new = running.lobby("prices-2")
            running.tell(new)
            await until(lambda: new.seat_count.taken == 1)
            await staying.close()
            await until(lambda: new.seat_count.taken == 0)

    run(main())


def test_clients_that_disconnect_while_joining_a_draining_lobby_leave_no_seat_taken_in_the_previous_one() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=2) as running:
            [old] = running.lobbies
            clients = await running.clients(2)
            old.publish("1", "2")
            for client in clients:
                await texts(client, 2)
            old.drain()
            new = running.lobby("prices-2")
            new.publish("1")  # the clients are ahead of it: it waits for what they have before it takes them
            running.tell(new)
            await until(lambda: new.seat_count.taken == 2)
            new.drain()
            for client in clients:
                await client.close()
            await until(lambda: new.seat_count.taken == 0)
            await until(lambda: old.seat_count.taken == 0)

    run(main())


def test_clients_without_a_seat_are_closed_in_the_end() -> None:
    impatient = replace(SETTINGS, seat_queue=SeatQueueSettings(min_lost_seconds=0.3))

    async def main() -> None:
        async with greeter("prices-1", settings=impatient, waitSeconds=0) as running:
            [client] = await running.clients(1)
            running.lobbies[0].die()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1013

    run(main())
