"""Clients that send as much as they can: each is closed with 1008 before it affects the others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import zlib

import pytest
from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, masked
from tests.support.sockets import run
from tests.support.waiting import until
from tests.support.wire import BINARY, CONT, FIN, PING, PONG, RSV1, TEXT

MIB = 1 << 20


def deflated(payload: bytes) -> bytes:
    """The payload of a deflated message (RFC 7692 §7.2.1)."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


# Sent repeatedly, 64 KiB at a time.
FLOODS = {
    "pings": masked(FIN | PING, b"x" * 8) * 4681,
    "empty pings": masked(FIN | PING) * 10922,
    "pongs": masked(FIN | PONG) * 10922,
    "empty messages": masked(FIN | TEXT) * 10922,
    "small messages": masked(FIN | TEXT, b"hello") * 5957,
    "large messages": masked(FIN | BINARY, bytes(65536)),
    "fragments that never end": masked(CONT) * 10922,
}


# Each inflates to 1 MiB. Sent at a rate that the limit on frames allows.
BOMB = masked(FIN | RSV1 | BINARY, deflated(bytes(MIB)))


async def flood(target: Target, what: str, *, reading: bool) -> int:
    """Sends until the connection is closed; returns the close code."""
    async with await target.client(receive_buffer=4096) as client:
        sending = asyncio.create_task(send_repeatedly(client, what))
        try:
            if reading:
                return await client.closed_with()
            await sending  # the connection is closed while it sends
            return await client.closed_with()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def send_repeatedly(client: RawClient, what: str) -> None:
    if "fragments" in what:
        await client.send(masked(TEXT))
    loop = asyncio.get_running_loop()
    try:
        for _ in itertools.count():
            await loop.sock_sendall(client.sock, FLOODS[what])
    except (BrokenPipeError, ConnectionResetError):
        return


async def until_flooded(target: Target, count: int) -> None:
    async def look() -> bool:
        return await target.count("closes_total", reason="flooded") == count

    await until(look, describe=f"{count} clients closed for flooding")


@BOTH_KINDS
def test_a_flood_is_closed_with_1008(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            for what in FLOODS:
                assert await flood(target, what, reading=True) == 1008, what
            await until_flooded(target, len(FLOODS))

    run(main(), deadline=90)


@BOTH_KINDS
def test_many_floods_that_never_read_cost_no_memory_and_affect_no_one(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:
            await flood(target, "pings", reading=False)
            before = target.resident()
            codes = await asyncio.gather(*(flood(target, what, reading=False) for what in FLOODS for _ in range(5)))
            # A client that is disconnected while it sends may lose a close frame that it has not read.
            assert set(codes) <= {1008, 1006}, codes
            await until_flooded(target, len(codes) + 1)
            assert target.resident() - before < 4 * MIB

    run(main(), deadline=90)


@BOTH_KINDS
def test_clients_that_send_little_which_inflates_to_much_are_closed_and_delay_no_one(kind: str) -> None:
    async def bombard(target: Target) -> int:
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
        async with await target.client(offer) as client:
            sending = asyncio.create_task(send_bombs(client))
            try:
                return await client.closed_with()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def send_bombs(client: RawClient) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                await loop.sock_sendall(client.sock, BOMB * 4)
                await asyncio.sleep(0.02)  # 200 frames a second

    async def main() -> None:
        assert len(BOMB) < 1100
        async with attacked(kind, compression=True, clients_maxMessageBytes=MIB, rate=100) as target:
            async with asyncio.timeout(20):
                assert await asyncio.gather(*(bombard(target) for _ in range(4))) == [1008] * 4
            await until_flooded(target, 4)

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_busy_client_is_not_a_flood(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_maxMessageBytes=4 * MIB) as target, await target.client() as client:
            for _ in range(1000):  # five seconds' worth of messages at once
                await client.send(masked(FIN | TEXT, b"an order"))
            for _ in range(2):
                await client.send(masked(FIN | BINARY, bytes(4 * MIB)))
            await client.send(masked(FIN | PING, b"still here"))
            pong = await client.control()
            assert pong is not None
            assert pong.payload == b"still here"
            assert len(target.bystanders.open) == BYSTANDERS

    run(main(), deadline=60)


@pytest.mark.parametrize(("option", "what"), [("--client-frames", "pings"), ("--client-bytes", "large messages")])
def test_the_limits_are_options_and_0_means_no_limit(option: str, what: str) -> None:
    async def main() -> None:
        other = "--client-bytes" if option == "--client-frames" else "--client-frames"
        async with attacked("lobby", options=(option, "10", other, "0")) as target:
            assert await flood(target, what, reading=True) == 1008
        async with attacked("lobby", options=(option, "0", other, "0")) as target, await target.client() as client:
            for _ in range(30):
                await client.send(FLOODS[what])
            await client.send(masked(FIN | PING, b"still here"))
            while (frame := await client.control()) is not None and frame.payload != b"still here":
                assert frame.opcode == PONG
            assert frame is not None

    run(main(), deadline=60)
