from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support import web
from tests.support.raw_client import RawClient, request
from tests.support.sockets import run
from tests.unit.greeter.lobbies import KEY, SETTINGS, Lobby, Running, greeter, texts, until
from tests.unit.greeter.support import resource
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lobby_gateway.clients.resuming import hashes
from lobby_gateway.clients.tokens import Purpose, verify
from lobby_gateway.settings import RemovalSettings, SeatQueueSettings, TrunkConsumerSettings
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.websocket.frames import Opcode

WAIT_SECONDS = 15  # for which a client waits for a seat, by default; a loaded machine is quicker than half of it


async def outcome(client: ClientConnection) -> str:
    """The next message of a client, or the code with which it was closed."""
    try:
        async with asyncio.timeout(10):
            return str(await client.recv())
    except ConnectionClosed:
        return str(client.close_code)


def numbered(first: int, count: int) -> list[str]:
    return [str(number) for number in range(first, first + count)]


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


def both_publish(running: Any, *texts: str) -> None:
    for lobby in running.lobbies:
        lobby.publish(*texts)


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


REDIRECT: Any = {"routing": {"mode": "Redirect", "redirect": {"urlTemplate": "ws://{ip}:{port}/"}}}


def asked_for(url: str, name: str) -> bool:
    token = parse_qs(urlsplit(url).query)["token"][0]
    claims = verify(token, [KEY], purpose=Purpose.SEAT, lobby=name, path="/prices", now=time.time())
    return 0 < claims.expires - time.time() <= 31


async def http_get(port: int, path: str = "/prices?symbol=x", /, **headers: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: h", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    fields = (line.split(": ", 1) for line in rest)
    return int(status.split()[1]), {name.lower(): value for name, value in fields}, body


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def test_redirected_clients_get_a_token_for_their_lobby() -> None:
    async def main() -> None:
        async with greeter("prices-1", **REDIRECT) as running:
            [lobby] = running.lobbies
            status, headers, _ = await http_get(running.greeter.port, **UPGRADE)
            assert status == 307
            assert headers["location"].startswith(f"//{lobby.address}/prices?symbol=x&token=")
            status, headers, body = await http_get(running.greeter.port, Accept="application/json")
            ticket = json.loads(body)
            assert status == 200
            assert ticket["url"] == f"ws://{lobby.address}/prices?symbol=x&token={ticket['token']}"
            assert asked_for(ticket["url"], "prices-1")
            assert (lobby.trunks_opened, lobby.seat_count.taken) == (0, 0)

    run(main())


def test_redirected_clients_are_spread_over_lobbies_by_the_tickets_issued() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", seats=2, waitSeconds=1, **REDIRECT) as running:
            answers = [await http_get(running.greeter.port, Accept="application/json") for _ in range(4)]
            urls = [json.loads(body)["url"] for _, _, body in answers]
            assert [urlsplit(url).netloc for url in urls] == [
                lobby.address for lobby in running.lobbies for _ in range(2)
            ]
            status, headers, _ = await http_get(running.greeter.port, Accept="application/json", Origin="https://h")
            assert (status, headers["retry-after"]) == (503, "5")

    run(main())


@pytest.mark.parametrize("headers", [UPGRADE, {"Accept": "application/json"}])
@pytest.mark.parametrize(
    "template",
    ["ws://{ip}:{port}\u0001", "wss://münchen{port}.example/", "wss://€{port}.example/", "wss://{ip}:9{port}/"],
)
def test_clients_that_cannot_be_redirected_are_refused(
    caplog: pytest.LogCaptureFixture, template: str, headers: dict[str, str]
) -> None:
    async def main() -> None:
        async with greeter("prices-1", **REDIRECT) as running:
            [lobby] = running.lobbies
            raw = resource("prices", **REDIRECT)
            raw["spec"]["routing"]["redirect"]["urlTemplate"] = template  # stored before the CRD had its rule
            raw["status"] = {"open": [lobby.entry]}
            running.greeter.directory.update([raw])
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(http_get(running.greeter.port, **headers) for _ in range(3)))
            assert [status for status, _, _ in answers] == [500] * 3
            assert b"spec.routing.redirect.urlTemplate" in answers[0][2]
            assert running.greeter.report().waiting == {"prices": 0}
            assert running.greeter._capacity.clients == 0
            running.tell(lobby, **REDIRECT)
            status, _, _ = await http_get(running.greeter.port, **headers)
            assert status in {200, 307}

    run(main())
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1  # not one for each client
    assert "token" not in caplog.text


def test_a_client_that_cannot_be_redirected_keeps_no_other_from_its_lobby() -> None:
    async def main() -> None:
        # An IPv6 address can't be part of a name.
        names: Any = {"routing": {"mode": "Redirect", "redirect": {"urlTemplate": "ws://{ip}.example.com:{port}/"}}}
        async with greeter("prices-1", "prices-2", seats=1, waitSeconds=1, **names) as running:
            bad, good = running.lobbies
            bad.address = "[fd00::7]:9000"
            running.tell(bad, good)
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(http_get(running.greeter.port, **UPGRADE) for _ in range(2)))
            assert sorted(status for status, _, _ in answers) == [307, 500]

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


EXACT = '{"lobby-gateway":{"resume":"exact"}}'
LIVE = '{{"lobby-gateway":{{"resume":"live","reason":"{}"}}}}'


def asking(*seen: str) -> str:
    """The path for a client that saw these messages last."""
    return f"/prices?resume={hashes(text.encode() for text in seen)}"


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


SUBPROTOCOLS = {"url": "ws://origin.example/", "subprotocols": ["v2", "v1"]}


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
    settings = replace(SETTINGS, trunk=replace(SETTINGS.trunk, subprotocol_wait_seconds=0.05))

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
