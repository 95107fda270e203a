"""Takes the screenshot docs/status-page.png: `.venv/bin/python -m tests.support.status_picture docs/status-page.png`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support import browser
from tests.support.lobby import drain
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_gateway.clients.tokens import key_from_hex
from lobby_gateway.settings import TOKEN_KEY_VARIABLE

WIDTH = 1000
SECONDS_OF_RATES = 40.0
DRAINED = "[...document.querySelectorAll('.lobby')].some(each => /draining[^]*90 of 512/.test(each.innerText))"


def token_key(pid: int) -> bytes:
    """The key of a lobby's tokens."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return key_from_hex(next(each for each in variables if each.startswith(TOKEN_KEY_VARIABLE)).partition("=")[2])


async def take(path: Path, folder: Path) -> None:
    """Two Lobbies: one with full lobbies, one of which cannot finish draining for lack of seats, and a small one."""
    async with ticker(rate=5) as fast, ticker(rate=1) as slow:
        prices = lobby_resource("prices", fast.url, maxReplicas=3, compaction={"enabled": False})
        heads = lobby_resource("heads", slow.url, clients_seats=128)
        files = [argument for each in (prices, heads) for argument in ("-f", lobby_file(folder, each))]
        async with lobby_up(*files) as up, Swarm(up.at("/prices")) as many, Swarm(up.at("/heads")) as few:
            await many.connect_all(1114)
            await few.connect_all(37)
            await up.until_clients(1114 + 37)
            async with browser.page(folder / "profile") as page:
                await page.set_viewport(WIDTH, 800)
                await page.goto(f"{up.admin}/")
                await asyncio.sleep(SECONDS_OF_RATES)  # fills the history of rates
                first = min(name for name in up.lobby_processes() if name.startswith("prices"))
                pid = up.lobby_processes()[first].pid
                await drain(await up.admin_of(pid), token_key(pid), first)
                await until(lambda: page.run(f"return {DRAINED};"), deadline=20, every=0.2)
                await asyncio.sleep(1.0)  # the bars are animated
                await page.screenshot(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(take(Path(sys.argv[1]), Path(made)))
