"""The life of a process: run until a signal, or until the parent exits, then shut down in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from lobby_gateway.errors import UserError, internal_error
from lobby_gateway.process.brief_threads import BriefThreads

logger = logging.getLogger(__name__)


class Shutdown:
    """A request to shut down.

    Attributes:
        event: set once the process should shut down.
        reason: why.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason = ""

    def stop(self, reason: str) -> None:
        """Requests the shutdown; only the first reason is kept."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    async def wait(self) -> None:
        """Waits for the request."""
        await self.event.wait()


def run(main: Callable[[Shutdown], Coroutine[Any, Any, None]], *, end_with_stdin: bool = False) -> int:
    """Runs a process until it returns; SIGTERM, SIGINT and, if asked, the end of standard input request a shutdown.

    Returns:
        The exit code: 0 after an orderly shutdown, 2 after a `UserError`, which is printed as one line on standard error,
        1 after any other exception, which is logged.
    """
    # Objects created at import live as long as the process, so the garbage collector need not visit them again.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(_main(main, end_with_stdin=end_with_stdin))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except Exception as error:  # logged like any other event, and not by Python, which knows no secrets
        logger.critical("ended by an %s", internal_error(error), exc_info=error)
        return 1
    return 0


async def _main(main: Callable[[Shutdown], Awaitable[None]], *, end_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(BriefThreads())
    stopping = Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.stop, signal.Signals(number).name)
    if end_with_stdin:
        await watch_stdin(lambda _line: None, lambda: stopping.stop("the parent exited"))
    await main(stopping)


class _StdinLines(asyncio.Protocol):
    def __init__(self, line: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._line = line
        self._end = end
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._line(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()


async def watch_stdin(line: Callable[[bytes], None], end: Callable[[], None]) -> None:
    """Calls `line` for each line on standard input, and `end` when it is closed: the parent exited.

    Raises:
        UserError: standard input is not a pipe, terminal or socket.
    """
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: _StdinLines(line, end), sys.stdin)
    except ValueError as error:
        raise UserError("standard input is a file; accepted: a pipe, which closes when the parent exits") from error


def announce(**fields: object) -> None:
    """Prints one line of JSON on standard output, from which the parent reads the ports; does nothing if it has exited."""
    with contextlib.suppress(BrokenPipeError):
        now = datetime.now(UTC).isoformat(timespec="milliseconds")  # in a pod it stands among the lines of the log
        line = {"time": now, "level": "info", "event": "listening", **fields}
        os.write(1, (json.dumps(line) + "\n").encode())
