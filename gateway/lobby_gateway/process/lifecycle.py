"""From the command line to the end of a process: run, be told to stop, stop in order."""

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
from typing import Any

from lobby_gateway.errors import UserError

logger = logging.getLogger(__name__)


class Shutdown:
    """Why and when a process is to end.

    Attributes:
        event: set once the process is to end.
        reason: what ended it.
    """

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.reason = ""

    def stop(self, reason: str) -> None:
        """Asks the process to end; the first reason stays."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    async def wait(self) -> None:
        """Waits until the process is to end."""
        await self.event.wait()


def run(main: Callable[[Shutdown], Coroutine[Any, Any, None]], *, end_with_stdin: bool = False) -> int:
    """Runs a process until SIGTERM, SIGINT, the end of its work, or (if asked) the end of standard input.

    Returns:
        The exit code: 0 after an orderly stop, 2 after bad input, which is shown as one line on standard error.
    """
    # The objects made at import live as long as the process: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    try:
        asyncio.run(_main(main, end_with_stdin=end_with_stdin))
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


async def _main(main: Callable[[Shutdown], Awaitable[None]], *, end_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stopping = Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.stop, signal.Signals(number).name)
    if end_with_stdin:
        await watch_stdin(lambda _line: None, lambda: stopping.stop("parent is gone"))
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
    """Calls `line` for each line on standard input, and `end` when it is closed: the parent is gone.

    Raises:
        UserError: standard input is no pipe, terminal or socket.
    """
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: _StdinLines(line, end), sys.stdin)
    except ValueError as error:
        raise UserError(
            "standard input is a file; accepted: a pipe, whose end tells that the parent is gone"
        ) from error


def announce(**fields: object) -> None:
    """Prints the one line on standard output by which a parent learns the ports; one that is gone need not know."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, (json.dumps({"event": "listening", **fields}) + "\n").encode())
