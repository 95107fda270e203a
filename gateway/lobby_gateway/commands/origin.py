"""`lobby origin`: a small origin for trying things out. Every connection gets the same messages, with a number and a time.

    {"seq": 1, "time": 1767225600.123456}

`seq` counts from 1 while the process runs, and `time` is the Unix time in seconds at which the message was created. If a size
is requested, `pad` fills the message up to it. `GET /healthz` is answered with 200, for probes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from lobby_gateway.errors import UserError
from lobby_gateway.process import logs
from lobby_gateway.process.arguments import ArgumentParser, address, cannot_listen, integer, number, port
from lobby_gateway.process.bind import bind
from lobby_gateway.process.lifecycle import Shutdown, announce, run
from lobby_gateway.process.output import say

logger = logging.getLogger("lobby_gateway.commands.origin")  # __name__ may be __main__


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerSettings:
    """What the ticker sends, where, and its limits.

    Attributes:
        host: address to listen on.
        port: TCP port; 0: a free one.
        rate: messages per second.
        burst: messages sent together, rate / burst times per second.
        size: bytes per message; longer messages are not cut.
        max_catch_up_seconds: after a longer pause of the process, missed messages are not made up for: they would be a burst.
        max_pending_bytes: bytes waiting for a connection above which it is dropped: it does not read.
        close_timeout_seconds: how long a closing handshake may take; a small origin should stop at once.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    rate: float = 1.0
    burst: int = 1
    size: int = 0
    max_catch_up_seconds: float = 0.25
    max_pending_bytes: int = 16 << 20
    close_timeout_seconds: float = 2.0


def message(seq: int, now: float, size: int) -> str:
    """One message.

    Args:
        seq: its number.
        now: Unix time in seconds.
        size: bytes to fill it up to.
    """
    text = json.dumps({"seq": seq, "time": round(now, 6)})
    missing = size - len(text)
    if missing <= 0:
        return text
    opened = f'{text[:-1]}, "pad": "'
    return f"{opened}{'x' * max(0, size - len(opened) - 2)}" + '"}'


class Ticker:
    """The server: one sequence of messages for all connections."""

    def __init__(self, settings: TickerSettings) -> None:
        self._settings = settings
        self._connections: set[ServerConnection] = set()
        self._numbers = itertools.count(1)
        self._server: Server | None = None

    async def start(self) -> int:
        """Starts listening; returns the port.

        Raises:
            UserError: it cannot listen on the address.
        """
        host, wanted = self._settings.host, self._settings.port
        try:
            self._server = await serve(
                self._connected,
                sock=bind(host, wanted),
                compression=None,
                close_timeout=self._settings.close_timeout_seconds,
                server_header=None,
                process_request=_healthz,
            )
        except OSError as error:
            raise cannot_listen(error, host, wanted) from error
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def tick(self) -> None:
        """Sends messages until cancelled; after a long pause of the process, missed messages are not made up for."""
        clock = asyncio.get_running_loop().time
        pause = self._settings.burst / self._settings.rate
        due = clock() + pause
        while True:
            await asyncio.sleep(max(0.0, due - clock()))
            now = clock()
            due = max(due, now - self._settings.max_catch_up_seconds)
            while due <= now:
                self._send_burst()
                due += pause

    async def close(self) -> None:
        """Closes every connection with 1001, then the port."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _send_burst(self) -> None:
        # Numbers count even if nobody is connected, so a gap shows what a consumer missed.
        for seq in itertools.islice(self._numbers, self._settings.burst):
            if self._connections:
                broadcast(self._connections, message(seq, time.time(), self._settings.size))
        for connection in list(self._connections):
            if connection.transport.get_write_buffer_size() > self._settings.max_pending_bytes:
                logger.warning("dropped a connection that does not read", extra={"peer": _peer(connection)})
                connection.transport.abort()

    async def _connected(self, connection: ServerConnection) -> None:
        self._connections.add(connection)
        logger.info("connected", extra={"peer": _peer(connection), "connections": len(self._connections)})
        try:
            with contextlib.suppress(ConnectionClosed):
                async for _ in connection:
                    pass  # messages from consumers are ignored
        finally:
            self._connections.discard(connection)
            logger.info("disconnected", extra={"peer": _peer(connection), "connections": len(self._connections)})


def _healthz(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(HTTPStatus.OK, "ok\n") if request.path == "/healthz" else None


def _peer(connection: ServerConnection) -> str:
    host, from_port = connection.remote_address[:2]
    return f"{host}:{from_port}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lobby origin`."""
    default = TickerSettings()
    parser.add_argument("--host", type=address(), default=default.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=port(), default=default.port, help="port; 0 picks a free one (%(default)s)")
    parser.add_argument(
        "--rate", type=number(0.001, 1e6), default=default.rate, help="messages per second (%(default)s)"
    )
    parser.add_argument(
        "--burst", type=integer(1, 10_000), default=default.burst, help="messages sent together (%(default)s)"
    )
    parser.add_argument(
        "--size",
        type=integer(0, 64 * 1024 * 1024),
        default=default.size,
        help="bytes per message; 0: no padding (%(default)s)",
    )
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    """Runs `lobby origin` until a signal stops it; returns the exit code."""
    logs.configure("origin")
    settings = TickerSettings(
        host=arguments.host, port=arguments.port, rate=arguments.rate, burst=arguments.burst, size=arguments.size
    )

    async def serve_until_stopped(stopping: Shutdown) -> None:
        ticker = Ticker(settings)
        try:
            bound = await ticker.start()
        except UserError as error:
            raise UserError(f"lobby origin: {error}") from error
        if arguments.end_with_stdin:
            announce(port=bound)
        else:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            unit = "message" if settings.rate == 1 else "messages"
            say(f"origin: ws://{host}:{bound}/ sends {settings.rate:g} {unit} per second; Ctrl-C stops it")
        ticking = asyncio.create_task(ticker.tick(), name="tick")
        ending = asyncio.create_task(stopping.wait(), name="stopping")
        try:
            await asyncio.wait({ticking, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ticking.done():
                ticking.result()
        finally:
            ticking.cancel()
            ending.cancel()
            await ticker.close()

    return run(serve_until_stopped, end_with_stdin=arguments.end_with_stdin)


def _main(argv: Sequence[str] | None = None) -> int:
    parser = ArgumentParser(prog="lobby origin", description="A small origin: every connection gets the same messages.")
    add_arguments(parser)
    return main(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(_main())
