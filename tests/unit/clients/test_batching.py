from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.support.sockets import receive, run
from tests.support.waiting import until
from tests.unit.clients.support import Owner, connect, numbered, numbers

from lobby_gateway.clients import message_bus
from lobby_gateway.clients.batching import Batching
from lobby_gateway.clients.fan_out import send_all
from lobby_gateway.clients.message_bus import MessageBus
from lobby_gateway.settings import BatchingSettings
from lobby_gateway.websocket.frames import Batch

NEVER = 3600.0
"""Seconds after which no test is still running."""
SIZE = 66
"""Bytes of a numbered message's frame."""


class Sent:
    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.at: list[float] = []

    def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.at.append(time.monotonic())


def test_what_comes_within_the_time_is_sent_together_and_in_order() -> None:
    async def main() -> None:
        sent = Sent()
        batching = Batching(sent, 0.05)
        for first in range(3):
            batching.add(numbered(first * 2, 2))
        assert not sent.batches
        await until(lambda: sent.batches)
        assert [numbers(batch.data) for batch in sent.batches] == [[0, 1, 2, 3, 4, 5]]
        batching.add(numbered(6, 1))
        await until(lambda: len(sent.batches) == 2)
        assert numbers(sent.batches[1].data) == [6]

    run(main())


def test_no_message_waits_longer_than_the_time() -> None:
    """The time starts with the first message, however many follow."""

    async def main() -> None:
        sent = Sent()
        batching = Batching(sent, 0.1)
        came: list[float] = []
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            came.append(time.monotonic())
            batching.add(numbered(len(came), 1))
            await asyncio.sleep(0.005)
        await until(lambda: sum(len(batch) for batch in sent.batches) == len(came))
        first = 0
        for batch, at in zip(sent.batches, sent.at, strict=True):
            assert (
                0.09 < at - came[first] < 0.1 + 10
            )  # ten seconds for a busy machine; each that comes later waits less
            first += len(batch)
        assert len(sent.batches) <= 6  # 0.5 s in steps of at least 0.1 s

    run(main())


def test_enough_bytes_are_sent_without_waiting() -> None:
    async def main() -> None:
        sent = Sent()
        batching = Batching(sent, NEVER, settings=BatchingSettings(max_bytes=3 * SIZE))
        batching.add(numbered(0, 2))
        assert not sent.batches
        batching.add(numbered(2, 1))
        assert [len(batch) for batch in sent.batches] == [3]
        batching.add(numbered(3, 1))
        assert len(sent.batches) == 1
        batching.flush()
        assert numbers(sent.batches[1].data) == [3]
        batching.flush()
        assert len(sent.batches) == 2

    run(main())


def test_a_flush_does_not_shorten_the_time_of_what_comes_after_it() -> None:
    async def main() -> None:
        sent = Sent()
        batching = Batching(sent, 0.3)
        batching.add(numbered(0, 1))
        await asyncio.sleep(0.2)
        batching.flush()
        came = time.monotonic()
        batching.add(numbered(1, 1))
        await until(lambda: len(sent.batches) == 2)
        assert sent.at[1] - came > 0.29

    run(main())


def test_a_bus_without_batching_sends_at_once_and_calls_nothing_else() -> None:
    async def main() -> None:
        bus = MessageBus()
        assert bus.publish == bus._publish
        client, sock = connect(Owner())
        bus.attach(client)
        bus.publish(numbered(0, 1))
        assert bus.stats.deliveries == 1
        client.abort()
        sock.close()

    run(main())


def test_each_client_gets_one_send_for_all_that_was_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    sends: list[int] = []

    def counted(clients: dict[int, Any], data: bytes) -> list[tuple[int, int]]:
        sends.append(len(clients))
        return send_all(clients, data)

    monkeypatch.setattr(message_bus, "send_all", counted)

    async def main() -> None:
        bus = MessageBus(batch_seconds=0.02)
        pairs = [connect(Owner()) for _ in range(3)]
        for client, _ in pairs:
            bus.attach(client)
        for n in range(10):
            bus.publish(numbered(n, 1))
        for _, sock in pairs:
            assert numbers(await receive(sock, 10 * SIZE)) == list(range(10))
        assert sends == [3]
        assert (bus.stats.messages, bus.stats.deliveries) == (10, 30)
        for client, sock in pairs:
            client.abort()
            sock.close()

    run(main())


def test_a_client_that_joins_gets_nothing_that_was_gathered_before() -> None:
    """Its replay has that already."""

    async def main() -> None:
        bus = MessageBus(batch_seconds=NEVER)
        first, first_sock = connect(Owner())
        bus.attach(first)
        bus.publish(numbered(0, 2))
        second, second_sock = connect(Owner())
        bus.attach(second, [numbered(1, 1)])
        bus.publish(numbered(2, 1))
        bus.flush()
        assert numbers(await receive(first_sock, 3 * SIZE)) == [0, 1, 2]
        assert numbers(await receive(second_sock, 2 * SIZE)) == [1, 2]
        for client, sock in ((first, first_sock), (second, second_sock)):
            client.abort()
            sock.close()

    run(main())


def test_a_client_that_moves_takes_along_what_was_gathered() -> None:
    async def main() -> None:
        old, new = MessageBus(batch_seconds=NEVER), MessageBus(batch_seconds=NEVER)
        client, sock = connect(Owner())
        old.attach(client)
        old.publish(numbered(0, 1))
        old.detach(client)
        new.attach(client)
        new.publish(numbered(1, 1))
        new.flush()
        assert numbers(await receive(sock, 2 * SIZE)) == [0, 1]
        client.abort()
        sock.close()

    run(main())


def test_a_client_whose_socket_is_full_gets_what_was_gathered_in_order() -> None:
    async def main() -> None:
        bus = MessageBus(batch_seconds=NEVER)
        client, sock = connect(Owner(), receive_buffer=4096)
        bus.attach(client)
        n = 0
        while client.waiting_messages < 8:
            bus.publish(numbered(n, 1, 16384))
            bus.publish(numbered(n + 1, 1, 16384))
            bus.flush()
            n += 2
        bus.publish(numbered(n, 1, 16384))
        size = 16384 + 4
        got = await receive(sock, n * size)
        await until(lambda: not client.pending)
        bus.publish(numbered(n + 1, 1, 16384))
        bus.flush()
        assert numbers(got + await receive(sock, 2 * size)) == list(range(n + 2))
        assert client.dropped == 0
        client.abort()
        sock.close()

    run(main())


def test_compressed_clients_get_the_same_messages() -> None:
    async def main() -> None:
        bus = MessageBus(batch_seconds=NEVER)
        deflated, deflated_sock = connect(Owner(), deflate=True)
        plain, plain_sock = connect(Owner())
        bus.attach(deflated)
        bus.attach(plain)
        for n in range(3):
            bus.publish(numbered(n, 1))  # too short to be compressed
        bus.flush()
        for client, sock in ((deflated, deflated_sock), (plain, plain_sock)):
            assert numbers(await receive(sock, 3 * SIZE)) == [0, 1, 2]
            client.abort()
            sock.close()

    run(main())


def test_a_client_that_is_lost_while_others_get_what_was_gathered_leaves() -> None:
    async def main() -> None:
        bus = MessageBus(batch_seconds=NEVER)
        owner = Owner()
        gone, gone_sock = connect(owner)
        stays, stays_sock = connect(Owner())
        bus.attach(gone)
        bus.attach(stays)
        bus.publish(numbered(0, 1))
        gone.sock.shutdown(1)  # its next send fails
        bus.detach(gone)
        assert owner.closed == ["lost"]
        assert gone.bus is None
        assert numbers(await receive(stays_sock, SIZE)) == [0]
        stays.abort()
        for sock in (gone_sock, stays_sock):
            sock.close()

    run(main())


def test_a_changed_time_applies_at_once() -> None:
    async def main() -> None:
        bus = MessageBus(batch_seconds=NEVER)
        client, sock = connect(Owner())
        bus.attach(client)
        bus.publish(numbered(0, 1))
        bus.batch_seconds = 0.0
        bus.publish(numbered(1, 1))
        assert numbers(await receive(sock, 2 * SIZE)) == [0, 1]
        bus.batch_seconds = 0.02
        bus.publish(numbered(2, 1))
        assert bus.stats.deliveries == 2
        assert numbers(await receive(sock, SIZE)) == [2]
        client.abort()
        sock.close()

    run(main())
