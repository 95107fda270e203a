from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import random
import socket
import struct
import termios
import time
import tracemalloc
from dataclasses import replace
from unittest.mock import ANY

import pytest
from tests.support.compiled import LOOPS
from tests.support.sockets import receive, receive_to_end, run, tcp_pair
from tests.support.waiting import until
from tests.unit.clients.support import Owner, connect, numbered, numbers

from lobby_gateway.clients import message_bus
from lobby_gateway.clients.backlog import QueueLimits
from lobby_gateway.clients.connection import ClientConnection, ClientPolicy
from lobby_gateway.clients.fan_out import SEND_FLAGS, SendAll
from lobby_gateway.clients.message_bus import Lag, MessageBus
from lobby_gateway.close_codes import NORMAL
from lobby_gateway.settings import ClientSettings
from lobby_gateway.websocket.frames import AsideBatch, Batch, Opcode, frame, masked_frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Pong, Violation
from lobby_gateway.websocket.tcp_info import TcpInfo


@pytest.fixture(autouse=True, params=LOOPS)
def send_all(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this holds for the compiled loop and for the one in Python."""
    loop: SendAll = request.param
    monkeypatch.setattr(message_bus, "send_all", loop)


JUDGED_AT_ONCE = ClientPolicy(settings=ClientSettings(not_reading_seconds=0))
"""A client counts as not reading at the first look at a closed window."""


async def until_seen_not_reading(bus: MessageBus) -> None:
    """Acknowledgements of what the kernel sent are on the way for a moment, on loopback, too."""
    async with asyncio.timeout(5):
        bus.look(time.monotonic())
        while bus.lag().on_the_way:
            await asyncio.sleep(0.001)
            bus.look(time.monotonic())


def test_every_attached_client_gets_the_same_bytes() -> None:
    async def main() -> None:
        bus = MessageBus()
        pairs = [connect(Owner()) for _ in range(5)]
        for client, _ in pairs:
            bus.attach(client)
        batch = numbered(0, 3)
        bus.publish(batch)
        for client, sock in pairs:
            assert await receive(sock, len(batch.data)) == batch.data
            client.abort()
            sock.close()
        assert bus.stats.deliveries == 15
        assert len(bus) == 0

    run(main())


def test_a_slow_client_gets_the_latest_messages_each_once_and_whole() -> None:
    async def main() -> None:
        bus = MessageBus()
        slow, slow_sock = connect(Owner(), JUDGED_AT_ONCE, receive_buffer=4096)
        fast, fast_sock = connect(Owner())
        bus.attach(slow)
        bus.attach(fast)
        total = 400
        for n in range(total):
            bus.publish(numbered(n, 1, 16384))
            await receive(fast_sock, 16384 + 4)
        await until_seen_not_reading(bus)
        assert bus.lag() == Lag(on_the_way=0, not_reading=1, messages=16, seconds=ANY)
        assert bus.behind == 1
        assert slow.waiting_messages == 16
        dropped = slow.dropped
        assert bus.stats.dropped == bus.stats.dropped_slow == dropped > 0
        assert bus.stats.high_water >= 16  # while it is behind, not only once it has caught up

        got = numbers(await receive(slow_sock, (total - dropped) * (16384 + 4)))
        assert got == sorted(set(got))
        assert len(got) == total - dropped
        assert got[-16:] == list(range(total - 16, total))
        async with asyncio.timeout(5):
            while slow.pending:  # noqa: ASYNC110  # the loop has yet to see that there is room
                await asyncio.sleep(0)
        assert bus.behind == 0
        assert bus.stats.deliveries == 2 * total - dropped
        assert bus.stats.delivered_bytes == (2 * total - dropped) * (16384 + 4)
        bus.publish(numbered(total, 1, 16384))
        assert numbers(await receive(slow_sock, 16384 + 4)) == [total]
        for client, sock in ((slow, slow_sock), (fast, fast_sock)):
            client.abort()
            sock.close()

    run(main())


def test_a_client_that_never_reads_lags_by_its_mailbox_and_the_message_that_fills_its_receive_buffer() -> None:
    async def main() -> None:
        bus = MessageBus()
        client, sock = connect(Owner(), JUDGED_AT_ONCE, receive_buffer=65536)
        bus.attach(client)
        size = 16384 + 4
        total = 100
        for n in range(total):
            bus.publish(numbered(n, 1, 16384))
        await until_seen_not_reading(bus)
        arrived = array.array("i", [0])
        fcntl.ioctl(sock, termios.FIONREAD, arrived)
        assert 0 < arrived[0] < total * size / 2
        held = (total - client.dropped) * size - arrived[0]
        assert 16 * size <= held <= 17 * size  # not another 64 KiB in the kernel
        client.abort()
        sock.close()

    run(main())


def test_a_burst_that_fits_in_part_reaches_a_client_that_kept_up_completely() -> None:
    async def main() -> None:
        bus = MessageBus(limits=QueueLimits(seconds=60))  # a busy machine takes a while for 4 MB in steps of 2 KB
        client, sock = connect(Owner(), ClientPolicy(disconnect_when_full=True), receive_buffer=4096)
        bus.attach(client)
        count = 4000
        bus.publish(numbered(0, count, 1024))
        assert bus.behind == 1
        assert client.waiting_messages == bus.stats.high_water > 16
        assert numbers(await receive(sock, count * (1024 + 4))) == list(range(count))
        async with asyncio.timeout(5):
            while client.pending:  # noqa: ASYNC110  # the loop has yet to see that there is room
                await asyncio.sleep(0)
        assert (bus.stats.deliveries, bus.stats.delivered_bytes) == (count, count * (1024 + 4))
        assert (bus.behind, bus.stats.dropped, len(bus)) == (0, 0, 1)
        client.abort()
        sock.close()

    run(main())


def test_of_bursts_that_a_client_does_not_read_only_the_latest_messages_are_kept() -> None:
    async def main() -> None:
        bus = MessageBus()
        client, sock = connect(Owner(), JUDGED_AT_ONCE, receive_buffer=4096)
        bus.attach(client)
        for first in (0, 4000, 8000):
            bus.publish(numbered(first, 4000, 1024))
            await until_seen_not_reading(bus)
            assert client.waiting_messages == 16
        took = 12000 - client.dropped - 16
        got = numbers(await receive(sock, (took + 16) * (1024 + 4)))
        assert got == [*range(took), *range(12000 - 16, 12000)]
        client.abort()
        sock.close()

    run(main())


def test_what_waits_is_kept_once_for_all_clients() -> None:
    async def main() -> None:
        bus = MessageBus()
        pairs = [connect(Owner(), receive_buffer=4096) for _ in range(100)]
        for client, _ in pairs:
            bus.attach(client)
        bus.publish(numbered(0, 1, 1 << 20))
        assert bus.behind == len(pairs)
        tracemalloc.start()
        for n in range(1, 1001):
            bus.publish(numbered(n, 1, 1024))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert all(client.waiting_messages == 1000 for client, _ in pairs)
        assert 1000 * 1024 < kept < 1000 * (1024 + 500)  # a message and its place in the backlog, not 100 of each
        for client, sock in pairs:
            client.abort()
            sock.close()

    run(main())


def test_what_waits_for_a_client_that_is_closed_is_not_copied() -> None:
    async def main() -> None:
        bus = MessageBus()
        pairs = [connect(Owner(), receive_buffer=4096) for _ in range(2)]
        for client, _ in pairs:
            bus.attach(client)
        for n in range(100):
            bus.publish(numbered(n, 1, 16384))
        mailboxes = [client.mailbox for client, _ in pairs]
        pairs[0][0].abort()
        pairs[1][0].close(NORMAL)
        assert bus.behind == 0
        assert all(mailbox is not None and mailbox.attached for mailbox in mailboxes)
        for client, sock in pairs:
            client.abort()
            sock.close()

    run(main())


def test_a_client_whose_message_was_cut_keeps_only_the_rest_of_that_message() -> None:
    async def main() -> None:
        bus = MessageBus(limits=QueueLimits(messages=1, seconds=0))
        pairs = [connect(Owner(), receive_buffer=4096) for _ in range(8)]
        for client, _ in pairs:
            bus.attach(client)
        tracemalloc.start()
        bus.publish(numbered(0, 1000, 1024))  # all are cut in the middle of this batch of 1 MB
        bus.publish(numbered(1000, 1, 64))
        bus.look(time.monotonic())
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert bus.behind == len(pairs)
        assert kept < 1 << 18
        for client, sock in pairs:
            client.abort()
            sock.close()

    run(main())


def test_a_pong_does_not_wait_for_the_end_of_a_burst() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bus = MessageBus()
        client, sock = connect(Owner(), receive_buffer=4096)
        bus.attach(client)
        bus.publish(numbered(0, 4000, 1024))
        client.feed(masked_frame(Opcode.PING, b"are you there?"))
        parser = FrameParser(masked=False, max_message_bytes=1 << 20)
        before = 0
        while True:
            events = parser.receive(await loop.sock_recv(sock, 65536))
            before += sum(len(event) for event in events if isinstance(event, Batch))
            if any(isinstance(event, Pong) for event in events):
                break
        assert before < 4000
        client.abort()
        sock.close()

    run(main())


def test_a_close_discards_the_rest_of_a_burst() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bus = MessageBus()
        client, sock = connect(Owner(), receive_buffer=4096)
        bus.attach(client)
        bus.publish(numbered(0, 4000, 1024))
        client.close(NORMAL)
        parser = FrameParser(masked=False, max_message_bytes=1 << 20)
        events: list[Event] = []
        while not (events and isinstance(events[-1], Close)):
            events += parser.receive(await loop.sock_recv(sock, 65536))
        assert sum(len(event) for event in events if isinstance(event, Batch)) < 4000
        client.abort()
        sock.close()

    run(main())


HANGS_UP_AT_ONCE = ClientPolicy(settings=ClientSettings(not_reading_seconds=0, close_timeout_seconds=0.05))
STALLED_SECONDS = ClientSettings().stalled_seconds


def test_a_client_that_takes_nothing_for_a_minute_is_closed_as_too_slow() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        client, sock = connect(owner, HANGS_UP_AT_ONCE, receive_buffer=4096)
        bus.attach(client)
        begun = time.monotonic()
        for n in range(100):
            bus.publish(numbered(n, 1, 16384))
        await until_seen_not_reading(bus)
        ended = time.monotonic()
        bus.look(begun + STALLED_SECONDS - 0.1)
        assert bus.behind == 1
        minutes = 0
        while not client.closing:  # its kernel may have taken a few more bytes meanwhile: another minute then
            minutes += 1
            assert minutes < 5
            bus.look(ended + minutes * STALLED_SECONDS)
        assert bus.behind == 0
        assert await owner.until_closed() == "too_slow"
        sock.close()

    run(main())


def test_a_client_that_takes_a_little_each_minute_stays() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        client, sock = connect(owner, HANGS_UP_AT_ONCE, receive_buffer=4096)
        bus.attach(client)
        for n in range(100):
            bus.publish(numbered(n, 1, 16384))
        await until_seen_not_reading(bus)
        now = time.monotonic()
        for _ in range(3):
            before = TcpInfo.of(client.sock).acked
            await receive(sock, 16384)
            await until(lambda before=before: TcpInfo.of(client.sock).acked > before)  # type: ignore[misc]
            now += STALLED_SECONDS - 1
            bus.look(now)
            assert not client.closing
        client.abort()
        sock.close()

    run(main())


def test_overflow_disconnect_closes_with_4008_behind_the_begun_message() -> None:
    async def main() -> None:
        bus = MessageBus()
        owner = Owner()
        client, sock = connect(owner, replace(JUDGED_AT_ONCE, disconnect_when_full=True), receive_buffer=4096)
        bus.attach(client)
        n = 0
        while not client.closing:
            bus.publish(numbered(n, 1, 16384))
            bus.look(time.monotonic())
            n += 1
            await asyncio.sleep(0)
        assert len(bus) == 0
        parser = FrameParser(masked=False, max_message_bytes=1 << 20)
        events: list[Event] = []
        while not (events and isinstance(events[-1], Close)):
            events += parser.receive(await asyncio.get_running_loop().sock_recv(sock, 65536))
        assert events[-1].code == 4008
        await asyncio.get_running_loop().sock_sendall(sock, masked_frame(Opcode.CLOSE, struct.pack("!H", 4008)))
        assert await owner.until_closed() == "too_slow"
        sock.close()

    run(main())


def test_a_client_that_resets_is_removed_while_the_others_get_the_message() -> None:
    async def main() -> None:
        bus = MessageBus()
        lost_owner = Owner()
        lost, lost_sock = connect(lost_owner)
        kept, kept_sock = connect(Owner())
        bus.attach(lost)
        bus.attach(kept)
        lost_sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        lost_sock.close()
        batch = numbered(0, 1)
        bus.publish(batch)
        assert await receive(kept_sock, len(batch.data)) == batch.data
        assert await lost_owner.until_closed() == "lost"
        assert lost.closed
        assert len(bus) == 1
        kept.abort()
        kept_sock.close()

    run(main())


def test_full_and_broken_sockets_are_distinguished_at_any_position() -> None:
    async def main() -> None:
        bus = MessageBus()
        full = [connect(Owner(), receive_buffer=4096) for _ in range(2)]
        for client, _ in full:
            bus.attach(client)
        filler = numbered(0, 1, 1 << 20)
        bus.publish(filler)  # both behind
        for client, _ in full:
            assert client.pending
            bus.detach(client)
        owners = [Owner() for _ in range(6)]
        pairs = [connect(owner) for owner in owners]
        for client, _ in pairs:
            bus.attach(client)
        for index in (0, 3, 5):
            pairs[index][0].sock.shutdown(socket.SHUT_WR)  # EPIPE from now on
        batch = numbered(7, 2)
        bus.publish(batch)
        assert [owner.closed for owner in owners] == [["lost"], [], [], ["lost"], [], ["lost"]]
        for index in (1, 2, 4):
            assert await receive(pairs[index][1], len(batch.data)) == batch.data
        assert bus.stats.deliveries == 1 * 2 + 3 * 2  # the begun fillers among them
        assert len(bus) == 3
        for client, sock in (*full, *pairs):
            client.abort()
            sock.close()

    run(main())


def test_a_client_that_is_closed_because_another_is_lost_is_not_kept() -> None:
    class Leaving(Owner):
        other: ClientConnection | None = None

        def client_closed(self, client: ClientConnection, label: str) -> None:
            super().client_closed(client, label)
            if self.other is not None:
                self.other.abort()

    async def main() -> None:
        bus = MessageBus()
        owner = Leaving()
        lost, lost_sock = connect(owner)
        full, full_sock = connect(Owner(), receive_buffer=4096)
        owner.other = full
        bus.attach(lost)
        bus.attach(full)
        lost.sock.shutdown(socket.SHUT_WR)
        bus.publish(numbered(0, 1, 1 << 20))
        assert full.closed
        assert (len(bus), bus.behind) == (0, 0)
        for sock in (lost_sock, full_sock):
            sock.close()

    run(main())


def test_a_client_that_falls_behind_at_a_message_gets_it_once() -> None:
    async def main() -> None:
        bus = MessageBus()
        pairs = [connect(Owner(), receive_buffer=4096) for _ in range(3)]
        bus.attach(pairs[0][0])
        bus.publish(numbered(0, 1, 1 << 20))  # the first one is behind before the others
        for client, _ in pairs[1:]:
            bus.attach(client)
        bus.publish(numbered(1, 1, 1 << 20))
        bus.publish(numbered(2, 1, 64))
        assert bus.behind == 3
        for (_, sock), sizes in zip(pairs, ([1 << 20, 1 << 20, 64], [1 << 20, 64], [1 << 20, 64]), strict=True):
            size = sum(each + (10 if each > 65535 else 2) for each in sizes)
            assert numbers(await receive(sock, size)) == list(range(3 - len(sizes), 3))
        for client, sock in pairs:
            assert client.waiting_messages == 0
            client.abort()
            sock.close()

    run(main())


def test_replay_comes_before_published_messages() -> None:
    async def main() -> None:
        bus = MessageBus()
        client, sock = connect(Owner())
        bus.attach(client, [numbered(0, 2), numbered(2, 1)])
        bus.publish(numbered(3, 1))
        assert numbers(await receive(sock, 4 * 66)) == [0, 1, 2, 3]
        client.abort()
        sock.close()

    run(main())


def test_the_mailbox_stays_with_a_client_that_moves_to_another_bus() -> None:
    async def main() -> None:
        old, new = MessageBus(), MessageBus()
        client, sock = connect(Owner(), receive_buffer=4096)
        old.attach(client)
        n = 0
        while client.waiting_messages < 8:
            old.publish(numbered(n, 1, 16384))
            n += 1
        old.detach(client)
        new.attach(client)
        new.publish(numbered(n, 1, 16384))
        assert numbers(await receive(sock, (n + 1) * (16384 + 4))) == list(range(n + 1))
        client.abort()
        sock.close()

    run(main())


def test_a_client_with_deflate_and_one_without_get_the_same_messages() -> None:
    async def main() -> None:
        bus = MessageBus()
        deflated, deflated_sock = connect(Owner(), deflate=True)
        plain, plain_sock = connect(Owner())
        bus.attach(deflated)
        bus.attach(plain)
        batch = numbered(0, 2, 1024)
        bus.publish(batch)
        assert await receive(plain_sock, len(batch.data)) == batch.data
        deflated.close(NORMAL)
        await asyncio.get_running_loop().sock_sendall(
            deflated_sock, masked_frame(Opcode.CLOSE, struct.pack("!H", 1000))
        )
        stream = await receive_to_end(deflated_sock)
        assert len(stream) < 200
        assert stream[0] & 0x40, "the first message is marked as deflated (RSV1)"
        plain.abort()
        for sock in (deflated_sock, plain_sock):
            sock.close()

    run(main())


FILLER = Batch.of([frame(Opcode.TEXT, bytes(1000))])


def room_of_a_socket() -> int:
    """How many fillers the kernel takes for a client that reads nothing."""
    ours, theirs = tcp_pair(receive_buffer=4096)
    count = 0
    with ours, theirs, contextlib.suppress(BlockingIOError):
        while ours.send(FILLER.data, SEND_FLAGS):
            count += 1
    return count


def test_a_waiting_pong_is_sent_before_the_next_message() -> None:
    async def main() -> None:
        bus = MessageBus()
        client, sock = connect(Owner(), receive_buffer=4096)
        bus.attach(client)
        for _ in range(room_of_a_socket()):
            bus.publish(FILLER)
        assert bus.behind == 0
        client.feed(masked_frame(Opcode.PING, bytes(125)))
        assert bus.behind == 1
        bus.publish(numbered(7, 1))

        parser = FrameParser(masked=False, max_message_bytes=1 << 20)
        events: list[Event] = []
        while not (events and isinstance(events[-1], Batch) and numbers(events[-1].data)):
            events += parser.receive(await asyncio.get_running_loop().sock_recv(sock, 65536))
            assert not any(isinstance(event, Violation) for event in events), events
        assert [type(event) for event in events[-2:]] == [Pong, Batch]
        assert numbers(events[-1].data) == [7]
        client.abort()
        sock.close()

    run(main())


@pytest.mark.parametrize("deflate", [False, True])
def test_what_has_no_place_in_the_stream_comes_in_order_and_does_not_count_as_behind(deflate: bool) -> None:
    async def main() -> None:
        bus = MessageBus(batch_seconds=60)
        client, sock = connect(Owner(), deflate=deflate, receive_buffer=4096)
        bus.attach(client)
        aside = AsideBatch.of([frame(Opcode.TEXT, b"aside")])
        bus.publish(numbered(0, 3))
        bus.tell(aside)
        expected = numbered(0, 3).data + aside.data
        assert await receive(sock, len(expected)) == expected  # at once: it waits for no more
        for n in range(100):  # until the socket is full
            bus.publish(Batch.of([frame(Opcode.BINARY, bytes(random.Random(n).randbytes(1 << 16)))]))
            bus.flush()
        before = client.waiting_of_stream
        assert before > 0
        bus.tell(aside)
        assert (client.waiting_messages, client.waiting_of_stream) == (before + 1, before)
        client.abort()
        sock.close()

    run(main())
