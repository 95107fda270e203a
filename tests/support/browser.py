"""A real browser: Debian's headless Chromium, controlled over the DevTools protocol with `websockets`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.processes import WITH_PARENT, running
from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
START_DEADLINE = 60.0
PHONE_WIDTH = 600
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
    "--use-mock-keychain",
)


class PageError(AssertionError):
    """The browser, or the script in its page, failed."""


class Page:
    """One open page.

    Attributes:
        console: lines in its console, including uncaught errors.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._loaded = asyncio.Event()
        self.console: list[str] = []

    async def open(self) -> None:
        """Opens the page."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def goto(self, url: str) -> None:
        """Navigates to a URL and waits until the page has loaded."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise PageError(f"{url}: {answer['errorText']}")
        await self._loaded.wait()

    async def run(self, script: str) -> Any:
        """Runs the body of an asynchronous JavaScript function in the page; returns what it returns.

        Raises:
            PageError: the script threw an error.
        """
        answer = await self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        failed = answer.get("exceptionDetails")
        if failed:
            text = failed.get("exception", {}).get("description") or failed.get("text")
            raise PageError(f"{text}; console: {self.console[-5:]}")
        return answer["result"].get("value")

    async def set_viewport(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Sets the viewport size, in CSS pixels, and the color scheme."""
        await self.call("Emulation.setScrollbarsHidden", hidden=True)
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < PHONE_WIDTH,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Saves a PNG of the whole page, or of its top `height` CSS pixels."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a DevTools command; returns its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        await self._connection.send(json.dumps(message))
        answer = await future
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def listen(self) -> None:
        """Processes messages from the browser until the connection ends."""
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                waiting = self._waiting.pop(message["id"])
                if not waiting.done():
                    waiting.set_result(message)
            elif message["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif message["method"] == "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(arg.get("value")) for arg in message["params"]["args"]))
            elif message["method"] == "Log.entryAdded":
                self.console.append(message["params"]["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.console.append(details.get("exception", {}).get("description") or details["text"])


@contextlib.asynccontextmanager
async def page(profile: Path) -> AsyncIterator[Page]:
    """Starts a browser with an empty profile in a folder and opens a page."""
    assert CHROMIUM is not None
    # The sandbox does not work for root, nor in most containers; the browser only opens our own pages.
    flags = (*_FLAGS, "--no-sandbox", f"--user-data-dir={profile}")
    env = {"HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
    async with running("chromium", *WITH_PARENT, CHROMIUM, *flags, "about:blank", env=env, ends_with=None) as browser:
        found = await browser.logged(r"DevTools listening on (ws://\S+)", deadline=START_DEADLINE)
        async with connect(found[1], max_size=64 * 1024 * 1024, ping_interval=None, proxy=None) as connection:
            opened = Page(connection)
            listening = asyncio.create_task(opened.listen())
            try:
                await opened.open()
                yield opened
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def web_page(script: Path | None = None) -> AsyncIterator[str]:
    """A page whose origin differs from the greeter's; yields its URL. `/script.js` on it is a file."""
    source = await asyncio.to_thread(script.read_bytes) if script is not None else b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # browsers open spare connections and close them unused
            writer.close()
            return
        kind, body = "text/html", b"<!doctype html><title>page</title>"
        if request.startswith(b"GET /script.js "):
            kind, body = "text/javascript", source
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def skip_reason() -> str:
    """Why the browser is unavailable; empty if it is available."""
    return "" if CHROMIUM else "no chromium (Debian: apt install chromium)"
