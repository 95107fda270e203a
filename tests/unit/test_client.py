"""The client against a scripted server of `websockets`; tests/integration/test_resuming_clients.py has the real one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.support.scripted_gateway import Server, Step, refuses, sends
from tests.support.sockets import hold_port, run
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Response

from lobby_gateway.client import Message, Stream
from lobby_gateway.clients.resuming import hashes
from lobby_gateway.settings import StreamSettings

QUICK = StreamSettings(min_backoff_seconds=0.02, max_backoff_seconds=0.05, no_seat_seconds=0.2)
EXACT = '{"lobby-gateway":{"resume":"exact"}}'
LIVE = '{"lobby-gateway":{"resume":"live","reason":"gone"}}'


async def all_of(stream: Stream) -> list[Message]:
    return [message async for message in stream]


def got(*steps: Step, **options: Any) -> tuple[list[Message], Stream, Server]:
    """The messages that a client gets, until the server closes with 1000."""

    async def main() -> tuple[list[Message], Stream, Server]:
        async with Server(*steps).run() as server, Stream(server.url, settings=QUICK, **options) as stream:
            return await all_of(stream), stream, server

    return run(main())


@pytest.mark.parametrize("close", [1001, 1011, 1012, 1013, 4008, 0])
def test_it_reconnects_and_says_which_messages_it_saw_last(close: int) -> None:
    messages, stream, server = got(sends("a", b"b", close=close), sends(EXACT, "c", close=1000))
    assert messages == ["a", b"b", "c"]
    assert server.asked == ["/prices", f"/prices?resume={hashes([b'a', b'b'])}"]
    assert (stream.reconnects, stream.gaps) == (1, 0)


def test_it_remembers_16_messages_over_several_connections() -> None:
    numbers = [str(number) for number in range(20)]
    messages, _, server = got(sends(*numbers[:10]), sends(EXACT, *numbers[10:]), sends(EXACT, close=1000))
    assert messages == numbers
    assert server.asked[2] == f"/prices?resume={hashes(number.encode() for number in numbers[4:])}"


def test_hashes_are_added_to_a_query() -> None:
    async def main() -> None:
        async with Server(sends("a"), sends(EXACT, close=1000)).run() as server:
            assert await all_of(Stream(f"{server.url}?symbol=x", settings=QUICK)) == ["a"]
            assert server.asked == ["/prices?symbol=x", f"/prices?symbol=x&resume={hashes([b'a'])}"]

    run(main())


def test_a_gap_is_told_before_the_message_after_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lobby_gateway.client")
    told: list[Any] = []

    async def main() -> None:
        steps = sends("a"), sends(LIVE, "c"), sends("d", close=1000)
        async with Server(*steps).run() as server:
            stream = Stream(server.url, on_gap=lambda problem: told.append((problem,)), settings=QUICK)
            async for message in stream:
                told.append(message)  # noqa: PERF401  # together with the gaps
            assert (stream.reconnects, stream.gaps) == (2, 2)

    run(main())
    assert told == ["a", ("gone",), "c", ("the server does not support resuming",), "d"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0].endswith("messages of " + warnings[0].split()[2] + " may be missing or repeated: gone")


def test_neither_logs_nor_errors_show_passwords_and_queries(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lobby_gateway.client")
    said: list[str] = []

    async def main() -> None:
        async with Server(sends("a"), sends(LIVE, close=1000)).run() as server:
            stream = Stream(f"{server.url.replace('://', '://me:hunter22@')}?token=hunter22", settings=QUICK)
            with pytest.raises(ConnectionError) as error:
                await stream.send("x")
            said.append(str(error.value))
            assert await all_of(stream) == ["a"]

    run(main())
    said += [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert all("/prices" in line and "hunter22" not in line for line in said)


def test_after_a_gap_it_says_only_what_it_saw_in_a_row() -> None:
    _, _, server = got(sends("a"), sends(LIVE), sends(LIVE, "c"), sends(EXACT, close=1000))
    asked = [f"/prices?resume={hashes([seen])}" for seen in (b"a", b"a", b"c")]
    assert server.asked == ["/prices", *asked]


def test_without_a_message_it_cannot_say_where_it_was() -> None:
    messages, stream, server = got(sends(), sends("a", close=1000))
    assert messages == ["a"]
    assert server.asked == ["/prices", "/prices"]
    assert (stream.reconnects, stream.gaps) == (1, 1)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010])
def test_a_close_code_that_would_come_again_ends_it(code: int) -> None:
    async def main() -> None:
        async with Server(sends("a", close=code)).run() as server, Stream(server.url, settings=QUICK) as stream:
            assert await anext(stream) == "a"
            with pytest.raises(ConnectionClosedError) as raised:
                await anext(stream)
            assert raised.value.rcvd is not None
            assert raised.value.rcvd.code == code
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(main())


def test_a_message_that_is_too_large_ends_it_instead_of_coming_again_and_again() -> None:
    async def main() -> None:
        async with (
            Server(sends("a", "b" * 101), sends("never")).run() as server,
            Stream(server.url, settings=QUICK, max_size=100) as stream,
        ):
            assert await anext(stream) == "a"
            with pytest.raises(ConnectionClosedError, match="1009"):
                await anext(stream)
            assert len(server.asked) == 1

    run(main())


def test_1013_waits_for_seats() -> None:
    _, _, server = got(sends("a", close=1013), sends(EXACT, close=1000))
    assert server.times[1] - server.times[0] >= QUICK.no_seat_seconds


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_refusal_that_may_be_temporary_is_tried_again_after_the_time_that_it_names(status: int) -> None:
    messages, stream, server = got(refuses(status, Retry_After="1"), sends("a", close=1000))
    assert messages == ["a"]
    assert server.times[1] - server.times[0] >= 1
    assert stream.reconnects == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 426])
def test_any_other_refusal_is_raised(status: int) -> None:
    async def main() -> None:
        async with Server(refuses(status)).run() as server:
            with pytest.raises(InvalidStatus) as raised:
                await anext(Stream(server.url, settings=QUICK))
            assert raised.value.response.status_code == status

    run(main())


def test_a_redirect_is_followed_with_the_hashes_and_asked_for_again_when_its_ticket_has_expired() -> None:
    async def main() -> None:
        async with Server(sends("a"), refuses(401), sends(EXACT, "b", close=1000)).run() as lobby:

            def redirect() -> Response:
                return refuses(307, Location=f"//127.0.0.1:{lobby.port}/prices?token=x")

            async with Server(*(redirect() for _ in range(3))).run() as gateway:
                stream = Stream(gateway.url, settings=QUICK)
                assert await all_of(stream) == ["a", "b"]
                assert (stream.reconnects, stream.gaps) == (1, 0)
                asked = f"/prices?resume={hashes([b'a'])}"
                assert gateway.asked == ["/prices", asked, asked]

    run(main())


def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    async def main() -> None:
        with hold_port() as held:
            port = held.getsockname()[1]
            stream = Stream(f"ws://127.0.0.1:{port}/prices", settings=QUICK)
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.1)
            assert not first.done()

            async def one(connection: ServerConnection) -> None:
                await connection.send("a")
                await connection.wait_closed()

            async with serve(one, "127.0.0.1", port):
                assert await first == "a"
                await stream.close()

    run(main())


def test_waits_grow_and_are_random() -> None:
    async def main() -> None:
        settings = StreamSettings(min_backoff_seconds=0.01, max_backoff_seconds=0.1)
        stream = Stream("ws://127.0.0.1:1/prices", settings=settings)
        waits = []
        for _ in range(200):
            stream._later("test")
            waits.append(stream._connect_at - asyncio.get_running_loop().time())
        assert max(waits[:1]) <= 0.01
        assert 0.05 < max(waits) <= 0.1
        assert len({round(wait, 4) for wait in waits}) > 50

    run(main())


def test_a_canceled_wait_loses_nothing() -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def slow(connection: ServerConnection) -> None:
            await connection.send("a")
            await go.wait()
            await connection.send("b")
            await connection.close(1000)

        async with Server(slow).run() as server, Stream(server.url, settings=QUICK) as stream:
            assert await anext(stream) == "a"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(stream)
            go.set()
            assert await all_of(stream) == ["b"]

    run(main())


def test_closing_ends_the_iteration_whatever_it_waits_for() -> None:
    async def main() -> None:
        async def silent(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with Server(silent).run() as server:
            for url in (server.url, "ws://127.0.0.1:1/prices"):  # for a message, and for the next attempt
                stream = Stream(url, settings=StreamSettings(min_backoff_seconds=50, max_backoff_seconds=50))
                iteration = asyncio.create_task(all_of(stream))
                await asyncio.sleep(0.1)
                await stream.close()
                assert await iteration == []
                await stream.close()

    run(main())


def test_messages_are_sent_while_it_is_connected() -> None:
    async def main() -> None:
        heard: list[Message] = []

        async def echo(connection: ServerConnection) -> None:
            heard.append(await connection.recv())
            await connection.send("a")
            await connection.close(1000)

        async with Server(echo).run() as server:
            stream = Stream(server.url, settings=QUICK)
            with pytest.raises(ConnectionError):
                await stream.send("too early")
            async with stream:
                await stream.send("subscribe")
                assert await all_of(stream) == ["a"]
        assert heard == ["subscribe"]

    run(main())
