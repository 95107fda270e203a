"""Thousands of requests that never end (slow loris): others are accepted meanwhile, and each is dropped in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from tests.support import proc
from tests.support.attack import BOTH_KINDS, Target, attacked
from tests.support.raw_client import RawClient
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.waiting import until

MANY = 3000
MIB = 1 << 20


async def loris(target: Target, pace: float) -> int:
    """Sends a request byte by byte; returns the status of the answer."""
    client = None
    try:
        client = await target.connect()
        answer = asyncio.ensure_future(client.response())
        try:
            for byte in target.request():
                if answer.done():
                    break
                await client.send(bytes([byte]))
                await asyncio.wait([answer], timeout=pace)
            return (await answer).status
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
    finally:
        if client is not None:
            client.close()


@BOTH_KINDS
def test_slow_requests_get_408_and_no_one_else_waits(kind: str) -> None:
    async def main() -> None:
        # Long enough for a busy machine to connect a thousand of them before the first times out.
        async with attacked(kind, options=("--handshake-seconds", "5")) as target:
            before = target.resident()
            slow = [asyncio.ensure_future(loris(target, pace=1.0)) for _ in range(MANY)]
            await until(
                lambda: proc.open_files(target.pid) > target.files + 1000,
                deadline=30,
                describe="a thousand slow requests",
            )
            url = target.greeter.url("/prices") if target.greeter else target.lobby.client_url
            async with Swarm(url) as swarm:
                await swarm.connect_all(20)
                await swarm.each_gets(3)
                statuses = Counter(await asyncio.gather(*slow))
                # Clients that the server could not linger for may have missed the response.
                assert set(statuses) <= {408, 0}, statuses
                assert statuses[408] >= MANY / 2, statuses
                assert (swarm.gaps, swarm.disorder, swarm.closes) == (0, 0, {}), swarm.summary()
            assert await target.count("refusals_total", reason="handshake_timeout") == MANY
            assert target.resident() - before < 8 * MIB

    run(main(), deadline=60)


@BOTH_KINDS
def test_too_many_requests_drop_the_oldest(kind: str) -> None:
    async def main() -> None:
        # Of 400 descriptors, 100 are reserved for connections that are not clients, half of them for incomplete requests.
        async with attacked(kind, prefix=("prlimit", "--nofile=400")) as target, contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(await target.connect(b"GET /")) for _ in range(300)]
            for client in slow[:200]:
                assert (await client.response()).status in {408, 0}
            assert proc.open_files(target.pid) < 250
            for _ in range(3):
                async with await target.client() as client:
                    assert await client.frame() is not None
            assert await target.count("refusals_total", reason="handshake_timeout") >= 250

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_huge_request_in_small_pieces_is_cut_off_at_the_limit(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target, await target.connect(target.request()[:-2]) as client:
            sending = asyncio.create_task(drops(client))
            assert (await client.response()).status == 431
            await sending

    run(main(), deadline=60)


async def drops(client: RawClient) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for number in range(2000):
            await asyncio.get_running_loop().sock_sendall(client.sock, b"X-%d: x\r\n" % number)
            await asyncio.sleep(0)
