"""Greeters of another release and broken ones: whatever a trunk sends, the lobby survives and loses no seats."""

from __future__ import annotations

import asyncio
import random
import time

from tests.support import raw_client
from tests.support.attack import BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, masked
from tests.support.sockets import run
from tests.support.wire import BINARY, CLOSE, FIN, TEXT

from lobby_gateway.clients.tokens import Purpose, key_from_hex, sign
from lobby_gateway.trunk.records import PATH, SUBPROTOCOL

HELLO = bytes.fromhex("01 00 00000000 00 02 6731")
CLAIM_ALL = bytes.fromhex("02 00 00000001 ffffffff")
CLAIM_TEN = bytes.fromhex("02 00 00000001 0000000a")


async def trunk(target: Target) -> RawClient:
    """Opens a trunk as a greeter does."""
    token = sign(
        key_from_hex(target.lobby.key),
        purpose=Purpose.TRUNK,
        lobby=target.lobby.name,
        path=PATH,
        expires=time.time() + 30,
    )
    headers = {"Sec-WebSocket-Protocol": SUBPROTOCOL, "Authorization": f"Bearer {token}"}
    return await RawClient.upgraded(target.port, raw_client.request(PATH, headers))


def record(data: bytes) -> bytes:
    return masked(FIN | BINARY, data)


async def closed_with(target: Target, *frames: bytes) -> int:
    async with await trunk(target) as client:
        await client.send(b"".join(frames))
        close = await client.control()
        assert close is not None
        await client.send(masked(FIN | CLOSE, close.payload[:2]))
        await client.end()
        return close.close_code


BROKEN = {
    "a text": masked(FIN | TEXT, HELLO),
    "an empty record": record(b""),
    "a record of a lobby": record(bytes.fromhex("88 00 01 0000ea60")),
    "half a record": record(CLAIM_ALL[:5]),
    "a second hello": record(HELLO) * 2,
    "a claim before hello": record(CLAIM_TEN),
    "release of seats it does not hold": record(HELLO) + record(bytes.fromhex("03 00 00000001")),
    "a forwarded ping": record(HELLO) + record(bytes.fromhex("04 00 09 6869")),
    "a name that is not UTF-8": record(bytes.fromhex("01 00 00000000 00 01 ff")),
}


def test_a_trunk_that_breaks_the_protocol_is_closed_with_1002() -> None:
    async def main() -> None:
        async with attacked("lobby") as target:
            codes = {name: await closed_with(target, frames) for name, frames in BROKEN.items()}
            assert codes == dict.fromkeys(BROKEN, 1002)
            assert await target.count("trunks") == 0

    run(main(), deadline=60)


def test_additions_of_a_later_release_are_ignored() -> None:
    async def main() -> None:
        async with attacked("lobby") as target, await trunk(target) as client:
            await client.send(record(b"\x7f\x00new") + record(HELLO + b"more") + record(CLAIM_TEN))
            await target.lobby.until_clients(BYSTANDERS + 10)

    run(main(), deadline=60)


def test_noise_on_many_trunks_leaks_no_seats() -> None:
    async def main() -> None:
        chance = random.Random(7)
        async with attacked("lobby") as target:

            async def one() -> None:
                async with await trunk(target) as client:
                    await client.send(record(HELLO) + record(CLAIM_TEN))
                    for _ in range(20):
                        noise = bytes((chance.choice(range(1, 8)), 0)) + chance.randbytes(chance.randrange(30))
                        await client.send(record(noise))
                    (RawClient.close if chance.random() < 0.5 else RawClient.reset)(client)

            for _ in range(10):
                await asyncio.gather(*(one() for _ in range(20)))

    run(main(), deadline=60)


def test_a_trunk_that_takes_all_seats_and_goes_silent_loses_them() -> None:
    async def main() -> None:
        async with attacked("lobby", clients_seats=100) as target, await trunk(target) as client:
            await client.send(record(HELLO) + record(CLAIM_ALL))
            await target.lobby.until_clients(100)
            async with await target.connect(target.request()) as late:
                assert (await late.head()).status == 503
            await target.assert_unaffected()  # its seats are free again, and its socket is closed

    run(main(), deadline=60)
