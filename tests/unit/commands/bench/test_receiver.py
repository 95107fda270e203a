"""What the clients of `lobby bench` receive, over real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lobby_gateway.commands.bench.receiver import LOST, ClientReader, Received, Stream
from lobby_gateway.commands.origin import message
from lobby_gateway.websocket.frames import Opcode, close_payload, frame, header
from lobby_gateway.websocket.parser import Close, FrameParser, Pong


def texts(*numbers: int, size: int = 0, at: float = 0.0) -> bytes:
    return b"".join(frame(Opcode.TEXT, message(number, at or time.time() - 0.5, size).encode()) for number in numbers)


@dataclass(frozen=True, slots=True)
class Pair:
    stream: Stream
    server: socket.socket


class Bench:
    """A receiver, its streams, and the sockets of the server that they are connected to."""

    def __init__(self, clients: int) -> None:
        self.receiver = ClientReader()
        self.receiver.counting = True
        self.pairs: list[Pair] = []
        for _ in range(clients):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.settimeout(10)
            self.pairs.append(Pair(Stream(ours), theirs))

    @property
    def streams(self) -> list[Stream]:
        return [pair.stream for pair in self.pairs]

    def sent(self, data: bytes, *, timed: bool = True) -> list[Stream]:
        """All clients are sent this, and read it; returns those that are at their end."""
        for pair in self.pairs:
            pair.server.sendall(data)
        return self.receiver.receive(self.streams, timed=timed)

    @property
    def received(self) -> Received:
        return self.receiver.received

    def close(self) -> None:
        for pair in self.pairs:
            pair.stream.sock.close()
            pair.server.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(3)
    yield made
    made.close()


def wrong(received: Received) -> tuple[int, int, int, int]:
    order = received.order
    return order.gaps, order.duplicates, order.reorderings, order.restarts


@pytest.mark.parametrize("size", [0, 64, 1024, 60_000])
def test_every_message_of_every_client_counts_once(bench: Bench, size: int) -> None:
    data = [texts(1, size=size), texts(2, size=size), texts(3, size=size)]
    for each in data:
        assert bench.sent(each) == []
    received = bench.received
    assert (received.deliveries, received.stamped, received.bytes) == (9, 9, 3 * sum(map(len, data)))
    assert wrong(received) == (0, 0, 0, 0)
    assert bench.received.deliveries == 9, "asking twice counts nothing twice"


def test_messages_that_come_together_count_one_by_one(bench: Bench) -> None:
    bench.sent(texts(1, 2, 3))
    bench.sent(texts(*range(4, 104)), timed=False)
    assert (bench.received.deliveries, wrong(bench.received)) == (3 * 103, (0, 0, 0, 0))


def test_what_is_wrong_is_found_at_each_client(bench: Bench) -> None:
    for numbers in ((1,), (4, 5), (3,), (5,)):
        bench.sent(texts(*numbers, at=7.0))
    assert wrong(bench.received) == (3, 3, 3, 0)


def test_one_client_that_missed_something_is_not_taken_for_the_others(bench: Bench) -> None:
    bench.sent(texts(1))
    for pair in bench.pairs[1:]:
        pair.server.sendall(texts(2, at=7.0))
    bench.receiver.receive(bench.streams, timed=True)
    bench.sent(texts(3))
    assert wrong(bench.received) == (1, 0, 0, 0)
    assert bench.received.deliveries == 8


def test_latency_is_the_time_since_the_message_was_made_at_timed_clients(bench: Bench) -> None:
    bench.sent(texts(1, at=time.time() - 0.5))
    bench.sent(texts(2), timed=False)
    latencies = bench.received.latencies
    assert len(latencies) == 3
    assert 0.4 < latencies.quantiles([0.5])[0] < 20


def test_before_it_counts_only_the_order_is_looked_at(bench: Bench) -> None:
    bench.receiver.counting = False
    bench.sent(texts(1))
    bench.receiver.counting = True
    bench.sent(texts(3))
    assert (bench.received.deliveries, len(bench.received.latencies)) == (3, 3)
    assert wrong(bench.received) == (3, 0, 0, 0)


@pytest.mark.parametrize("cut", [1, 2, 5, 60, 199])
def test_a_message_in_two_reads_is_one(bench: Bench, cut: int) -> None:
    data = texts(1, 2, size=100)
    bench.sent(data[:cut])
    bench.sent(data[cut:])
    bench.sent(texts(3))
    assert (bench.received.deliveries, wrong(bench.received)) == (9, (0, 0, 0, 0))
    assert not any(stream.special for stream in bench.streams), "back on the hot path"


def test_a_fragmented_message_is_one(bench: Bench) -> None:
    text = message(1, time.time(), 0).encode()
    bench.sent(bytes((Opcode.TEXT, 10)) + text[:10])
    bench.sent(header(Opcode.CONT, len(text) - 10) + text[10:])
    bench.sent(texts(2))
    assert (bench.received.deliveries, wrong(bench.received)) == (6, (0, 0, 0, 0))


def test_messages_that_say_nothing_of_themselves_are_counted(bench: Bench) -> None:
    for payload in (b"\0" * 500, b"\0" * 500, b"plain"):
        bench.sent(frame(Opcode.BINARY, payload))
    assert (bench.received.deliveries, bench.received.stamped) == (9, 0)


def test_long_messages_that_begin_alike_are_not_taken_for_each_other(bench: Bench) -> None:
    def late_stamp(number: int) -> bytes:
        return frame(Opcode.TEXT, (b'{"fill": "%s", "seq": %d}' % (b"x" * 300, number)))

    for number in (1, 2, 4):
        bench.sent(late_stamp(number))
    assert (bench.received.stamped, wrong(bench.received)) == (9, (3, 0, 0, 0))


def test_reads_that_begin_alike_are_compared_to_their_end(bench: Bench) -> None:
    filler = frame(Opcode.TEXT, b"x" * 300)
    for number in (1, 2, 4):
        bench.sent(filler + frame(Opcode.TEXT, b'{"seq": %d}' % number))
    assert (bench.received.deliveries, bench.received.stamped) == (18, 9)
    assert wrong(bench.received) == (3, 0, 0, 0)


def test_a_ping_is_answered(bench: Bench) -> None:
    bench.sent(frame(Opcode.PING, b"you?") + texts(1))
    for pair in bench.pairs:
        parser = FrameParser(masked=True, max_message_bytes=100)
        assert parser.receive(pair.server.recv(100)) == [Pong(b"you?")]
    assert bench.received.deliveries == 3


def test_a_close_is_answered_and_is_the_end_with_its_code(bench: Bench) -> None:
    assert bench.sent(texts(1) + frame(Opcode.CLOSE, close_payload(1012, "moved"))) == bench.streams
    assert [stream.ended for stream in bench.streams] == ["1012"] * 3
    for pair in bench.pairs:
        parser = FrameParser(masked=True, max_message_bytes=100)
        assert parser.receive(pair.server.recv(100)) == [Close(1012, "")]
    assert bench.received.deliveries == 3


def test_a_frame_that_breaks_the_protocol_is_the_end(bench: Bench) -> None:
    bench.sent(b"\x83\x00")
    assert [stream.ended for stream in bench.streams] == ["reserved opcode (1002)"] * 3


def test_the_end_of_the_stream_without_a_close_is_lost(bench: Bench) -> None:
    bench.pairs[1].server.close()
    assert bench.receiver.receive(bench.streams, timed=True) == [bench.streams[1]]
    assert bench.streams[1].ended == LOST


def test_what_came_with_the_answer_to_the_handshake_is_received(bench: Bench) -> None:
    data = texts(1, 2)
    for stream in bench.streams:
        bench.receiver.begin(stream, data[:-3])
    bench.sent(data[-3:])
    assert all(stream.heard for stream in bench.streams)
    assert (bench.received.deliveries, wrong(bench.received)) == (6, (0, 0, 0, 0))


def test_tells_the_most_that_one_read_brought(bench: Bench) -> None:
    data = texts(1, size=3000)
    bench.sent(data)
    assert bench.receiver.most == len(data)
