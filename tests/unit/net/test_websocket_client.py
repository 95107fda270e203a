from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.support.origins import INVALID_UTF8, MASKED, FakeOrigin, Refuse, authority, fragmented, raw_frame
from tests.support.sockets import run
from websockets.utils import accept_key

from lobby_gateway.net import websocket_client
from lobby_gateway.net.websocket_client import WebSocketClient, explain, open_websocket
from lobby_gateway.protocol.client_handshake import ClientHandshake, OriginRefusedError, OriginUnreachableError
from lobby_gateway.protocol.frames import Batch, Opcode
from lobby_gateway.protocol.parser import Close, Event, Ping, Pong, Violation


class Recorder:
    """A receiver that writes down what it is told, and can be waited on."""

    def __init__(self) -> None:
        self.reads: list[list[Event]] = []
        self.lost_with: list[Exception | None] = []
        self._changed = asyncio.Event()

    def received(self, events: list[Event]) -> None:
        assert not self.lost_with, "an event after the end"
        self.reads.append(events)
        self._changed.set()

    def lost(self, error: Exception | None) -> None:
        self.lost_with.append(error)
        self._changed.set()

    @property
    def events(self) -> list[Event]:
        return [event for read in self.reads for event in read]

    @property
    def messages(self) -> list[bytes]:
        batches = [event for event in self.events if isinstance(event, Batch)]
        return [bytes(batch.payload(i)) for batch in batches for i in range(len(batch))]

    async def until(self, look: Callable[[], Any]) -> None:
        while not look():
            self._changed.clear()
            await self._changed.wait()

    async def until_lost(self) -> None:
        await self.until(lambda: self.lost_with)


@contextlib.asynccontextmanager
async def connected(origin: FakeOrigin, **options: Any) -> AsyncIterator[tuple[WebSocketClient, Recorder]]:
    recorder = Recorder()
    client = await open_websocket(origin.url, receiver=recorder, **options)
    try:
        yield client, recorder
    finally:
        client.abort()
        await client.wait_lost()


def acceptance(key: str) -> bytes:
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that reads a request and then does as the test says, with the bytes of an acceptance at hand."""
    done: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.add(task)
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = request.lower().split("sec-websocket-key: ")[1].split("\r\n")[0]
        at = request.lower().index(key)
        accept = acceptance(request[at : at + len(key)])
        try:
            await handle(reader, writer, accept)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()
        if done:
            await asyncio.wait(done)


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


def test_bytes_right_behind_the_answer_are_not_lost_and_come_after_the_opening() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept + raw_frame(1, b"first") + raw_frame(1, b"second")[:3])
        await reader.readuntil(b"\x00")  # the test has looked: now the rest
        writer.write(raw_frame(1, b"second")[3:])
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


def test_origin_that_accepts_speaks_and_ends_at_once_is_heard_to_its_end() -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept + raw_frame(1, b"last words"))
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

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        """What comes is given by the test."""


def test_what_arrives_before_the_owner_has_the_connection_is_kept_in_order_with_its_end() -> None:
    async def main() -> None:
        recorder, wire = Recorder(), Wire()
        client = WebSocketClient(ClientHandshake("ws://origin.example"), recorder, 1024)
        client.connection_made(wire)
        key = wire.written.decode().split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        client.data_received(acceptance(key) + raw_frame(1, b"one"))
        client.data_received(raw_frame(1, b"two"))  # TLS had decrypted more
        error = ConnectionResetError(104, "reset")
        client.connection_lost(error)
        await client.wait_open()
        assert recorder.reads == []
        client.begin()
        assert recorder.messages == [b"one", b"two"]
        assert recorder.lost_with == [error]
        assert not client.send_text("too late")

    run(main())


def test_small_messages_leave_at_once() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, _):
            assert client._transport is not None
            sock = client._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

    run(main())


# Not opening


async def refusal(origin: FakeOrigin) -> OriginRefusedError:
    recorder = Recorder()
    with pytest.raises(OriginRefusedError) as caught:
        await open_websocket(origin.url, receiver=recorder)
    assert not recorder.reads
    assert not recorder.lost_with
    return caught.value


@pytest.mark.parametrize(
    ("refuse", "reason", "retry_after"),
    [
        (Refuse(401), "HTTP 401 Unauthorized", None),
        (Refuse(403), "HTTP 403 Forbidden", None),
        (Refuse(404), "HTTP 404 Not Found", None),
        (Refuse(429, (("Retry-After", "7"),)), "HTTP 429 Too Many Requests", 7),
        (Refuse(503, (("Retry-After", "120"),), "x" * 100_000), "HTTP 503 Service Unavailable", 120),
        (
            Refuse(301, (("Location", "/new"),)),
            "HTTP 301 Moved Permanently: redirects are not followed; it points to /new",
            None,
        ),
    ],
)
def test_refusal_says_why_and_when_to_come_back(refuse: Refuse, reason: str, retry_after: float | None) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=refuse) as origin:
            error = await refusal(origin)
            assert (error.status, error.reason, error.retry_after_seconds) == (refuse.status, reason, retry_after)
            assert origin.seen == []

    run(main())


async def unreachable(url: str, **options: Any) -> str:
    recorder = Recorder()
    with pytest.raises(OriginUnreachableError) as caught:
        await open_websocket(url, receiver=recorder, **options)
    assert not recorder.reads
    assert not recorder.lost_with
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_port_without_a_listener() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            url = origin.url
        assert await unreachable(url) == "connection refused"
        assert await unreachable(url.replace("localhost", "127.0.0.1")) == "connection refused"

    run(main())


def test_name_without_an_address() -> None:
    async def main() -> None:
        reason = await unreachable("ws://no-such-host.invalid/")
        assert reason.startswith("DNS: no address for no-such-host.invalid (")

    run(main())


def test_untrusted_certificate() -> None:
    async def main() -> None:
        async with FakeOrigin(tls=authority().server) as origin:
            reason = await unreachable(origin.url)
            assert reason.startswith("TLS: certificate is not trusted (")
            assert origin.attempts == []

    run(main())


def test_certificate_of_another_name() -> None:
    async def main() -> None:
        theirs = authority("other.example")
        async with FakeOrigin(tls=theirs.server) as origin:
            trusting = ssl.create_default_context(cadata=theirs.ca_pem)
            reason = await unreachable(origin.url, ssl=trusting)
            assert reason.startswith("TLS: certificate is not trusted (Hostname mismatch")
            client = await open_websocket(
                origin.url, receiver=Recorder(), ssl=trusting, server_hostname="other.example"
            )
            await client.close()

    run(main())


def test_tls_asked_of_a_port_without() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:  # takes the hello for a request, and hangs up
            url = origin.url.replace("ws://", "wss://")
            assert await unreachable(url) == "the connection was closed during the TLS handshake"

    run(main())


async def blocking_server(serve: Callable[[socket.socket], None], **options: Any) -> str:
    """Why a client can't connect to a server that speaks plain sockets, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with server.accept()[0] as sock:
                serve(sock)

        thread = asyncio.get_running_loop().run_in_executor(None, accept)
        reason = await unreachable(f"wss://localhost:{server.getsockname()[1]}/", **options)
        await thread
        return reason


def test_tls_answered_in_plain_text() -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert run(blocking_server(serve)) == "TLS: the origin does not speak TLS on this port"


def test_origin_that_wants_a_client_certificate_and_gets_none() -> None:
    theirs = authority(ask_client=True)

    def serve(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):  # its alert comes when our side takes the handshake for done (TLS 1.3)
            theirs.server.wrap_socket(sock, server_side=True)

    reason = run(blocking_server(serve, ssl=ssl.create_default_context(cadata=theirs.ca_pem)))
    assert reason == "TLS: tlsv13 alert certificate required"


def test_origin_that_never_answers() -> None:
    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _accept: bytes) -> None:
        assert await reader.read() == b""  # the client hangs up

    async def main() -> None:
        async with raw_server(handle) as url:
            assert await unreachable(url, open_timeout=0.1) == "timeout: no answer to the handshake within 0.1 s"

    run(main())


def test_origin_that_does_not_finish_the_tls_handshake() -> None:
    async def main() -> None:
        server = socket.create_server(("127.0.0.1", 0))  # the kernel accepts, nobody speaks
        try:
            url = f"wss://127.0.0.1:{server.getsockname()[1]}/"
            assert await unreachable(url, open_timeout=0.1) == "timeout: no connection within 0.1 s"
        finally:
            server.close()

    run(main())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "the connection was closed during the handshake"),
        (b"HTTP/1.1 101 Swi", "the connection was closed during the handshake"),
        (b"220 mail.example ESMTP\r\n", "the answer is no HTTP/1.1"),
    ],
)
def test_origin_that_is_none(said: bytes, reason: str) -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _accept: bytes) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with raw_server(handle) as url:
            assert await unreachable(url) == reason

    run(main())


def test_cancelled_opening_leaves_no_connection() -> None:
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _accept: bytes) -> None:
        asked.set()
        assert await reader.read() == b""
        closed.set()

    async def main() -> None:
        async with raw_server(handle) as url:
            task = asyncio.create_task(open_websocket(url, receiver=Recorder()))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.wait()

    run(main())


# What a client owes its peer


def test_pings_are_answered_once_a_read_and_handed_on() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            seen = await origin.until_open()
            latency = await (await seen.server.ping(b"payload"))
            assert latency >= 0
            assert Ping(b"payload") in recorder.events

    run(main())


def test_pong_is_handed_on() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            assert client.send_ping(b"are you there")
            await recorder.until(lambda: recorder.events)
            assert recorder.events == [Pong(b"are you there")]
            assert origin.seen[0].pings == 1

    run(main())


def test_pings_of_a_peer_that_never_reads_are_not_kept() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await writer.drain()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            writer.write(raw_frame(Opcode.PING, b"x" * 125) * 100)
            await writer.drain()
        writer.write(raw_frame(1, b"done"))
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
            seen = await origin.until_closed(origin.seen[0])
            assert (seen.close_code, seen.close_reason) == (1000, "bye")

    run(main())


def test_close_of_a_silent_peer_ends_after_the_bound() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (client, recorder):
            await origin.until_open()
            origin.go_silent()
            await client.close(timeout=0.05)
            assert recorder.lost_with == [None]

    run(main(), deadline=5)


def test_messages_before_the_answer_to_our_close_are_still_handed_on() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        writer.write(accept)
        await reader.readexactly(2 + 4 + 2)  # our close frame
        writer.write(raw_frame(1, b"on the way") + raw_frame(8, b"\x03\xe8"))
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
        (raw_frame(3, b""), 1002),
        (raw_frame(0, b"x"), 1002),
        (INVALID_UTF8, 1007),
        (fragmented(b"\xe2\x82", b"!"), 1007),
        (raw_frame(1, b"x" * 1025), 1009),
        (fragmented(b"x" * 1024, b"x"), 1009),
    ],
)
def test_violation_closes_with_its_code_after_what_was_good(bad: bytes, code: int) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin, max_message_bytes=1024) as (client, recorder):
            seen = await origin.until_open()
            origin.send_raw(raw_frame(1, b"good") + bad + raw_frame(1, b"ignored"))
            await origin.until_closed(seen)
            await recorder.until_lost()
            assert recorder.messages == [b"good"]
            violation = recorder.events[-1]
            assert isinstance(violation, Violation)
            assert (violation.code, seen.close_code) == (code, code)
            assert not client.open

    run(main())


def test_reset_is_told_with_its_error() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            await origin.until_open()
            origin.kill_connections()
            await recorder.until_lost()
            (error,) = recorder.lost_with
            assert isinstance(error, ConnectionResetError)
            assert explain(error) == "connection reset by peer"

    run(main())


def test_peer_that_half_closes_and_never_reads_does_not_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_client, "CLOSE_TIMEOUT_SECONDS", 0.05)

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
            client = await open_websocket(url, receiver=recorder)
            client.send_binary(bytes(16 << 20))
            assert client.buffered
            full.set()
            await recorder.until_lost()
            over.set()

    run(main())


# What it carries


def test_all_messages_of_a_read_come_in_one_batch_with_the_origins_own_bytes() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, connected(origin) as (_, recorder):
            await origin.until_open()
            data = b"".join(raw_frame(1 + i % 2, b"%d" % i) for i in range(500))
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
            first, second, third = (
                raw_frame(1, "é".encode()[:1], fin=False), raw_frame(0, "é".encode()[1:], fin=False), raw_frame(0, b"!"),
            )  # fmt: skip
            origin.send_raw(first + raw_frame(9, b"now") + second + third)
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


def test_buffered_tells_what_the_peer_has_not_taken() -> None:
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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] x"), "network is unreachable"),
        (ConnectionResetError(), "the connection was closed during the TLS handshake"),
        (TimeoutError(110, "x"), "connection timed out"),
        (socket.gaierror(-2, "Name or service not known"), "DNS: no address for h (Name or service not known)"),
        (OSError("odd"), "odd"),
        (ConnectionAbortedError(), "ConnectionAbortedError"),
    ],
)
def test_errors_are_explained_in_one_line(error: OSError, reason: str) -> None:
    assert explain(error, "h") == reason
