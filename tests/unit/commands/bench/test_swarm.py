"""The clients of `lobby bench`, against servers that are not ours. They block, so they run in a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable

import pytest
import trustme
from tests.support.peers import raw_server
from tests.support.processes import free_port
from tests.support.sockets import resolve_absolute_names, run
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from lobby_gateway.commands.bench.swarm import Swarm
from lobby_gateway.commands.origin import message
from lobby_gateway.settings import BenchSettings

RATE = 200


async def tell_numbers(connection: ServerConnection) -> None:
    """What an origin with numbers and times says to each connection, from 1 on."""
    number = 0
    with contextlib.suppress(ConnectionClosed):
        while True:
            number += 1
            await connection.send(message(number, time.time(), 0))
            await asyncio.sleep(1 / RATE)


@contextlib.asynccontextmanager
async def server(
    handler: Callable[[ServerConnection], object] = tell_numbers,
    answer: Callable[[ServerConnection, Request], Response | None] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, process_request=answer, ssl=tls) as running:  # type: ignore[arg-type]
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws{'s' if tls else ''}://localhost:{port}/feed"


def look() -> None:
    """Nobody looks."""


async def benched(swarm: Swarm, clients: int, *, ramp: float = 0.0, seconds: float = 0.5) -> None:
    """Opens clients and lets them receive, in another thread."""

    def work() -> None:
        swarm.open(clients, ramp, look)
        swarm.measure(seconds, look)
        swarm.close()

    await asyncio.to_thread(work)


def test_all_clients_receive_everything_in_order_the_timed_ones_and_the_others() -> None:
    async def main() -> None:
        async with server() as url:
            swarm = Swarm(url)
            await benched(swarm, 150)
        received = swarm.receiver.received
        assert (swarm.connected, swarm.timed, swarm.silent) == (150, 50, 0)
        assert (swarm.refused, swarm.failed, swarm.disconnects) == ({}, {}, {})
        assert received.stamped == received.deliveries > 150
        assert 0 < len(received.latencies) < received.deliveries
        order = received.order
        assert (order.gaps, order.duplicates, order.reorderings, order.restarts) == (0, 0, 0, 0)

    run(main(), deadline=60)


def test_clients_come_in_one_after_the_other_over_the_ramp() -> None:
    opened: list[float] = []

    async def handler(connection: ServerConnection) -> None:
        opened.append(time.monotonic())
        await connection.wait_closed()

    async def main() -> None:
        async with server(handler) as url:
            swarm = Swarm(url)
            await benched(swarm, 10, ramp=0.5, seconds=0.05)
        assert swarm.connected == len(opened) == 10
        assert opened[-1] - opened[0] >= 0.4, "not faster than asked for"
        assert swarm.silent == 10

    run(main(), deadline=60)


def test_refusals_are_counted_by_status() -> None:
    asked = 0

    def answer(connection: ServerConnection, _request: Request) -> Response | None:
        nonlocal asked
        asked += 1
        return connection.respond(503 if asked % 3 else 404, "no\n") if asked % 2 else None

    async def main() -> None:
        async with server(answer=answer) as url:
            swarm = Swarm(url)
            await benched(swarm, 12, seconds=0.05)
        assert (swarm.connected, swarm.decided) == (6, 12)
        assert swarm.refused == {"503": 4, "404": 2}

    run(main(), deadline=60)


def test_redirects_are_followed_but_not_in_circles() -> None:
    def elsewhere(to: str) -> Callable[[ServerConnection, Request], Response | None]:
        def answer(connection: ServerConnection, _request: Request) -> Response:
            response = connection.respond(307, "")
            response.headers["Location"] = to.removeprefix("ws:")
            return response

        return answer

    async def main() -> None:
        async with server() as target, server(answer=elsewhere(target)) as url:
            swarm = Swarm(url)
            await benched(swarm, 5, seconds=0.1)
            assert (swarm.connected, swarm.redirects) == (5, 5)
        async with server(answer=elsewhere("/feed")) as url:
            circling = Swarm(url)
            await benched(circling, 2)
            assert circling.failed == {f"more than {BenchSettings().max_redirects} redirects": 2}
        async with server(answer=elsewhere("ftp://example.com/")) as url:
            lost = Swarm(url)
            await benched(lost, 1)
            assert lost.failed == {"redirected to something other than a WebSocket": 1}

    run(main(), deadline=60)


def test_clients_that_leave_are_counted_by_close_code() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(message(1, time.time(), 0))
        if connection.remote_address[1] % 2:
            await connection.close(1012)
        else:
            connection.transport.abort()

    async def main() -> None:
        async with server(handler) as url:
            swarm = Swarm(url)
            began = time.monotonic()
            await benched(swarm, 20, seconds=30)
        assert time.monotonic() - began < 30, "nobody was left"
        assert swarm.connected == 20
        assert set(swarm.disconnects) <= {"1012", "lost"}
        assert swarm.disconnects.total() == 20

    run(main(), deadline=60)


def test_why_clients_do_not_get_in_is_counted() -> None:
    async def says(data: bytes, settings: BenchSettings) -> dict[str, int]:
        async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _accept: bytes) -> None:
            writer.write(data)
            await writer.drain()
            if not data:
                await asyncio.sleep(3)

        async with raw_server(handle) as url:
            swarm = Swarm(url, settings=settings)
            await benched(swarm, 2)
            return dict(swarm.failed)

    async def main() -> None:
        nobody = Swarm(f"ws://127.0.0.1:{free_port()}/")
        await benched(nobody, 3)
        assert nobody.failed == {"connection refused": 3}
        assert await says(b"SSH-2.0\r\n", BenchSettings()) == {"the answer is not HTTP/1.1": 2}
        assert await says(b"HTTP/1.1 101", BenchSettings()) == {"the connection was closed during the handshake": 2}
        assert await says(b"", BenchSettings(handshake_seconds=0.2)) == {"no answer to the handshake within 0.2 s": 2}

    run(main(), deadline=60)


def test_host_that_dns_does_not_allow_is_a_reason() -> None:
    async def main() -> None:
        swarm = Swarm("ws://feed..example.com/")
        await benched(swarm, 2)
        assert swarm.failed == {"DNS: no address for feed..example.com (its labels must have 1 to 63 characters)": 2}

    run(main())


def test_speaks_tls_and_says_what_is_wrong_with_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main() -> None:
        async with server(tls=tls) as url:
            swarm = Swarm(url, trusting)
            await benched(swarm, 4)
            received = swarm.receiver.received
            assert (swarm.connected, swarm.failed) == (4, {})
            assert received.stamped > 4
            assert (received.order.gaps, received.order.duplicates) == (0, 0)
            absolute = Swarm(url.replace("localhost", "localhost."), trusting)
            resolve_absolute_names(monkeypatch)
            await benched(absolute, 1)
            assert (absolute.connected, absolute.failed) == (1, {})
            distrusting = Swarm(url)
            await benched(distrusting, 1)
            (reason,) = distrusting.failed
            assert "certificate" in reason

    run(main(), deadline=60)
