"""`lobby origin` as a separate process: an origin that can be killed, stopped and restarted."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.proc import established
from tests.support.processes import WITH_PARENT, Process, running


@dataclass(frozen=True, slots=True)
class TickerProcess:
    """A running ticker.

    Attributes:
        process: its process.
        port: port that it listens on.
    """

    process: Process
    port: int

    @property
    def url(self) -> str:
        """Its WebSocket URL."""
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def connections(self) -> int:
        """Number of established connections, according to the kernel."""
        return established(self.port)


@contextlib.asynccontextmanager
async def ticker(
    *, rate: float = 10, burst: int = 1, size: int = 0, port: int = 0, may_be_killed: bool = False
) -> AsyncIterator[TickerProcess]:
    """Runs a ticker, whose numbers start at 1.

    Args:
        rate: messages per second.
        burst: messages per burst.
        size: bytes per message.
        port: port to listen on; 0: any free port.
        may_be_killed: whether the test may kill it.
    """
    options = ("--rate", str(rate), "--burst", str(burst), "--size", str(size), "--port", str(port))
    command = (*WITH_PARENT, sys.executable, "-m", "lobby_gateway.commands.origin", *options, "--end-with-stdin")
    async with running("ticker", *command, ends_with=(0, -9) if may_be_killed else (0,)) as process:
        line = await process.line(r"^\{.*\}$")
        yield TickerProcess(process, json.loads(line[0])["port"])
