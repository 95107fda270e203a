"""A client's whole way, once: what `helm test` runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from lobby_gateway.commands.round_trip import RoundTripFailedError, main, probe_greeter, round_trip


def answer(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/full":
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no seat\n")
    return None if request.path == "/demo" else connection.respond(HTTPStatus.NOT_FOUND, "no such path\n")


@asynccontextmanager
async def greeter(*messages: str | bytes) -> AsyncIterator[str]:
    """Serves /demo, where every client gets the messages."""

    async def serve_client(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    async with serve(serve_client, "127.0.0.1", 0, process_request=answer) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def run(main: Coroutine[None, None, None]) -> None:
    asyncio.run(main)


def test_a_pong_and_messages_are_a_round_trip() -> None:
    async def main() -> None:
        async with greeter("one", "two\nlines") as url:
            line = await round_trip(f"{url}/demo", messages=2)
            assert "2 messages, the last two lines" in line
            assert "ping" in line

    run(main())


def test_without_messages_a_pong_is_enough() -> None:
    async def main() -> None:
        async with greeter() as url:
            assert "0 messages" in await round_trip(f"{url}/demo")

    run(main())


def test_binary_and_long_messages_are_shown_in_short() -> None:
    async def main() -> None:
        async with greeter(b"\x00\xff", "x" * 1000) as url:
            assert (await round_trip(f"{url}/demo", messages=1)).endswith("the last 00 ff")
            assert len(await round_trip(f"{url}/demo", messages=2)) < 400

    run(main())


def test_messages_that_do_not_come_in_time_are_a_failure() -> None:
    async def main() -> None:
        async with greeter("one") as url:
            with pytest.raises(RoundTripFailedError, match=r"not finished within 0\.3 s"):
                await round_trip(f"{url}/demo", messages=2, within=0.3)

    run(main())


def test_a_refusal_is_a_failure_with_its_reason() -> None:
    async def main() -> None:
        async with greeter() as url:
            with pytest.raises(RoundTripFailedError, match="answer 503: no seat"):
                await round_trip(f"{url}/full")

    run(main())


def test_without_a_path_the_greeters_404_will_do() -> None:
    async def main() -> None:
        async with greeter() as url:
            assert "a greeter responds" in await probe_greeter(url)

    run(main())


def test_nobody_there_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as bound:  # a port on which nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
    assert main(["--greeter", url, "/demo"]) == 1
    assert main(["--greeter", url]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(url) for line in lines)


def test_a_path_without_a_slash_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--greeter", "ws://127.0.0.1:1", "demo"])
    assert ended.value.code == 2
    assert "demo does not start with /; accepted: /path" in capsys.readouterr().err
