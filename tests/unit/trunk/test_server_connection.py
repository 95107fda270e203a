from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import pytest
from tests.support.sockets import receive, receive_to_end, run, tcp_pair
from tests.support.streams import SeatsOnly, numbered, numbers
from tests.support.waiting import until

from lobby_gateway.settings import TrunkServerSettings
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.records import (
    Blamed,
    Claim,
    Forward,
    Granted,
    Heartbeat,
    Hello,
    Messages,
    Missed,
    Move,
    MoveReason,
    Record,
    Replay,
    Resume,
    Resumed,
    Status,
    Welcome,
    decode,
)
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, frame, masked_frame

TIMES_UP = 60.0  # no heartbeat comes between


@dataclass
class Greeter:
    """A lobby with a ring of 100 messages, and the bare socket of a greeter at the other end of its trunk."""

    sock: socket.socket
    connection: TrunkServerConnection
    lobby: SeatsOnly
    ring: MessageRing
    forwarded: list[tuple[int, bytes]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    closes: int = 0

    @classmethod
    def join(
        cls,
        *,
        receive_buffer: int | None = None,
        leftover: bytes = b"",
        status_seconds: float = TIMES_UP,
        consumer_timeout_seconds: float = TIMES_UP,
        ring_bytes: int = 8 << 20,
        settings: TrunkServerSettings | None = None,
    ) -> Greeter:
        loop = asyncio.get_running_loop()
        ours, theirs = tcp_pair(receive_buffer=receive_buffer)
        lobby, ring = SeatsOnly(4), MessageRing(100, ring_bytes)
        ring.begin_epoch(1)
        server = TrunkServer(
            lobby,
            ring,
            now=loop.time(),
            settings=TrunkServerSettings(
                status_seconds=status_seconds, consumer_timeout_seconds=consumer_timeout_seconds
            ),
        )
        connection = TrunkServerConnection(
            ours,
            loop,
            server,
            forward=lambda message: greeter.forwarded.append((message.opcode, message.payload)),
            on_closed=lambda _: greeter.on_closed(),
            leftover=leftover,
            settings=settings or TrunkServerSettings(),
        )
        greeter = cls(theirs, connection, lobby, ring)
        return greeter

    def on_closed(self) -> None:
        assert self.connection.closed
        assert self.lobby.seat_count.taken == 0
        self.closes += 1
        self.closed.set()

    async def send(self, *records: Record) -> None:
        await self.send_bytes(b"".join(masked_frame(Opcode.BINARY, record.encode()) for record in records))

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, length = await receive(self.sock, 2)
        assert first & 0xF0 == 0x80
        if length > 125:
            length = int.from_bytes(await receive(self.sock, 2 if length == 126 else 8), "big")
        return first & 0x0F, await receive(self.sock, length)

    async def record(self) -> Record:
        opcode, payload = await self.frame()
        assert opcode == Opcode.BINARY
        record = decode(payload)
        assert record is not None
        return record

    async def welcome(self) -> Welcome:
        await self.send(Hello("g"))
        record = await self.record()
        assert isinstance(record, Welcome)
        return record

    def publish(self, batch: Batch) -> None:
        self.ring.append(batch)
        self.connection.wake()

    async def over(self) -> None:
        await self.closed.wait()
        self.sock.close()
        assert self.closes == 1

    def end(self) -> None:
        self.connection.abort()
        self.sock.close()
        assert self.closes == 1


def test_hello_is_answered_and_messages_follow() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        assert (await greeter.welcome()).lobby == "prices-1"
        greeter.publish(numbered([0, 1, 2]))
        record = await greeter.record()
        assert isinstance(record, Messages)
        assert (record.epoch, record.offset, numbers(record.batch)) == (1, 0, [0, 1, 2])
        greeter.end()

    run(main())


def test_bytes_behind_the_handshake_are_read() -> None:
    async def main() -> None:
        greeter = Greeter.join(leftover=masked_frame(Opcode.BINARY, Hello("early").encode()))
        assert isinstance(await greeter.record(), Welcome)
        assert repr(greeter.connection) == "<TrunkServerConnection of early: 0 seats>"
        greeter.end()

    run(main())


def test_bytes_behind_the_handshake_of_a_closed_connection_are_ignored() -> None:
    async def main() -> None:
        greeter = Greeter.join(leftover=masked_frame(Opcode.BINARY, b"broken"))
        greeter.end()
        await asyncio.sleep(0)
        assert greeter.connection.server.consumer == ""

    run(main())


def test_claims_are_answered_and_messages_to_the_origin_passed_on() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        await greeter.send(Claim(1, 3), Forward(7, Opcode.TEXT, "ünï".encode()), Claim(2, 3))
        assert await greeter.record() == Granted(1, 3, 1, 0)
        assert await greeter.record() == Granted(2, 1, 0, 1)
        assert greeter.forwarded == [(Opcode.TEXT, "ünï".encode())]
        assert greeter.lobby.seat_count.taken == 4
        greeter.end()

    run(main())


def test_a_large_client_message_arrives_whole() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        await greeter.send(Forward(7, Opcode.BINARY, bytes(1 << 20)))
        await until(lambda: greeter.forwarded)
        assert greeter.forwarded == [(Opcode.BINARY, bytes(1 << 20))]
        greeter.end()

    run(main())


def test_a_group_is_answered_in_the_order_of_the_stream() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        greeter.publish(numbered([0, 1, 2]))
        await greeter.welcome()
        await greeter.send(Resume(1, Position(1, 1)))
        replay = await greeter.record()
        assert isinstance(replay, Replay)
        assert numbers(replay.batch) == [1, 2]
        assert await greeter.record() == Resumed(1, True, 0, 1, 3)
        greeter.end()

    run(main())


def test_move_and_status_go_out_at_once() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        greeter.connection.move(MoveReason.DRAINING, 1.5)
        assert await greeter.record() == Move(MoveReason.DRAINING, 1500)
        greeter.lobby.origin_connected = False
        greeter.connection.send_status()
        assert await greeter.record() == Status(False, 4, 4, 1, 0)
        greeter.end()

    run(main())


def test_status_is_sent_regularly() -> None:
    async def main() -> None:
        greeter = Greeter.join(status_seconds=0.01)
        await greeter.welcome()
        for _ in range(3):
            assert await greeter.record() == Status(True, 4, 4, 1, 0)
        greeter.end()

    run(main())


def test_a_slow_greeter_costs_one_record_and_then_catches_up() -> None:
    async def main() -> None:
        greeter = Greeter.join(receive_buffer=4096)
        await greeter.welcome()
        payload = frame(Opcode.BINARY, bytes(100_000))
        for _ in range(40):
            greeter.publish(Batch.of([payload]))
        rest = greeter.connection._rest
        assert rest is not None
        assert len(rest) < 600_000
        assert greeter.connection.server.behind > 10
        count = 0
        while count < 40:
            record = await greeter.record()
            assert isinstance(record, Messages)
            assert record.offset == count
            count += len(record.batch)
        assert greeter.connection.server.missed == 0
        greeter.publish(numbered([40]))
        last = await greeter.record()
        assert isinstance(last, Messages)
        assert last.offset == 40
        greeter.end()

    run(main())


def test_a_greeter_that_is_too_slow_learns_what_it_missed() -> None:
    async def main() -> None:
        greeter = Greeter.join(receive_buffer=4096, ring_bytes=1 << 20)
        await greeter.welcome()
        payload = frame(Opcode.BINARY, bytes(100_000))
        for _ in range(100):
            greeter.publish(Batch.of([payload]))
        count = missed = 0
        while count + missed < 100:
            record = await greeter.record()
            if isinstance(record, Missed):
                assert record.from_offset == count
                missed += record.count
            else:
                assert isinstance(record, Messages)
                assert record.offset == count + missed
                count += len(record.batch)
        assert missed == greeter.connection.server.missed > 0
        greeter.end()

    run(main())


def test_answers_each_of_many_pings() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.send_bytes(b"".join(masked_frame(Opcode.PING, b"%d" % n) for n in range(50)))
        for n in range(50):
            assert await greeter.frame() == (Opcode.PONG, b"%d" % n)
        greeter.end()

    run(main())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked_frame(Opcode.BINARY, Claim(1, 1).encode()), 1002),
        (masked_frame(Opcode.BINARY, b"\x01"), 1002),
        (masked_frame(Opcode.TEXT, b"hello"), 1002),
        (frame(Opcode.BINARY, Hello("g").encode()), 1002),
        (masked_frame(Opcode.TEXT, b"\xff"), 1007),
    ],
    ids=["before hello", "cut off", "text", "not masked", "not UTF-8"],
)
def test_a_greeter_that_breaks_the_protocol_is_closed(data: bytes, code: int) -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.send_bytes(data)
        opcode, payload = await greeter.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (Opcode.CLOSE, code)
        await greeter.send_bytes(masked_frame(Opcode.BINARY, Hello("g").encode()))  # not acted on any more
        await greeter.send_bytes(masked_frame(Opcode.CLOSE, payload[:2]))
        assert await receive_to_end(greeter.sock) == b""
        greeter.sock.close()
        await greeter.over()
        assert greeter.connection.server.consumer == ""

    run(main())


def test_a_record_that_is_too_large_is_refused() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.send_bytes(masked_frame(Opcode.BINARY, bytes(65536))[:2] + (1 << 25).to_bytes(8, "big"))
        opcode, payload = await greeter.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (Opcode.CLOSE, 1009)
        greeter.end()

    run(main())


@pytest.mark.parametrize(
    ("payload", "answer"), [(close_payload(1001, "bye"), close_payload(1001)), (b"", close_payload(1000))]
)
def test_a_close_is_answered_and_releases_the_seats(payload: bytes, answer: bytes) -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        await greeter.send(Claim(1, 2))
        await greeter.record()
        await greeter.send_bytes(masked_frame(Opcode.CLOSE, payload))
        assert await receive_to_end(greeter.sock) == frame(Opcode.CLOSE, answer)
        await greeter.over()

    run(main())


def test_our_close_releases_the_seats_and_waits_for_the_answer() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        await greeter.send(Claim(1, 2))
        await greeter.record()
        greeter.connection.close(1001, "bye")
        greeter.connection.close(1000)
        assert greeter.lobby.seat_count.taken == 0
        greeter.publish(numbered([0]))
        assert await greeter.frame() == (Opcode.CLOSE, close_payload(1001, "bye"))
        assert not greeter.connection.closed
        await greeter.send_bytes(masked_frame(Opcode.CLOSE, close_payload(1001)))
        assert await receive_to_end(greeter.sock) == b""
        await greeter.over()

    run(main())


def test_our_close_waits_for_the_end_of_a_begun_record() -> None:
    async def main() -> None:
        greeter = Greeter.join(receive_buffer=4096)
        await greeter.welcome()
        greeter.publish(Batch.of([frame(Opcode.BINARY, bytes(1_500_000))]))
        greeter.connection.close(1001)
        await greeter.send_bytes(masked_frame(Opcode.CLOSE, close_payload(1001)))  # both at once
        record = await greeter.record()
        assert isinstance(record, Messages)
        assert await greeter.frame() == (Opcode.CLOSE, close_payload(1001))
        await greeter.over()

    run(main())


def test_a_greeter_that_never_answers_our_close_is_cut_off() -> None:
    async def main() -> None:
        greeter = Greeter.join(settings=TrunkServerSettings(close_timeout_seconds=0.01))
        greeter.connection.close()
        await greeter.over()

    run(main())


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_releases_the_seats(reset: bool) -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        await greeter.send(Claim(1, 2))
        await greeter.record()
        if reset:
            greeter.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        greeter.sock.close()
        await greeter.over()

    run(main())


def test_a_reset_is_noticed_when_something_is_sent() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        greeter.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        greeter.sock.close()
        greeter.publish(numbered([0]))  # in the same turn: nothing was read yet
        assert greeter.connection.closed
        greeter.publish(numbered([1]))
        await greeter.over()

    run(main())


def test_a_reset_in_the_middle_of_a_record_ends_the_trunk() -> None:
    async def main() -> None:
        greeter = Greeter.join(receive_buffer=4096)
        await greeter.welcome()
        greeter.publish(Batch.of([frame(Opcode.BINARY, bytes(1_500_000))]))
        assert greeter.connection._rest is not None
        greeter.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        greeter.sock.close()
        await greeter.over()
        assert greeter.connection._rest is None

    run(main())


def test_later_records_are_ignored_once_the_owner_has_aborted_it() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        greeter.connection._forward = lambda *_: greeter.connection.abort()
        await greeter.send(Forward(7, Opcode.TEXT, b"last"), Claim(1, 1))
        await greeter.over()
        assert greeter.lobby.seat_count.taken == 0

    run(main())


def test_the_trunk_of_a_silent_greeter_is_closed() -> None:
    async def main() -> None:
        greeter = Greeter.join(status_seconds=0.02, consumer_timeout_seconds=0.1)
        await greeter.welcome()
        await greeter.send(Claim(1, 2))
        await greeter.over()

    run(main())


def test_the_trunk_of_a_greeter_that_sends_heartbeats_stays() -> None:
    async def main() -> None:
        greeter = Greeter.join(status_seconds=0.02, consumer_timeout_seconds=0.2)
        await greeter.welcome()
        for _ in range(20):
            await greeter.send(Heartbeat())
            await greeter.record()
        assert not greeter.connection.closed
        greeter.end()

    run(main())


def test_a_blamed_client_is_named_with_the_code() -> None:
    async def main() -> None:
        greeter = Greeter.join()
        await greeter.welcome()
        greeter.connection.blame(7, 1008)
        assert await greeter.record() == Blamed(7, 1008)
        greeter.end()

    run(main())


@pytest.mark.parametrize("reads", [True, False], ids=["takes bytes", "takes none"])
def test_consumer_that_takes_the_stream_slowly_is_alive_though_nothing_comes_from_it(reads: bool) -> None:
    async def main() -> None:
        greeter = Greeter.join(receive_buffer=65536, status_seconds=0.05, consumer_timeout_seconds=0.5)
        greeter.publish(Batch.of([frame(Opcode.BINARY, bytes(4 << 20))]))
        await greeter.send(Hello("g", replay=1))
        if reads:
            for _ in range(30):
                await receive(greeter.sock, 65536)
                assert not greeter.connection.closed
                await asyncio.sleep(0.05)
            greeter.end()
        else:
            await greeter.over()

    run(main())
