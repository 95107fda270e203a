from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from tests.support.sockets import run
from tests.support.waiting import until

from lobby_gateway import metrics
from lobby_gateway.errors import UserError
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer, Routes, health_handlers, metrics_handler
from lobby_gateway.settings import AdminSettings


@asynccontextmanager
async def serving(
    routes: Routes, settings: AdminSettings | None = None, *, hosts: Sequence[str] = ()
) -> AsyncIterator[int]:
    server = AdminServer(routes, settings, hosts=hosts)
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


async def echo(request: AdminRequest) -> AdminResponse:
    return AdminResponse.json({"method": request.method, "query": request.query, "body": request.body.decode()})


def test_answers_json_with_its_length() -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            head, _, body = (await ask(port, get("/echo?a=1"))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert json.loads(body) == {"method": "GET", "query": "a=1", "body": ""}

    run(main())


def test_a_body_reaches_the_handler() -> None:
    async def main() -> None:
        async with serving({("POST", "/echo"): echo}) as port:
            request = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
            assert json.loads((await ask(port, request)).partition(b"\r\n\r\n")[2])["body"] == "hello"

    run(main())


def test_a_post_from_a_web_page_is_refused() -> None:
    async def main() -> None:
        async with serving({("POST", "/echo"): echo}) as port:
            request = (
                b"POST /echo HTTP/1.1\r\nHost: a\r\nOrigin: http://x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            assert (await ask(port, request)).startswith(b"HTTP/1.1 403 ")

    run(main())


def test_head_answers_without_a_body() -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            head, _, body = (await ask(port, get("/echo", "HEAD"))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert body == b""

    run(main())


def test_one_connection_serves_several_requests() -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            first = get("/echo").replace(b"Connection: close\r\n", b"")
            assert (await ask(port, first + get("/echo"))).count(b"HTTP/1.1 200 ") == 2

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status", "says"),
    [
        (get("/nothing"), 404, b"served: /echo"),
        (get("/echo", "POST"), 405, b"/echo accepts GET"),
        (b"nonsense\r\n\r\n", 400, b""),
        (
            b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000,
            413,
            b"too large",
        ),
    ],
)
def test_unsupported_requests_get_their_status(request_bytes: bytes, status: int, says: bytes) -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            answer = await ask(port, request_bytes)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
            assert says in answer

    run(main())


def test_a_handler_that_fails_is_a_500_and_the_next_one_is_served(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_request: AdminRequest) -> AdminResponse:
        raise ZeroDivisionError

    async def main() -> None:
        async with serving({("GET", "/fail"): fail, ("GET", "/echo"): echo}) as port:
            assert (await ask(port, get("/fail"))).startswith(b"HTTP/1.1 500 ")
            assert (await ask(port, get("/echo"))).startswith(b"HTTP/1.1 200 ")

    run(main())
    assert "handling a request failed" in caplog.text


def test_readiness_says_why_not() -> None:
    async def main() -> None:
        async with serving(health_handlers(lambda: "draining")) as port:
            assert (await ask(port, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
            answer = await ask(port, get("/readyz"))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"draining\n")

    run(main())


def test_a_process_that_runs_but_is_stuck_is_unhealthy() -> None:
    async def main() -> None:
        async with serving(health_handlers(lambda: "", lambda: "pods were not looked at for 600 s")) as port:
            answer = await ask(port, get("/healthz"))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"pods were not looked at for 600 s\n")

    run(main())


def test_metrics_are_collected_at_the_scrape() -> None:
    table = (metrics.Definition("some_total", "counter", "Something."),)
    values = {"some_total": 1.0}

    async def main() -> None:
        registry = CollectorRegistry()  # without the figures of the process, which are read from files
        registry.register(metrics.TableCollector(table, lambda: values))
        async with serving({("GET", "/metrics"): metrics_handler(registry)}) as port:
            assert b"\nsome_total 1.0\n" in await ask(port, get("/metrics"))
            values["some_total"] = 5.0
            assert b"\nsome_total 5.0\n" in await ask(port, get("/metrics"))

    run(main())


def test_a_port_in_use_is_one_line() -> None:
    async def main() -> None:
        async with serving({}) as port:
            with pytest.raises(UserError, match=f"--admin-port: {port} is in use on 127.0.0.1"):
                await AdminServer({}).start("127.0.0.1", port)

    run(main())


def test_closing_ends_idle_connections() -> None:
    async def main() -> None:
        server = AdminServer({("GET", "/echo"): echo})
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/echo").replace(b"Connection: close\r\n", b""))
        await reader.readuntil(b"\r\n\r\n")
        await server.close()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    run(main())


def test_a_large_page_is_formatted_in_a_thread_after_collecting() -> None:
    threads: list[threading.Thread] = []

    def read() -> metrics.Samples:
        threads.append(threading.current_thread())
        return {"lobby_seats": 7}

    registry = metrics.registry((metrics.Definition("lobby_seats", "gauge", "Seats."),), read)

    async def main() -> None:
        routes = {
            ("GET", "/small"): metrics_handler(registry),
            ("GET", "/large"): metrics_handler(registry, large=True),
        }
        async with serving(routes) as port:
            small, large = [await ask(port, get(path)) for path in ("/small", "/large")]
            for answer in (small, large):
                assert b"content-type: text/plain; version=" in answer
                assert b"\nlobby_seats 7.0\n" in answer
                assert b"\nprocess_open_fds " in answer
            assert set(threads) == {threading.main_thread()}

    run(main())


async def half_open(port: int, data: bytes = b"GET /echo HTTP/1.1\r\n") -> asyncio.StreamWriter:
    """Begins a request and leaves it incomplete."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return writer


@pytest.mark.parametrize(
    "data", [b"", b"GET /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["nothing", "half", "idle"]
)
def test_connections_that_wait_for_their_peer_keep_no_probe_out(data: bytes) -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            writers = [await half_open(port, data) for _ in range(300)]
            for _ in range(20):
                async with asyncio.timeout(1):
                    assert (await ask(port, get("/echo"))).startswith(b"HTTP/1.1 200 ")
            for writer in writers:
                writer.transport.abort()

    run(main())


def test_peers_that_do_not_read_their_responses_keep_no_probe_out() -> None:
    async def main() -> None:
        settings = AdminSettings(max_connections_per_peer=2)
        async with serving({("GET", "/much"): much, ("GET", "/echo"): echo}, settings) as port:
            writers = [await unread(port, "/much") for _ in range(5)]
            assert (await ask(port, get("/echo"))).startswith(b"HTTP/1.1 200 ")
            for writer in writers:
                writer.transport.abort()

    run(main())


def test_a_request_that_is_being_handled_is_not_evicted() -> None:
    async def main() -> None:
        arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def slow(_request: AdminRequest) -> AdminResponse:
            arrived.release()
            await go_on.wait()
            return AdminResponse.text("done")

        settings = AdminSettings(max_connections_per_peer=2)
        async with serving({("GET", "/slow"): slow, ("GET", "/echo"): echo}, settings) as port:
            handled = [asyncio.create_task(ask(port, get("/slow"))) for _ in range(2)]
            for _ in handled:
                await arrived.acquire()
            with contextlib.suppress(ConnectionResetError):
                assert await ask(port, get("/echo")) == b"", "there is no room, and nobody to evict"
            go_on.set()
            for each in handled:
                assert (await each).endswith(b"done\n")
            assert (await ask(port, get("/echo"))).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_many_peers_together_keep_no_probe_out() -> None:
    async def main() -> None:
        settings = AdminSettings(max_connections=4, max_connections_per_peer=2)
        async with serving({("GET", "/echo"): echo}, settings) as port:
            writers = []
            for number in range(2, 12):
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.0.{number}", 0))
                writers.append(writer)
            assert (await ask(port, get("/echo"))).startswith(b"HTTP/1.1 200 ")
            for writer in writers:
                writer.transport.abort()

    run(main())


def asking_for(host: str, path: str = "/echo") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("127.0.0.1:8001", "/echo", 200),
        ("[::1]:8001", "/echo", 200),
        ("localhost:8001", "/echo", 200),
        ("greeter", "/echo", 200),
        ("greeter.lobby-system.svc:8001", "/echo", 200),
        ("status.example.com", "/echo", 200),  # an option allows it
        ("STATUS.example.com.:8001", "/echo", 200),
        ("evil.example:8001", "/echo", 421),
        ("evil.example:8001", "/nothing", 421),
        ("a.status.example.com", "/echo", 421),
        ("evil.example", "http://localhost/echo?a=1", 200),  # RFC 9112 §3.2.2: the target decides
        ("localhost", "http://evil.example/echo", 421),
    ],
)
def test_names_that_a_page_may_have_rebound_are_refused(host: str, path: str, status: int) -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}, hosts=("status.example.com",)) as port:
            answer = await ask(port, asking_for(host, path))
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
            assert (b"--admin-hosts" in answer) == (status == 421)

    run(main())


def test_a_request_of_http_1_0_needs_no_host() -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            assert (await ask(port, b"GET /echo HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")

    run(main())


UNREAD = 64 << 20  # more than the kernel takes for a peer that reads nothing


async def unread(port: int, path: str) -> asyncio.StreamWriter:
    """Asks for more than it reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(get(path))
    assert await reader.readexactly(9) == b"HTTP/1.1 "
    return writer


async def much(_request: AdminRequest) -> AdminResponse:
    return AdminResponse(body=bytes(UNREAD))


def test_a_peer_that_does_not_read_the_response_does_not_delay_closing() -> None:
    async def main() -> None:
        server = AdminServer({("GET", "/much"): much})
        writer = await unread(await server.start("127.0.0.1", 0), "/much")
        async with asyncio.timeout(5):
            await server.close()
        writer.transport.abort()

    run(main())


def test_a_peer_that_does_not_read_the_response_is_disconnected() -> None:
    async def main() -> None:
        server = AdminServer({("GET", "/much"): much}, AdminSettings(request_timeout_seconds=0.1))
        writer = await unread(await server.start("127.0.0.1", 0), "/much")
        await until(lambda: not server._tasks, deadline=5)
        writer.transport.abort()
        await server.close()

    run(main())


def test_a_bug_in_a_connection_is_logged_and_others_are_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving({("GET", "/echo"): echo}) as port:
            with monkeypatch.context() as patch:
                patch.setattr("lobby_gateway.http.admin._write", lambda *_, **__: 1 / 0)
                assert await ask(port, get("/echo")) == b""
            assert b" 200 " in await ask(port, get("/echo"))

    run(main())
    (line,) = caplog.records
    assert (line.name, line.message) == ("lobby_gateway.http.admin", "a connection to the admin port failed")


def test_a_connection_that_was_reset_before_it_was_accepted_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = AdminServer({})
        reader = asyncio.StreamReader()
        transport = ResetTransport()
        writer = asyncio.StreamWriter(
            transport, asyncio.StreamReaderProtocol(reader), reader, asyncio.get_running_loop()
        )
        await server._connected(reader, writer)
        assert transport.aborted

    run(main())
    assert caplog.text == ""


class ResetTransport(asyncio.Transport):
    """Of a connection whose peer is no longer known."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted
