"""Programs from npm, installed by `make tools`: an Ethereum node as a third-party origin, and `ws`."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.proc import established
from tests.support.processes import ROOT, WITH_PARENT, Process, free_port, running

MODULES = ROOT / ".cache" / "npm" / "node_modules"
NODE = shutil.which("node")
GANACHE = MODULES / "ganache" / "dist" / "node" / "cli.js"
START_DEADLINE = 60.0


@dataclass(slots=True)
class EthereumNode:
    """A running development node.

    Attributes:
        process: its process.
        port: port for WebSocket connections.
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
async def ethereum_node(*, port: int | None = None, block_seconds: float = 1) -> AsyncIterator[EthereumNode]:
    """A ganache node that mines a block every `block_seconds` seconds, by default on a free port."""
    assert NODE is not None
    port = port or free_port()  # ganache does not accept port 0
    command = (
        *(NODE, str(GANACHE), "--server.host", "127.0.0.1", "--server.port", str(port)),
        *("--miner.blockTime", str(block_seconds), "--wallet.totalAccounts", "1", "--logging.quiet"),
    )
    async with running("ganache", *WITH_PARENT, *command, ends_with=None) as process:
        await process.line("RPC Listening", deadline=START_DEADLINE)
        yield EthereumNode(process, port)


def skip_reason(package: str) -> str:
    """Why an npm package is unavailable; empty if it is available."""
    if NODE is None:
        return "no node (Node.js 18 or newer)"
    return "" if (MODULES / package).is_dir() else f"npm's {package} is not installed (make tools)"
