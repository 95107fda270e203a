"""Limits of addresses and of processes: clients beyond them are refused, and accepted later."""

from __future__ import annotations

import contextlib

import pytest
from tests.support import proc
from tests.support.attack import BOTH_KINDS, BYSTANDERS, Target, attacked
from tests.support.raw_client import RawClient, RawResponse, masked
from tests.support.sockets import run
from tests.support.waiting import until
from tests.support.wire import BINARY, CLOSE, FIN

MIB = 1 << 20


async def answer(target: Target, forwarded: str | None = None) -> RawResponse:
    """The status of a request; a client that is accepted disconnects again."""
    async with await target.connect(target.request({"X-Forwarded-For": forwarded})) as client:
        head = await client.head()
        if head.status == 101:
            await client.send(masked(FIN | CLOSE))
            assert await client.closed_with() == 1005
            return head
        await client.end()
        return head


@BOTH_KINDS
def test_connections_of_an_address_are_limited(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_limits={"connectionsPerAddress": BYSTANDERS + 2}) as target:
            async with contextlib.AsyncExitStack() as stack:
                first, _ = [await stack.enter_async_context(await target.client()) for _ in range(2)]
                refused = await answer(target)
                assert (refused.status, refused.headers["retry-after"]) == (429, "5")
                first.close()
                await target.lobby.until_clients(BYSTANDERS + 1)
                assert (await answer(target)).status == 101
            await target.lobby.until_clients(BYSTANDERS)
            assert await target.count("refusals_total", reason="too_many") == 1

    run(main(), deadline=60)


@BOTH_KINDS
def test_new_connections_of_an_address_are_limited(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind, clients_limits={"connectsPerSecond": 4}) as target:
            answers = [await answer(target) for _ in range(60)]
            refused = [each for each in answers if each.status == 429]
            assert {each.status for each in answers} == {101, 429}
            assert len(refused) > 30
            assert {each.headers["retry-after"] for each in refused} == {"1"}
            assert await target.count("refusals_total", reason="too_many") == len(refused)

            async def accepted_again() -> bool:
                return (await answer(target)).status == 101

            await until(accepted_again, every=0.25, describe="a new token in the bucket")

    run(main(), deadline=60)


@BOTH_KINDS
@pytest.mark.parametrize("trusted", [True, False])
def test_only_trusted_proxies_report_the_client_address(kind: str, trusted: bool) -> None:
    async def main() -> None:
        options = ("--trusted-proxies", "127.0.0.0/8" if trusted else "192.0.2.0/24,2001:db8::/32")
        limits = {"connectionsPerAddress": BYSTANDERS}
        async with attacked(kind, options=options, clients_limits=limits) as target:
            # The bystanders' address is at its limit; a process that trusted the header would accept these.
            status = 101 if trusted else 429
            for forwarded in ("192.0.2.7", "192.0.2.8:4711", "evil, 192.0.2.9", "2001:db8::1", "[2001:db8::2]:80"):
                assert (await answer(target, forwarded)).status == status, forwarded
            # No address, or one that only the client wrote: the address of the proxy counts.
            for header in (None, "", "unknown", "192.0.2.1, _hidden"):
                assert (await answer(target, header)).status == 429, header
            # Two proxies: the first address that belongs to neither.
            assert (await answer(target, "198.51.100.1, 192.0.2.1, 127.0.0.2")).status == status

    run(main(), deadline=60)


def test_clients_of_a_greeter_are_limited() -> None:
    async def main() -> None:
        async with attacked("greeter", options=("--max-clients", str(BYSTANDERS + 5))) as target:
            clients = [await target.client() for _ in range(5)]
            refused = await answer(target)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            for client in clients:
                client.reset()
            await target.lobby.until_clients(BYSTANDERS)
            assert (await answer(target)).status == 101
            assert await target.count("refusals_total", reason="greeter_full") == 1

    run(main(), deadline=60)


def test_clients_of_a_greeter_are_limited_by_its_descriptors() -> None:
    async def main() -> None:
        async with attacked("greeter", prefix=("prlimit", "--nofile=256")) as target:
            clients: list[RawClient] = []
            statuses = []
            for _ in range(400):
                client = await target.connect(target.request())
                statuses.append((await client.head()).status)
                clients.append(client)
            assert statuses.count(101) == 256 - 64 - BYSTANDERS
            assert statuses.count(503) == 400 - statuses.count(101)
            assert proc.open_files(target.pid) < 256 - 8, "trunks and the admin port have no room"
            assert await target.count("refusals_total", reason="greeter_full") == statuses.count(503)
            for client in clients:
                client.close()

    run(main(), deadline=60)


@BOTH_KINDS
def test_a_process_without_memory_accepts_no_clients_and_keeps_those_it_has(kind: str) -> None:
    async def main() -> None:
        async with attacked(kind) as target:  # roughly its own memory usage
            limit = target.resident() // MIB + 16
        async with attacked(kind, options=("--max-memory", str(limit)), clients_messages="Forward") as target:
            clients: list[RawClient] = []
            statuses: list[int] = []
            while target.resident() < limit * MIB and 503 not in statuses:
                client = await target.connect(target.request())
                clients.append(client)
                statuses.append((await client.head()).status)
                await client.send(masked(FIN | BINARY, bytes(60_000))[:-1])  # buffered until it is complete
                assert len(clients) < 450, f"{target.resident()} bytes, and all were accepted"

            async def refused() -> bool:
                statuses.append((await answer(target)).status)
                return statuses[-1] == 503

            await until(refused, every=0.2, describe="it checks its memory once a second")
            assert await target.count("refusals_total", reason="no_memory") == statuses.count(503)
            await target.bystanders.each_gets(5)
            for client in clients:
                client.close()
            await target.lobby.until_clients(BYSTANDERS)
            assert (await answer(target)).status == 101, "the freed memory is reused"

    run(main(), deadline=90)
