from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.origins import INVALID_UTF8, MASKED, FakeOrigin, authority, fragmented, server_frame
from tests.support.peers import Recorder, acceptance, raw_server
from tests.support.sockets import run

from lobby_gateway.settings import WebSocketClientSettings
from lobby_gateway.websocket.client import WebSocketClient, explain, open_websocket
from lobby_gateway.websocket.client_handshake import ClientHandshake
from lobby_gateway.websocket.frames import Batch, Opcode, apply_mask
from lobby_gateway.websocket.parser import Close, Event, Ping, Pong, Violation


@contextlib.asynccontextmanager
async def connected(origin: FakeOrigin, **options: Any) -> AsyncIterator[tuple[WebSocketClient, Recorder]]:
    recorder = Recorder()
    client = await open_websocket(origin.url, receiver=recorder, **options)
    try:
        yield client, recorder
    finally:
        client.abort()
        await client.wait_lost()


# Opening


def test_messages_go_both_ways() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            assert client.send_text("héllo")
            assert client.send_binary(b"\x00\xff")
            assert client.send_binary(memoryview(b"x" * 70_000))
            seen = await origin.until_open()
            await origin.until(lambda: len(seen.messages) == 3)
            assert seen.messages == ["héllo", b"\x00\xff", b"x" * 70_000]
            await origin.send("ça va", b"\x01")
            await recorder.until(lambda: len(recorder.messages) == 2)
            assert recorder.messages == ["ça va".encode(), b"\x01"]

    run(main())


def test_headers_query_and_subprotocols_reach_the_origin() -> None:
    async def main() -> None:
        async with FakeOrigin(subprotocols=["v1"]) as origin:
            recorder = Recorder()
            client = await open_websocket(
                f"{origin.url}stream?key=a%20b",
                receiver=recorder,
                headers=[("X-Api-Key", "k")],
                subprotocols=["v2", "v1"],
            )
            assert client.subprotocol == "v1"
            seen = await origin.until_open()
            assert (seen.path, seen.headers["x-api-key"], seen.offered) == ("/stream?key=a%20b", "k", ("v2", "v1"))
            await client.close()

    run(main())


def test_bytes_right_behind_the_response_are_not_lost_and_arrive_after_the_opening() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept + server_frame(1, b"first") + server_frame(1, b"second")[:3])
        await reader.readuntil(b"\x00")  # the test has looked: now the rest
        writer.write(server_frame(1, b"second")[3:])
        await reader.read()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            assert recorder.reads == []
            await recorder.until(lambda: recorder.messages)
            assert recorder.messages == [b"first"]
            assert client._transport is not None
            client._transport.write(b"\x00")
            await recorder.until(lambda: len(recorder.messages) == 2)
            assert recorder.messages == [b"first", b"second"]
            client.abort()

    run(main())


def test_origin_that_accepts_sends_and_closes_at_once_is_read_to_the_end() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept + server_frame(1, b"last words"))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            await recorder.until_lost()
            assert recorder.messages == [b"last words"]
            assert not client.open

    run(main())


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        """What comes is given by the test."""
        self.reading = False

    def resume_reading(self) -> None:
        """Likewise."""
        self.reading = True


def test_events_before_the_owner_has_the_connection_are_kept_in_order_including_its_end() -> None:
    async def main() -> None:
        recorder, wire = Recorder(), Wire()
        client = WebSocketClient(ClientHandshake("ws://origin.example"), recorder, 1024, WebSocketClientSettings())
        client.connection_made(wire)
        key = wire.written.decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        client.data_received(acceptance(key) + server_frame(1, b"one"))
        client.data_received(server_frame(1, b"two"))  # TLS had decrypted more
        error = ConnectionResetError(104, "reset")
        client.connection_lost(error)
        await client.wait_open()
        assert recorder.reads == []
        client.begin()
        assert recorder.messages == [b"one", b"two"]
        assert recorder.lost_with == [error]
        assert not client.send_text("too late")

    run(main())


def test_owner_may_pause_reading_because_of_what_came_with_the_handshake() -> None:
    async def main() -> None:
        class Pausing(Recorder):
            def received(self, events: list[Event]) -> None:
                super().received(events)
                client.pause_reading()

        recorder, wire = Pausing(), Wire()
        client = WebSocketClient(ClientHandshake("ws://origin.example"), recorder, 1024, WebSocketClientSettings())
        client.connection_made(wire)
        key = wire.written.decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        client.data_received(acceptance(key) + server_frame(1, b"one"))
        client.begin()
        assert recorder.messages == [b"one"]
        assert not wire.reading

    run(main())


def test_small_messages_are_sent_at_once() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, _):
            assert client._transport is not None
            sock = client._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    run(main())


# What a client owes its peer


def test_each_ping_of_a_burst_is_answered_in_order() -> None:  # Autobahn 2.10
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept + b"".join(server_frame(Opcode.PING, b"%d" % n) for n in range(10)))
        for _ in range(10):
            head = await reader.readexactly(6)
            assert head[:2] == b"\x8a\x81"
            answered.append(apply_mask(await reader.readexactly(1), head[2:]))
        finished.set()

    answered: list[bytes] = []
    finished = asyncio.Event()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            async with asyncio.timeout(5):
                await finished.wait()
            client.abort()
        assert answered == [b"%d" % n for n in range(10)]

    run(main())


def test_of_very_many_pings_only_some_are_answered_and_the_latest() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await asyncio.sleep(0)
        writer.write(b"".join(server_frame(Opcode.PING, b"%05d" % n) for n in range(10_000)))
        while not answered or answered[-1] != b"09999":
            head = await reader.readexactly(6)
            answered.append(apply_mask(await reader.readexactly(5), head[2:]))
        finished.set()

    answered: list[bytes] = []
    finished = asyncio.Event()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            async with asyncio.timeout(10):
                await finished.wait()
            client.abort()
        assert answered == sorted(answered)
        assert len(answered) < 9000

    run(main())


def test_pings_are_answered_and_passed_on() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            seen = await origin.until_open()
            latency = await (await seen.server.ping(b"payload"))
            assert latency >= 0
            assert Ping(b"payload") in recorder.events

    run(main())


def test_pong_is_passed_on() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            assert client.send_ping(b"are you there")
            await recorder.until(lambda: recorder.events)
            assert recorder.events == [Pong(b"are you there")]
            assert origin.connections[0].pings == 1

    run(main())


def test_pings_of_a_peer_that_never_reads_are_not_answered() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await writer.drain()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            writer.write(server_frame(Opcode.PING, b"x" * 125) * 100)
            await writer.drain()
        writer.write(server_frame(1, b"done"))
        await writer.drain()
        await finished.wait()

    finished = asyncio.Event()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            # Stand-in for a socket that is full: megabytes that the peer does not read.
            client.send_binary(bytes(16 << 20))
            before = client.buffered
            assert before > 1 << 20
            await recorder.until(lambda: recorder.messages)
            assert client.buffered <= before
            finished.set()
            client.abort()

    run(main())


def test_close_of_the_peer_is_answered_with_its_code() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            seen = await origin.until_open()
            await origin.close_connections(1012, "deploy")
            await recorder.until_lost()
            assert recorder.events == [Close(1012, "deploy")]
            assert recorder.lost_with == [None]
            assert (await origin.until_closed(seen)).close_code == 1012
            assert not client.open
            assert not client.send_text("too late")

    run(main())


def test_close_waits_for_the_answer() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            await client.close(1000, "bye")
            assert recorder.lost_with == [None]
            assert recorder.events == [Close(1000, "bye")]
            seen = await origin.until_closed(origin.connections[0])
            assert (seen.close_code, seen.close_reason) == (1000, "bye")

    run(main())


def test_closing_a_silent_peer_ends_after_the_timeout() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            await origin.until_open()
            origin.go_silent()
            await client.close(timeout=0.05)
            assert recorder.lost_with == [None]

    run(main(), deadline=5)


def test_messages_before_the_answer_to_our_close_are_still_passed_on() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await reader.readexactly(2 + 4 + 2)  # our close frame
        writer.write(server_frame(1, b"on the way") + server_frame(8, b"\x03\xe8"))
        await writer.drain()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            client = await open_websocket(url, receiver=recorder)
            await client.close()
            assert recorder.messages == [b"on the way"]

    run(main())


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (MASKED, 1002),
        (server_frame(3, b""), 1002),
        (server_frame(0, b"x"), 1002),
        (INVALID_UTF8, 1007),
        (fragmented(b"\xe2\x82", b"!"), 1007),
        (server_frame(1, b"x" * 1025), 1009),
        (fragmented(b"x" * 1024, b"x"), 1009),
    ],
)
def test_violation_closes_with_its_code_after_the_valid_messages(bad: bytes, code: int) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin, max_message_bytes=1024) as (client, recorder):
            seen = await origin.until_open()
            origin.send_raw(server_frame(1, b"good") + bad + server_frame(1, b"ignored"))
            await origin.until_closed(seen)
            await recorder.until_lost()
            assert recorder.messages == [b"good"]
            violation = recorder.events[-1]
            assert isinstance(violation, Violation)
            assert (violation.code, seen.close_code) == (code, code)
            assert not client.open

    run(main())


def test_reset_is_reported_with_its_error() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            await origin.until_open()
            origin.kill_connections()
            await recorder.until_lost()
            (error,) = recorder.lost_with
            assert isinstance(error, ConnectionResetError)
            assert explain(error) == "connection reset by peer"

    run(main())


def test_peer_that_half_closes_and_never_reads_does_not_keep_the_connection() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await writer.drain()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await full.wait()
        writer.write_eof()
        await over.wait()

    full, over = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        recorder = Recorder()
        async with raw_server(handle) as url:
            settings = WebSocketClientSettings(close_timeout_seconds=0.05)
            client = await open_websocket(url, receiver=recorder, settings=settings)
            client.send_binary(bytes(16 << 20))
            assert client.buffered
            full.set()
            await recorder.until_lost()
            over.set()

    run(main())


# What it carries


def test_all_messages_of_a_read_are_one_batch_of_the_origins_own_bytes() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            await origin.until_open()
            data = b"".join(server_frame(1 + i % 2, b"%d" % i) for i in range(500))
            origin.send_raw(data)
            await recorder.until(lambda: len(recorder.messages) == 500)
            (batch,) = recorder.events
            assert isinstance(batch, Batch)
            assert batch.data == data

    run(main())


def test_fragments_with_a_ping_between_them_are_one_message() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            await origin.until_open()
            first = server_frame(1, "é".encode()[:1], fin=False)
            second, third = server_frame(0, "é".encode()[1:], fin=False), server_frame(0, b"!")
            origin.send_raw(first + server_frame(9, b"now") + second + third)
            await recorder.until(lambda: recorder.messages)
            assert recorder.messages == ["é!".encode()]

    run(main())


def test_large_messages_pass_both_ways() -> None:
    async def main() -> None:
        size = 4 << 20
        async with FakeOrigin() as origin, connected(origin, max_message_bytes=size) as (client, recorder):
            seen = await origin.until_open()
            payload = bytes(range(256)) * (size // 256)
            await origin.send(payload)
            await recorder.until(lambda: recorder.messages)
            assert recorder.messages == [payload]
            client.send_binary(payload)
            await origin.until(lambda: seen.messages)
            assert seen.messages == [payload]

    run(main())


def test_messages_over_tls() -> None:
    async def main() -> None:
        theirs = authority()
        trusting = ssl.create_default_context(cadata=theirs.ca_pem)
        async with FakeOrigin(tls=theirs.server) as origin, connected(origin, ssl=trusting) as (client, recorder):
            seen = await origin.until_open()
            await origin.send("x" * 300_000, "y")
            client.send_text("hello")
            await recorder.until(lambda: len(recorder.messages) == 2)
            await origin.until(lambda: seen.messages)
            assert [len(each) for each in recorder.messages] == [300_000, 1]
            await client.close()
            assert (await origin.until_closed(seen)).close_code == 1000

    run(main())


def test_buffered_counts_what_the_peer_has_not_read() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, _):
            await origin.until_open()
            assert client.buffered == 0
            origin.go_silent()
            client.send_binary(bytes(16 << 20))
            assert 1 << 20 < client.buffered <= (16 << 20) + 14
            client.abort()
            await client.wait_lost()
            assert client.buffered == 0

    run(main())
