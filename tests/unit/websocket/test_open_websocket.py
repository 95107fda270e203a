"""Connections that do not come to be, and why."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.origins import FakeOrigin, Refuse, authority
from tests.support.peers import Recorder, raw_server
from tests.support.sockets import resolve_absolute_names, run

from lobby_gateway.websocket.client import explain, open_websocket
from lobby_gateway.websocket.client_handshake import ConnectFailedError, HandshakeRefusedError


async def refusal(origin: FakeOrigin) -> HandshakeRefusedError:
    recorder = Recorder()
    with pytest.raises(HandshakeRefusedError) as caught:
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
            "HTTP 301 Moved Permanently: redirects are not followed; this one points to /new",
            None,
        ),
    ],
)
def test_refusal_has_its_reason_and_retry_after(refuse: Refuse, reason: str, retry_after: float | None) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=refuse) as origin:
            error = await refusal(origin)
            assert (error.status, error.reason, error.retry_after_seconds) == (refuse.status, reason, retry_after)
            assert origin.connections == []

    run(main())


async def unreachable(url: str, **options: Any) -> str:
    recorder = Recorder()
    with pytest.raises(ConnectFailedError) as caught:
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


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("host", ["feed..example.com", f"{'a' * 64}.example.com", "a." * 127 + "example"])
def test_name_that_dns_does_not_allow(host: str, secure: bool) -> None:  # a parameter
    async def main() -> None:
        reason = await unreachable(f"{'wss' if secure else 'ws'}://{host}/")
        assert reason.startswith(f"DNS: no address for {host} (")

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


@pytest.mark.parametrize("server_hostname", [None, "localhost."])
def test_absolute_name_is_verified_without_its_dot(
    server_hostname: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_absolute_names(monkeypatch)

    async def main() -> None:
        theirs = authority("localhost")
        requested: list[str | None] = []
        theirs.server.sni_callback = lambda _socket, name, _context: requested.append(name)
        async with FakeOrigin(tls=theirs.server) as origin:
            trusting = ssl.create_default_context(cadata=theirs.ca_pem)
            url = f"wss://localhost.:{origin.port}/"
            client = await open_websocket(url, receiver=Recorder(), ssl=trusting, server_hostname=server_hostname)
            seen = await origin.until_open()
            assert requested == ["localhost"]  # RFC 6066 §3
            assert seen.headers["host"] == f"localhost.:{origin.port}"
            await client.close()

    run(main())


@pytest.mark.parametrize("name", ["a..b", "a" * 64])
def test_server_name_that_dns_does_not_allow_leaves_no_connection(name: str) -> None:
    def serve(sock: socket.socket) -> None:
        sock.settimeout(10)
        assert sock.recv(1) == b""

    reason = run(blocking_server(serve, server_hostname=name))
    assert reason == f"TLS: {name} is not a DNS name (its labels must have 1 to 63 characters)"


def test_tls_to_a_port_without_it() -> None:
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
        with theirs.server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):  # its alert comes when our side takes the handshake for done (TLS 1.3)
                secured.do_handshake()
            secured.shutdown(socket.SHUT_WR)
            while secured.recv(65536):
                pass  # or the request, unread, would become a reset that overtakes the alert

    reason = run(blocking_server(serve, ssl=ssl.create_default_context(cadata=theirs.ca_pem)))
    assert reason == "TLS: tlsv13 alert certificate required"


def test_origin_that_never_responds() -> None:
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
        (b"220 mail.example ESMTP\r\n", "the response is not HTTP/1.1"),
    ],
)
def test_peer_that_is_not_a_websocket_server(said: bytes, reason: str) -> None:
    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _accept: bytes) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with raw_server(handle) as url:
            assert await unreachable(url) == reason

    run(main())


def test_long_and_unusual_response_opens_the_connection() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, accept: bytes) -> None:
        _, _, fields = accept.partition(b"\r\n")
        writer.write(b"HTTP/1.1 101\r\nContent-Security-Policy: " + b"x" * 9000 + b"\r\n" + fields + b"\x81\x02hi")
        await reader.read()

    async def main() -> None:
        async with raw_server(handle) as url:
            recorder = Recorder()
            client = await open_websocket(url, receiver=recorder)
            await recorder.until(lambda: recorder.messages == [b"hi"])
            client.abort()

    run(main())


def test_canceled_opening_leaves_no_connection() -> None:
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


@pytest.mark.parametrize("secure", [False, True])
def test_opening_can_be_canceled_at_any_moment_and_leaves_nothing(secure: bool) -> None:
    async def main() -> None:
        ours = authority()
        trusting = ssl.create_default_context(cadata=ours.ca_pem)
        async with FakeOrigin(tls=ours.server if secure else None) as origin:
            for turns in range(400):
                task = asyncio.create_task(open_websocket(origin.url, receiver=Recorder(), ssl=trusting))
                for _ in range(turns // 4):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    client = await task
                    await client.close()
                    break
            else:
                pytest.fail("it never opened")
            await origin.until(lambda: not origin.open)

    run(main())
    gc.collect()  # a socket left open is a warning, and that is an error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError(101, "Connect call failed ('::1', 1)"), "network is unreachable"),
        (ConnectionResetError(), "the connection was closed during the TLS handshake"),
        (TimeoutError(110, "x"), "connection timed out"),
        (socket.gaierror(-2, "Name or service not known"), "DNS: no address for h (Name or service not known)"),
        (UnicodeError("label empty or too long"), "DNS: no address for h (its labels must have 1 to 63 characters)"),
        (OSError("odd"), "odd"),
        (ConnectionAbortedError(), "ConnectionAbortedError"),
    ],
)
def test_errors_are_explained_in_one_line(error: OSError | UnicodeError, reason: str) -> None:
    assert explain(error, "h") == reason
