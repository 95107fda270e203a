"""The status page in a real browser: its data from real processes, its updates, and its layout."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support import browser
from tests.support.browser import Page
from tests.support.lobby import GreeterProcess, greeter_process, lobby_process, new_key, with_open
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_gateway.http import status_page
from lobby_gateway.http.admin import AdminServer
from lobby_gateway.resource.lobby_overview import Item, LobbyCounts, Overview

pytestmark = pytest.mark.skipif(bool(browser.skip_reason()), reason=browser.skip_reason())

# What a user or a screen reader finds on the page.
READ = """
    const text = (element, selector) => element.querySelector(selector)?.textContent ?? "";
    const number = (element, selector) => Number(text(element, selector).replaceAll(",", ""));
    const shown = element => element !== null && element.checkVisibility();
    return {
        live: text(document, "#live"),
        alert: shown(document.querySelector("#trouble")) ? text(document, "#alert") : "",
        about: text(document, "#about"),
        empty: shown(document.querySelector("#empty")),
        items: [...document.querySelectorAll(".item")].map(item => ({
            name: text(item, "h2"),
            ready: text(item, ".ready"),
            origin: text(item, ".origin-state"),
            clients: number(item, ".clients"),
            waiting: number(item, ".waiting"),
            rate: number(item, ".rate"),
            deliveries: number(item, ".deliveries"),
            dropped: number(item, ".dropped"),
            droppedBy: text(item, ".dropped-by"),
            moved: [number(item, ".exact"), number(item, ".moved-live")],
            counted: shown(item.querySelector(".of-clients")),
            problems: [...item.querySelectorAll(".problems > li")].map(each => each.textContent),
            lobbies: [...item.querySelectorAll(".lobby")].map(lobby => ({
                name: text(lobby, ".name"),
                phase: text(lobby, ".phase"),
                latest: shown(lobby.querySelector(".latest")),
                taken: text(lobby, ".taken"),
                meter: lobby.querySelector("[role=meter]").getAttribute("aria-valuetext"),
                filled: lobby.querySelector(".fill").offsetWidth / lobby.querySelector(".bar").offsetWidth,
            })),
        })),
    };
"""

# Texts whose contrast with the background is below 4.5 (WCAG 2.2, 1.4.3), as "ratio text".
UNREADABLE = """
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const color = text => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = text;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const behind = element => {
        for (let each = element; each; each = each.parentElement) {
            const back = color(getComputedStyle(each).backgroundColor);
            if (back[3] === 255) { return back; }
        }
        throw new Error("no background color found");
    };
    const light = ([red, green, blue]) => {
        const part = value => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let texts = 0;
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) { continue; }
        texts += 1;
        const pair = [light(color(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (ratio < 4.5) { found.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim()}`); }
    }
    if (texts < 20) { throw new Error(`only ${texts} texts`); }
    return found;
"""


class StatusPage:
    """An open status page."""

    def __init__(self, page: Page) -> None:
        self.browser_page = page
        self.last: dict[str, Any] = {}

    async def read(self) -> dict[str, Any]:
        self.last = await self.browser_page.run(READ)
        return self.last

    async def item(self, name: str = "prices") -> Mapping[str, Any]:
        """What the page shows for a Lobby; empty if it shows none."""
        return next((item for item in (await self.read())["items"] if item["name"] == name), {})

    async def lobbies(self) -> dict[str, Mapping[str, Any]]:
        return {lobby["name"]: lobby for lobby in (await self.item()).get("lobbies", ())}

    async def until(self, condition: Any, *, deadline: float = 15.0) -> Any:
        return await until(
            condition, deadline=deadline, every=0.1, describe=lambda: f"{self.last}; {self.browser_page.console}"
        )


@contextlib.asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[StatusPage]:
    async with browser.page(folder / "profile") as page:
        await page.goto(url)
        yield StatusPage(page)


def test_page_of_a_greeter_shows_lobbies_filling_and_emptying(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            resource = lobby_resource("prices", origin.url, clients_seats=8, spareSeats=4, emptySeconds=1)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                admin = await up.admin_of(up.greeter_processes()[0].pid)
                async with opened(f"{admin}/", tmp_path) as page:

                    async def holds(clients: int) -> bool:
                        item = await page.item()
                        return bool(item and item["clients"] == clients and item["ready"] == "Open")

                    await page.until(lambda: holds(0))
                    assert {each["taken"] for each in (await page.lobbies()).values()} == {"0 of 8"}

                    await swarm.connect_all(4)
                    await page.until(lambda: holds(4))
                    half = [each for each in (await page.lobbies()).values() if each["taken"] == "4 of 8"]
                    assert [each["meter"] for each in half] == ["4 of 8 seats taken, open"]

                    await swarm.connect_all(8)
                    await page.until(lambda: holds(12))
                    lobbies = (await page.lobbies()).values()
                    assert len(lobbies) >= 2
                    assert sum(each["latest"] for each in lobbies) == 1

                    async def drawn() -> bool:  # the bars are animated
                        bars = [(each["taken"], round(each["filled"], 1)) for each in (await page.lobbies()).values()]
                        return ("8 of 8", 1.0) in bars and ("4 of 8", 0.5) in bars

                    await page.until(drawn)
                    assert "full" in {each["phase"] for each in (await page.lobbies()).values()}

                    async def streams() -> bool:
                        item = await page.item()
                        return bool(
                            item["origin"] == "Connected" and item["rate"] > 25 and item["deliveries"] > 12 * 25
                        )

                    await page.until(streams)

                    for client in swarm.open:
                        client.close()
                    await page.until(lambda: holds(0))

                    async def surplus_is_gone() -> bool:
                        return len(await page.lobbies()) == 1

                    await page.until(surplus_is_gone, deadline=30)
                    assert page.browser_page.console == []

    run(main(), deadline=110)


def test_page_shows_a_drain_and_the_move_of_its_clients(tmp_path: Path) -> None:
    async def main() -> None:
        key = new_key()
        async with contextlib.AsyncExitStack() as stack:
            origin = await stack.enter_async_context(ticker(rate=50))
            resource = lobby_resource("prices", origin.url, drainSeconds=8)  # in half of which the clients move
            one = await stack.enter_async_context(lobby_process(resource, number=1, key=key))
            two = await stack.enter_async_context(lobby_process(resource, number=2, key=key))
            greeter = await stack.enter_async_context(greeter_process(key=key))
            page = await stack.enter_async_context(opened(f"{greeter.admin}/", tmp_path))

            async def is_empty() -> bool:
                shown = await page.read()
                return bool(shown["empty"] and shown["alert"] == "no directory yet")

            await page.until(is_empty)
            greeter.set_directory(with_open(resource, one))
            swarm = await stack.enter_async_context(Swarm(greeter.url("/prices")))
            await swarm.connect_all(5)

            async def shown(**expected: str) -> bool:
                return {name: f"{each['phase']} {each['taken']}" for name, each in (await page.lobbies()).items()} == {
                    name.replace("_", "-"): text for name, text in expected.items()
                }

            await page.until(lambda: shown(prices_1="open 5 of 512"))
            # There is no other lobby: clients stay until there is one, and new clients wait.
            await one.drain()
            await page.until(lambda: shown(prices_1="draining 5 of 512"))
            waiting = asyncio.create_task(swarm.connect_all(1))

            async def waits() -> bool:
                return bool((await page.item())["waiting"] == 1)

            await page.until(waits)
            greeter.set_directory(with_open(resource, two, draining=("prices-1",)))
            await waiting

            async def moved() -> bool:
                item = await page.item()
                return bool(sum(item["moved"]) == 5 and item["waiting"] == 0 and item["clients"] >= 6)

            await page.until(moved)
            greeter.set_directory(with_open(resource, two))
            await page.until(lambda: shown(prices_2="open 6 of 512"))
            greeter.set_directory()

            async def removed() -> bool:
                item = await page.item()  # empty once its clients, which are closed at once, have gone
                return not item or bool(item["ready"] == "removed")

            await page.until(removed)
            assert page.browser_page.console == []

    run(main(), deadline=110)


def test_page_reports_a_lost_greeter_and_recovers_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        key = new_key()
        resource = with_open(lobby_resource("prices", "ws://127.0.0.1:1/"))
        async with contextlib.AsyncExitStack() as stack:
            async with greeter_process(key=key) as greeter:
                greeter.set_directory(resource)
                page = await stack.enter_async_context(opened(f"{greeter.admin}/", tmp_path))
                await page.until(page.item)
                assert page.last["live"] == "live"
                assert page.browser_page.console == []

                greeter.process.send(signal.SIGSTOP)

                async def alerts(problem: str) -> bool:
                    return problem in (await page.read())["alert"]

                await page.until(lambda: alerts("The greeter does not respond (timeout after 4 seconds)"))
                assert page.last["live"] == "no response"
                assert page.last["items"], "the last known state is no longer shown"
                greeter.process.send(signal.SIGCONT)

                async def lives() -> bool:
                    return (await page.read())["live"] == "live" and not page.last["alert"]

                await page.until(lives)
            await page.until(lambda: alerts("The greeter does not respond (no connection)"))
            again = ("--admin-port", greeter.admin.rpartition(":")[2])
            async with greeter_process(key=key, options=again) as greeter:
                greeter.set_directory(resource)
                await page.until(lives)

    run(main(), deadline=110)


HOSTILE = "<img src=x onerror=\"document.title='hit'\"> & <script>document.title='hit'</script>"


def directory() -> list[dict[str, Any]]:
    """Three Lobbies as a lobby host might report them: a healthy one, one with problems and long names, a redirected one."""
    healthy = with_open(lobby_resource("prices", "wss://feed.example.com/stream?key=s3cret"))
    healthy["status"] = status(
        [("prices-1", "Ready", 512, 512), ("prices-2", "Ready", 200, 512), ("prices-3", "Starting", 0, 512)]
    )
    troubled = with_open(lobby_resource("n" * 50, "wss://" + "long-host-name." * 12 + "example/" + "path/" * 20))
    phases = ("Ready", "Draining", "Silent", "Settling", "Ending", "Starting")
    troubled["status"] = status(
        [(f"{'n' * 50}-{number}", phases[number % len(phases)], number * 8, 512) for number in range(1, 61)],
        message=HOSTILE,
    )
    redirected = with_open(lobby_resource("books", "ws://h/", routing={"mode": "Redirect"}))
    redirected["status"] = status([("books-1", "Ready", 3, 512)])
    return [healthy, troubled, redirected]


def status(lobbies: list[tuple[str, str, int, int]], message: str = "") -> dict[str, Any]:
    ready = [each for each in lobbies if each[1] == "Ready" and each[2] < each[3]]
    named = [
        {
            "name": name,
            "phase": phase,
            "clients": clients,
            "seats": seats,
            "origin": "Waiting" if message else "Connected",
        }
        for name, phase, clients, seats in lobbies
    ]
    condition = {
        "status": "False" if message else "True",
        "reason": "Refused" if message else "Fine",
        "message": message,
    }
    return {
        "open": [{"name": each[0], "address": "127.0.0.1:1", "clients": each[2], "seats": each[3]} for each in ready],
        "latest": {"name": ready[0][0], "address": "127.0.0.1:1"},
        "lobbies": named,
        "conditions": [{"type": each, **condition} for each in ("Ready", "OriginConnected", "Scaling")],
    }


@contextlib.asynccontextmanager
async def greeter_page(
    folder: Path, resources: list[dict[str, Any]]
) -> AsyncIterator[tuple[GreeterProcess, StatusPage]]:
    async with greeter_process(key=new_key()) as greeter:
        greeter.set_directory(*resources)
        async with opened(f"{greeter.admin}/", folder) as page:
            await page.until(page.item)
            yield greeter, page


def test_data_is_shown_as_text_and_never_as_html(tmp_path: Path) -> None:
    async def main() -> None:
        async with greeter_page(tmp_path, directory()) as (_, page):
            item = await page.item("n" * 50)
            assert item["problems"] == [HOSTILE] * 3
            assert item["origin"] == "Refused"
            assert len(item["lobbies"]) == 60
            phases = {lobby["phase"] for lobby in item["lobbies"]}
            assert phases == {"open", "draining", "unresponsive", "recovering", "ending", "starting"}
            document = await page.browser_page.run(
                "return [document.title, document.images.length, document.scripts.length]"
            )
            assert document == ["Lobby Gateway", 0, 1]
            assert "s3cret" not in await page.browser_page.run("return document.documentElement.outerHTML")
            # A greeter that only redirects has no figures for these clients, and shows none instead of 0.
            assert (await page.item("books"))["counted"] is False
            assert (await page.item("prices"))["counted"] is True
            # The page requested only its own greeter, and the browser blocks any other request.
            asked = await page.browser_page.run(
                "return performance.getEntriesByType('resource').map(each => each.name)"
            )
            assert {name.rpartition("/")[2] for name in asked} == {"status"}
            refused = "try { await fetch('http://127.0.0.1:1/'); return ''; } catch (error) { return error.message; }"
            assert page.browser_page.console == []
            assert await page.browser_page.run(refused) == "Failed to fetch"
            await page.until(lambda: any("Content Security Policy" in line for line in page.browser_page.console))

    run(main(), deadline=110)


def test_page_shows_why_messages_were_dropped(tmp_path: Path) -> None:
    counts = {
        "none": LobbyCounts(),
        "one": LobbyCounts(dropped=1200, dropped_by={"slow": 1200, "old": 0, "memory": 0}),
        "two": LobbyCounts(dropped=1207, dropped_by={"slow": 1200, "old": 7, "memory": 0}),
    }

    def overview() -> Overview:
        items = tuple(
            Item(name=name, address=f"/{name}", origin="ws://origin.example/", counts=each)
            for name, each in counts.items()
        )
        return Overview(kind="lobby host", name="test", version="0", seconds=1.0, items=items)

    async def main() -> None:
        admin = AdminServer(status_page.routes(overview))
        port = await admin.start("127.0.0.1", 0)
        try:
            async with opened(f"http://127.0.0.1:{port}/", tmp_path) as page:

                async def shown() -> bool:
                    return bool(await page.item("two"))

                await page.until(shown)
                found = {name: await page.item(name) for name in counts}
                assert {name: (item["dropped"], item["droppedBy"]) for name, item in found.items()} == {
                    "none": (0, ""),
                    "one": (1200, "slow"),
                    "two": (1207, "1,200 slow, 7 old"),
                }
                assert page.browser_page.console == []
        finally:
            await admin.close()

    run(main(), deadline=60)


def test_page_is_readable_on_desktop_and_phone_in_light_and_dark_mode(tmp_path: Path) -> None:
    async def main() -> None:
        backgrounds = set()
        async with greeter_page(tmp_path, directory()) as (_, status_page):
            page = status_page.browser_page
            await page.run("document.querySelector('details').open = true;")
            for width, height in ((1280, 800), (360, 740)):
                for dark in (False, True):
                    await page.set_viewport(width, height, dark=dark)
                    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"
                    assert await page.run(overflow) == 0, (width, dark)
                    assert await page.run(UNREADABLE) == [], (width, dark)
                    backgrounds.add((dark, await page.run("return getComputedStyle(document.body).backgroundColor;")))
                    picture = tmp_path / f"{width}-{'dark' if dark else 'light'}.png"
                    await page.screenshot(picture)
                    data = picture.read_bytes()
                    assert data.startswith(b"\x89PNG")
                    assert int.from_bytes(data[16:20]) == width
            assert len(backgrounds) == 2, backgrounds
            # The bars have text alternatives, and each Lobby has an accessible name.
            names = "return [...document.querySelectorAll('section')].map(each => each.getAttribute('aria-label'));"
            assert await page.run(names) == ["Lobby books", f"Lobby {'n' * 50}", "Lobby prices"]

    run(main(), deadline=110)


def test_lobby_up_prints_the_url_of_its_page_and_shows_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            prices = lobby_resource("prices", origin.url, clients_seats=8, spareSeats=4)
            away = lobby_resource("away", "ws://127.0.0.1:1/", origin_connect="Always")
            files = [argument for each in (prices, away) for argument in ("-f", lobby_file(tmp_path, each))]
            async with lobby_up(*files) as up, Swarm(up.at("/prices")) as swarm:
                address = (await up.process.line(r"status page: (http://\S+/)"))[1]
                async with opened(address, tmp_path) as page:
                    await swarm.connect_all(5)

                    async def all_is_shown() -> bool:
                        item, other = await page.item(), await page.item("away")
                        return bool(
                            item.get("clients") == 5
                            and item["rate"] > 25
                            and item["deliveries"] > 5 * 25
                            and "connection refused" in " ".join(other["problems"])
                        )

                    await page.until(all_is_shown)
                    assert "1 of 1 greeter responding" in page.last["about"]
                    assert page.last["alert"] == ""
                    assert page.browser_page.console == []
                    up.kill(up.greeter_processes()[0].pid, signal.SIGSTOP)

                    async def greeter_is_missed() -> bool:
                        return bool((await page.read())["alert"] == "no greeter responds")

                    await page.until(greeter_is_missed)
                    up.kill(up.greeter_processes()[0].pid, signal.SIGCONT)

    run(main(), deadline=110)
