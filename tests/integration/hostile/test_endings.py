"""Clients disconnect in every way at every moment: their seats and descriptors are released, and others are not affected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.origins import FakeOrigin
from tests.support.raw_client import RawClient, masked, request
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until
from tests.support.wire import BINARY, CLOSE, FIN, PING, TEXT

Ending = Callable[[RawClient], None]


def half_close(client: RawClient) -> None:
    client.half_close()


def close(client: RawClient) -> None:
    client.close()


def reset(client: RawClient) -> None:
    client.reset()


async def immediately(target: Target) -> RawClient:
    return await target.connect()


async def during_the_request(target: Target) -> RawClient:
    return await target.connect(target.request()[:70])


async def after_the_request(target: Target) -> RawClient:
    return await target.connect(target.request())


async def once_connected(target: Target) -> RawClient:
    return await target.client()


async def during_a_frame(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(FIN | BINARY, bytes(60_000))[:30_000])
    return client


async def during_a_message(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(TEXT, b"to be continued"))
    return client


async def after_a_ping(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(FIN | PING, b"x") * 10)
    return client


async def after_a_close(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(FIN | CLOSE))
    return client


async def after_a_violation(target: Target) -> RawClient:
    client = await target.client()
    await client.send(masked(FIN | TEXT, b"\xff"))
    return client


async def after_a_refusal(target: Target) -> RawClient:
    return await target.connect(request("/nowhere"))


async def with_a_full_socket(target: Target) -> RawClient:
    client = await target.client(receive_buffer=2048)
    await client.until_unread(1000)  # part of a 16 KiB message that does not fit
    return client


MOMENTS: tuple[Callable[[Target], Awaitable[RawClient]], ...] = (
    immediately, during_the_request, after_the_request, once_connected, during_a_frame, during_a_message, after_a_ping,
    after_a_close, after_a_violation, after_a_refusal, with_a_full_socket,
)  # fmt: skip
ENDINGS: tuple[Ending, ...] = (half_close, close, reset)
TIMES = 4


@BOTH_KINDS
def test_every_ending_at_every_moment_releases_all_resources(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, rate=20, size=16_384) as target:  # a mailbox then bridges a stall of 0.8 s

            async def one(moment: Callable[[Target], Awaitable[RawClient]], ending: Ending) -> None:
                client = await moment(target)
                ending(client)
                if ending is half_close:
                    await client.end()  # a WebSocket is never half-closed: the server closes its side, too
                    client.close()

            await asyncio.gather(*(one(moment, each) for moment in MOMENTS for each in ENDINGS for _ in range(TIMES)))
            await target.assert_unaffected()
            accepted = 7 * len(ENDINGS) * TIMES  # some that disconnected right after the request were accepted, too
            assert await target.count("handshakes_total") >= accepted + BYSTANDERS
            assert await target.count("closes_total", reason="lost") >= 4 * len(ENDINGS) * TIMES
            assert await target.count("closes_total", reason="invalid_data") <= len(ENDINGS) * TIMES

    run(main(), deadline=60)


def test_clients_that_disconnect_while_waiting_take_no_seat(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=2, maxReplicas=1, spareSeats=0, waitSeconds=60
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                first, second = await swarm.connect_all(2)
                port = int(up.url.split(":")[2].split("/")[0])
                waiting = [await RawClient.connect(port, request("/prices")) for _ in range(30)]
                await up.until_waiting(30)
                for number, client in enumerate(waiting[:27]):
                    if number % 3 == 2:
                        client.half_close()
                        assert (await client.response()).status == 0
                    ENDINGS[number % 3](client)
                # Bytes sent before the 101 are buffered, up to the size of a request.
                await waiting[27].send(bytes(100_000))
                assert (await waiting[27].response()).status == 400
                await up.until_waiting(2)
                await swarm.close([first, second])
                for client in waiting[28:]:
                    assert (await client.head()).status == 101
                await up.until_clients(2)
                for client in waiting:
                    client.close()
                await up.until_clients(0)

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_client_that_never_reads_costs_little_more_than_its_seat(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, rate=100, size=65_536) as target:
            before = target.resident()
            stalled = [await target.client(receive_buffer=4096) for _ in range(20)]

            async def behind() -> bool:
                return await target.count("clients_behind") == 20

            await until(behind, describe="20 clients that do not read")
            await target.bystanders.each_gets(100)
            # Each mailbox keeps the latest 16 messages, whose bytes are shared.
            assert target.resident() - before < 16 << 20
            for client in stalled:
                client.reset()

    run(main(), deadline=60)


def test_messages_of_a_client_that_disconnects_at_once_reach_the_origin(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, clients_messages="Forward")
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(1)
                connection = await origin.until_open(1)
                await up.until_origin("Connected")
                port = int(up.url.split(":")[2].split("/")[0])
                for number in range(20):
                    client = await RawClient.upgraded(port, request("/prices"))
                    await client.send(masked(FIN | TEXT, json.dumps(number).encode()) + masked(FIN | CLOSE))
                    client.close()
                await origin.until(lambda: len(connection.messages) == 20)
                assert sorted(map(int, connection.messages)) == list(range(20))
                await up.until_clients(1)

    run(main(), deadline=60)
