"""Ten thousand clients connect and disconnect in every way: nothing leaks, and other clients are not affected."""

from __future__ import annotations

import asyncio
import itertools

from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, masked
from tests.support.sockets import run
from tests.support.wire import CLOSE, FIN

WARM_UP = 2000
MANY = 10_000
AT_A_TIME = 50
MIB = 1 << 20


async def come_and_go(target: Target, number: int) -> None:
    """Connects and disconnects; every fifth client does not await the response, and half of the others send no close frame."""
    if number % 5 == 4:
        client = await target.connect(target.request())
        (RawClient.close if number % 10 == 4 else RawClient.reset)(client)
        return
    client = await target.client()
    match number % 4:
        case 0 | 1:
            await client.send(masked(FIN | CLOSE))
            assert await client.closed_with() == 1005
            client.close()
        case 2:
            client.close()
        case 3:
            client.reset()


async def all_come_and_go(target: Target, count: int) -> None:
    numbers = itertools.count()

    async def several() -> None:
        while (number := next(numbers)) < count:
            await come_and_go(target, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(several())
    await target.lobby.until_clients(BYSTANDERS)


@BOTH_KINDS
def test_ten_thousand_clients_leak_nothing(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, rate=20) as target:
            target.token_seconds = 5  # a lobby remembers a used token until it expires
            await all_come_and_go(target, WARM_UP)
            before, in_lobby = target.resident(), target.lobby.resident()
            await all_come_and_go(target, MANY)
            grown, grown_in_lobby = target.resident() - before, target.lobby.resident() - in_lobby
            # If each client leaked, connection objects alone would take 5 MB. At this rate a lobby remembers
            # thousands of tokens, 80 bytes each.
            assert grown < 2 * MIB, f"{grown} bytes more in the {kind}"
            assert grown_in_lobby < 2 * MIB, f"{grown_in_lobby} bytes more in the lobby"
            assert await target.count("handshakes_total") >= (WARM_UP + MANY) * 0.8

    run(main(), deadline=100)
