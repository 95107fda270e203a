"""Takes the screenshot docs/status-page.png: `.venv/bin/python -m tests.support.status_picture docs/status-page.png`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support import browser, web
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

WIDTH = 1000
SECONDS_OF_RATES = 40.0
DRAINED = "[...document.querySelectorAll('.lobby')].some(each => /draining[^]*90 of 512/.test(each.innerText))"


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
                await web.request("POST", f"{await up.admin_of(up.lobby_processes()[first].pid)}/drain")
                await until(lambda: page.run(f"return {DRAINED};"), deadline=20, every=0.2)
                await asyncio.sleep(1.0)  # the bars are animated
                await page.screenshot(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(take(Path(sys.argv[1]), Path(made)))
