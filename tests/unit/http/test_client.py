"""The HTTP client, against real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

import pytest
from tests.support.origins import authority
from tests.support.sockets import resolve_absolute_names

from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.settings import HttpClientSettings

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedPeer:
    """Listens on a free port and runs a script on each connection, in order of the connections."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.connections = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        script = self._scripts[self.connections]
        self.connections += 1
        await script(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def answering(*answers: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()

    return script


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_reads_a_response_of_an_admin_port_and_sends_a_body() -> None:
    async def run() -> None:
        async def echo(request: AdminRequest) -> AdminResponse:
            return AdminResponse.json({"method": request.method, "body": request.body.decode(), "q": request.query})

        admin = AdminServer({("GET", "/seats"): echo, ("POST", "/drain"): echo})
        port = await admin.start("127.0.0.1", 0)
        client = HttpClient("127.0.0.1", port, timeout=5)
        answer = await client.get("/seats?all")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"method": "GET", "body": "", "q": "all"}
        assert (await client.post("/drain", b"{}")).json() == {"method": "POST", "body": "{}", "q": ""}
        assert (await client.get("/nowhere")).status == 404
        client.close()
        await admin.close()

    asyncio.run(run())


def test_keeps_one_connection_for_many_requests() -> None:
    async def run() -> None:
        async with ScriptedPeer(answering(OK, OK, OK)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            for _ in range(3):
                assert (await client.get("/")).body == b"ok"
            assert peer.connections == 1
            client.close()

    asyncio.run(run())


def test_reconnects_after_the_peer_closed_the_kept_connection() -> None:
    async def run() -> None:
        async with ScriptedPeer(answering(OK), answering(OK)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            assert (await client.get("/")).body == b"ok"
            assert (await client.get("/")).body == b"ok"
            assert peer.connections == 2
            client.close()

    asyncio.run(run())


def test_does_not_keep_a_connection_that_the_peer_closes() -> None:
    async def run() -> None:
        closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
        async with ScriptedPeer(answering(closing), answering(closing)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            assert (await client.get("/")).body == b"ok"
            assert (await client.get("/")).body == b"ok"

    asyncio.run(run())


def test_skips_an_informational_response_and_reads_chunks() -> None:
    async def run() -> None:
        chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        async with ScriptedPeer(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            assert (await client.get("/")).body == b"ok"
            client.close()

    asyncio.run(run())


def test_a_peer_that_accepts_and_never_responds_times_out() -> None:
    async def run() -> None:
        released = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()
            released.set()

        async with ScriptedPeer(silent) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=0.05)
            with pytest.raises(HttpError, match=rf"GET http://127.0.0.1:{peer.port}/seats: no response within 0.05 s"):
                await client.get("/seats")
            await released.wait()  # the connection was let go, not leaked

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "closed without a response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", "peer closed connection"),
        (b"no HTTP\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n123456789", "longer than 8 bytes"),
    ],
)
def test_an_unusable_response_is_an_error(answer: bytes, problem: str) -> None:
    async def run() -> None:
        async with ScriptedPeer(answering(answer)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5, settings=HttpClientSettings(max_body_bytes=8))
            with pytest.raises(HttpError, match=problem):
                await client.get("/")

    asyncio.run(run())


def test_a_refused_connection_is_an_error_that_says_so() -> None:
    async def run() -> None:
        async with ScriptedPeer() as peer:
            port = peer.port
        with pytest.raises(HttpError, match=r"[Cc]onnect"):
            await HttpClient("127.0.0.1", port, timeout=5).get("/")

    asyncio.run(run())


def test_requests_at_the_same_time_wait_for_each_other() -> None:
    async def run() -> None:
        async with ScriptedPeer(answering(OK, OK)) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            answers = await asyncio.gather(client.get("/a"), client.get("/b"))
            assert [answer.body for answer in answers] == [b"ok", b"ok"]
            client.close()

    asyncio.run(run())


def chunked(*chunks: bytes, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + (b"0\r\n\r\n" if end else b"")


def test_a_stream_is_read_line_by_line_and_its_connection_is_closed() -> None:
    async def run() -> None:
        released = asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(chunked(b"on", b"e\ntwo\nthr", end=False))
            with suppress(ConnectionError):
                await reader.read()
            released.set()

        async with ScriptedPeer(endless) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            async with client.stream("/watch?a=1") as response:
                assert response.status == 200
                lines = response.lines(idle_timeout=5)
                assert [await anext(lines), await anext(lines)] == [b"one", b"two"]
            await released.wait()

    asyncio.run(run())


def test_a_stream_that_brings_nothing_is_an_error_that_says_for_how_long() -> None:
    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(chunked(b"one\n", end=False))
            with suppress(ConnectionError):
                await reader.read()

        async with ScriptedPeer(silent) as peer:
            client = HttpClient("127.0.0.1", peer.port, timeout=5)
            async with client.stream("/watch?a=1") as response:
                lines = response.lines(idle_timeout=0.05)
                assert await anext(lines) == b"one"
                with pytest.raises(HttpError, match=rf"GET http://127.0.0.1:{peer.port}/watch: no data for 0.05 s"):
                    await anext(lines)

    asyncio.run(run())


def test_a_host_that_dns_does_not_allow_is_an_error_that_says_so() -> None:
    async def main() -> None:
        with pytest.raises(HttpError, match=r"GET http://a\.\.b:1/: the host is not a DNS name"):
            await HttpClient("a..b", 1, timeout=5).get("/")

    asyncio.run(main())


def test_the_dot_of_an_absolute_name_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_absolute_names(monkeypatch)
    theirs = authority("localhost")

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answering(OK)(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs.server)
        async with server:
            tls = ssl.create_default_context(cadata=theirs.ca_pem)
            client = HttpClient("localhost.", server.sockets[0].getsockname()[1], timeout=5, tls=tls)
            assert (await client.get("/")).body == b"ok"
            client.close()

    asyncio.run(main())


def test_an_ipv6_address_is_bracketed() -> None:
    async def run() -> None:
        with pytest.raises(HttpError, match=r"GET http://\[::1\]:1/: "):
            await HttpClient("::1", 1, timeout=5).get("/")

    asyncio.run(run())
