"""Third-party WebSocket clients: small programs around a library, or a page in a browser.

Each prints lines of JSON: `["open", subprotocol, extensions]`, then `["text" or "binary", bytes, SHA-256]` for every
message, and `["closed", code]`. It echoes messages of up to `ECHOED` bytes.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.support import browser, npm_tools
from tests.support.processes import ROOT, WITH_PARENT, running

ECHOED = 100_000
CLIENTS = ROOT / "tests" / "support" / "clients"
GO = ROOT / ".cache" / "go" / "listen"

COMMANDS: dict[str, tuple[str, ...]] = {
    "Python's websockets": (sys.executable, str(CLIENTS / "listen_websockets.py")),
    "aiohttp": (sys.executable, str(CLIENTS / "listen_aiohttp.py")),
    "npm's ws": (npm_tools.NODE or "node", str(CLIENTS / "listen.js")),
    "Go's coder/websocket": (str(GO),),
}
BROWSER = "Chromium"
NAMES = (*COMMANDS, BROWSER)


def skip_reason(name: str) -> str:
    """Why a client is unavailable; empty if it is available."""
    if name == "npm's ws":
        return npm_tools.skip_reason("ws")
    if name == "Go's coder/websocket":
        return "" if GO.exists() else "the client in Go is not built (make tools; Go 1.19 or newer)"
    return browser.skip_reason() if name == BROWSER else ""


class ThirdPartyClient:
    """A running client.

    Attributes:
        name: one of `NAMES`.
        tail: returns its latest output, for failure messages.
    """

    def __init__(self, name: str, lines: Callable[[], list[str]], tail: Callable[[], str]) -> None:
        self.name = name
        self.tail = tail
        self._lines = lines

    @property
    def output(self) -> list[list[Any]]:
        """The lines that it has printed so far."""
        return [json.loads(line) for line in self._lines()]


@contextlib.asynccontextmanager
async def listening(
    name: str, url: str, folder: Path, *, compress: bool, redirect: bool, subprotocols: tuple[str, ...] = ()
) -> AsyncIterator[ThirdPartyClient]:
    """Runs a client for the duration of a block; it connects at once.

    Args:
        name: one of `NAMES`.
        url: `ws://` URL of a path on a greeter.
        folder: folder for the profile of a browser.
        compress: whether it offers permessage-deflate; a browser always does.
        redirect: whether the greeter redirects; a browser then requests a ticket, other clients follow.
        subprotocols: offered subprotocols.
    """
    if name == BROWSER:
        async with browser.web_page() as site, browser.page(folder / "profile") as page:
            await page.goto(site)
            given = {"url": url, "subprotocols": list(subprotocols), "redirect": redirect}
            constants = "".join(f"const {key} = {json.dumps(value)};\n" for key, value in given.items())
            await page.run(constants + (CLIENTS / "listen_page.js").read_text())
            yield ThirdPartyClient(name, lambda: page.console, lambda: str(page.console[-5:]))
        return
    command = (*WITH_PARENT, *COMMANDS[name], url, "compress" if compress else "plain", *subprotocols)
    env = {"NODE_MODULES": str(npm_tools.MODULES)}
    async with running(name, *command, env=env, ends_with=None) as process:
        yield ThirdPartyClient(name, lambda: process.stdout.lines, process.tail)
