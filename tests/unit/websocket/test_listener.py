from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Self

import pytest
from tests.support.sockets import receive_to_end, run

from lobby_gateway import close_codes
from lobby_gateway.errors import UserError
from lobby_gateway.settings import ListenerSettings
from lobby_gateway.websocket.listener import Handshake, Listener, listen

REQUEST = (
    b"GET /prices?x=1 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Handler:
    """Does with each handshake what a test wants, and remembers them."""

    def __init__(self, decide: Callable[[Handshake], object] = lambda _: None) -> None:
        self.decide = decide
        self.handshakes: list[Handshake] = []
        self.came = asyncio.Event()

    def arrived(self, handshake: Handshake) -> None:
        self.handshakes.append(handshake)
        self.came.set()
        self.decide(handshake)


class Served:
    """A listener on a free port, and clients' sockets that are closed at the end."""

    def __init__(self, handler: Handler, settings: ListenerSettings | None = None) -> None:
        self.handler = handler
        self.listener = Listener(listen("127.0.0.1", 0), handler, settings=settings)
        self.listener.start()
        self._sockets: list[socket.socket] = []

    async def connect(self, data: bytes = b"") -> socket.socket:
        sock = socket.socket()
        self._sockets.append(sock)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self.listener.port))
        await loop.sock_sendall(sock, data)
        return sock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        for sock in self._sockets:
            sock.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in another callback of this loop
            await asyncio.sleep(0.005)


def test_an_accepted_handshake_gets_101_and_hands_over_its_socket() -> None:
    async def main() -> None:
        taken: list[socket.socket | None] = []
        handler = Handler(
            lambda handshake: taken.append(handshake.accept(subprotocol="v1", headers=[("X-Lobby", "a-1")]))
        )
        async with Served(handler) as served:
            sock = await served.connect(REQUEST + b"leftover")
            await handler.came.wait()
            assert handler.handshakes[0].request.path == "/prices"
            assert handler.handshakes[0].leftover == b"leftover"
            assert taken[0] is not None
            taken[0].close()
            answer = await receive_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
            assert b"Sec-WebSocket-Protocol: v1\r\n" in answer
            assert b"X-Lobby: a-1\r\n" in answer
            assert served.listener.stats.accepted == 1

    run(main())


def test_a_request_in_pieces_is_assembled() -> None:
    async def main() -> None:
        handler = Handler(lambda handshake: handshake.refuse(close_codes.LOBBY_FULL))
        async with Served(handler) as served:
            sock = await served.connect()
            for byte in REQUEST:
                await asyncio.get_running_loop().sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(0)
            answer = await receive_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 1\r\n" in answer
            assert served.listener.stats.refused["lobby_full"] == 1

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70000, 431),
    ],
)
def test_an_invalid_request_never_reaches_the_handler(data: bytes, status: int) -> None:
    async def main() -> None:
        handler = Handler()
        async with Served(handler) as served:
            sock = await served.connect(data)
            answer = await receive_to_end(sock)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())
            assert handler.handshakes == []

    run(main())


def test_a_request_that_never_completes_is_refused() -> None:
    async def main() -> None:
        async with Served(Handler(), ListenerSettings(timeout_seconds=0.05)) as served:
            sock = await served.connect(REQUEST[:40])
            answer = await receive_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 408 ")

    run(main())


def test_the_oldest_incomplete_request_makes_room() -> None:
    async def main() -> None:
        async with Served(Handler(), ListenerSettings(max_pending=2)) as served:
            first = await served.connect(b"GET")
            await until(lambda: served.listener.pending == 1)
            await served.connect(b"GET")
            await served.connect(b"GET")
            answer = await receive_to_end(first)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert served.listener.pending == 2

    run(main())


def test_a_held_client_that_disconnects_is_noticed() -> None:
    async def main() -> None:
        left: list[Handshake] = []

        def hold(handshake: Handshake) -> None:
            handshake.on_abandoned = lambda: left.append(handshake)

        handler = Handler(hold)
        async with Served(handler) as served:
            sock = await served.connect(REQUEST)
            await handler.came.wait()
            sock.close()
            await until(lambda: bool(left))
            assert left[0].answered
            assert left[0].accept() is None
            assert served.listener.stats.abandoned == 1

    run(main())


def test_bytes_that_arrive_while_a_client_is_held_belong_to_its_connection() -> None:
    async def main() -> None:
        handler = Handler()
        async with Served(handler) as served:
            sock = await served.connect(REQUEST)
            await handler.came.wait()
            await asyncio.get_running_loop().sock_sendall(sock, b"early")
            await until(lambda: handler.handshakes[0].leftover == b"early")
            taken = handler.handshakes[0].accept()
            assert taken is not None
            taken.close()

    run(main())


def test_a_held_client_that_sends_too_much_is_refused_and_the_handler_notified() -> None:
    async def main() -> None:
        left: list[Handshake] = []

        def hold(handshake: Handshake) -> None:
            handshake.on_abandoned = lambda: left.append(handshake)

        handler = Handler(hold)
        async with Served(handler, ListenerSettings(max_header_bytes=1024)) as served:
            sock = await served.connect(REQUEST)
            await handler.came.wait()
            await asyncio.get_running_loop().sock_sendall(sock, b"." * 2000)
            answer = await receive_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert left == handler.handshakes
            left[0].refuse(close_codes.NO_SEAT)
            assert served.listener.stats.refused["no_seat"] == 0, "it has its answer"

    run(main())


def test_a_refused_client_beyond_the_lingering_limit_is_closed_at_once() -> None:
    async def main() -> None:
        handler = Handler(lambda handshake: handshake.refuse(close_codes.LOBBY_FULL))
        async with Served(handler, ListenerSettings(max_lingering=1)) as served:
            socks = [await served.connect(REQUEST) for _ in range(3)]
            answers = [await receive_to_end(sock) for sock in socks]
            assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)

    run(main())


def test_closing_refuses_held_clients_and_frees_the_port() -> None:
    async def main() -> None:
        handler = Handler()
        async with Served(handler) as served:
            sock = await served.connect(REQUEST)
            port = served.listener.port
            await handler.came.wait()
            served.listener.close()
            answer = await receive_to_end(sock)
            assert answer.startswith(b"HTTP/1.1 503 ")
            listen("127.0.0.1", port).close()

    run(main())


def test_a_port_in_use_is_one_line_that_names_the_option() -> None:
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=rf"--port: {port} is in use on 127.0.0.1; accepted: a free port"):
        listen("127.0.0.1", port)
    taken.close()


def test_two_listeners_may_share_a_port_with_reuse_port() -> None:
    first = listen("127.0.0.1", 0, reuse_port=True)
    second = listen("127.0.0.1", first.getsockname()[1], reuse_port=True)
    first.close()
    second.close()
