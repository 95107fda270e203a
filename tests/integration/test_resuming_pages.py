"""`docs/examples/resume.js` in a real browser: pages miss nothing, whatever ends their connections."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support import browser
from tests.support.resuming import fuller_greeter, until_found_anywhere
from tests.support.scripted_gateway import Server, Step, refuses, sends
from tests.support.sockets import run
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until
from websockets.asyncio.server import ServerConnection

from lobby_gateway.clients.resuming import hashes

pytestmark = pytest.mark.skipif(bool(browser.skip_reason()), reason=browser.skip_reason())

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "resume.js"
DOCUMENTS = 20
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
EXACT = '{"lobby-gateway":{"resume":"exact"}}'
LIVE = '{"lobby-gateway":{"resume":"live","reason":"gone"}}'

# Each client lives in a document of its own, with its own copy of the module.
OPEN = """
    window.clients = [];
    for (let number = 0; number < %d; number++) {
        const frame = document.createElement("iframe");
        await new Promise(loaded => { frame.onload = loaded; frame.src = "/frame"; document.body.append(frame); });
        const { ResumingWebSocket } = await frame.contentWindow.eval('import("/script.js")');
        const socket = new ResumingWebSocket("%s", [], { tickets: %s });
        const client = { socket, last: -1, faults: [], gaps: [], closed: null };
        socket.onmessage = event => {
            const { seq } = JSON.parse(event.data);
            if (client.last >= 0 && seq !== client.last + 1) client.faults.push([client.last, seq]);
            client.last = seq;
        };
        socket.ongap = event => client.gaps.push(event.reason);
        socket.onclose = event => { client.closed = event.code; };
        window.clients.push(client);
    }
"""
LOOK = """
    return window.clients.map(({ socket, last, faults, gaps, closed }) =>
        ({ last, faults, gaps, closed, reconnects: socket.reconnects }));
"""


class Documents:
    """The clients in a page."""

    def __init__(self, page: browser.Page) -> None:
        self._page = page

    async def open(self, url: str, *, tickets: bool) -> None:
        await self._page.run(OPEN % (DOCUMENTS, url, json.dumps(tickets)))
        await until(self._all_connected, deadline=60, describe="each document to get messages")

    async def look(self) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = await self._page.run(LOOK)
        return seen

    async def reconnects(self) -> int:
        return sum(client["reconnects"] for client in await self.look())

    async def each_goes_on(self) -> None:
        newest = max(client["last"] for client in await self.look())

        async def newer() -> bool:
            return all(client["last"] > newest for client in await self.look())

        await until(newer, deadline=60, describe="each document to get newer messages")

    async def check(self) -> None:
        seen = await self.look()
        assert [client for client in seen if client["faults"] or client["gaps"] or client["closed"]] == []

    async def _all_connected(self) -> bool:
        return all(client["last"] >= 0 for client in await self.look())

    async def end(self, up: LobbyUp, pid: int, number: signal.Signals) -> None:
        """Ends a process of a gateway; returns once its documents are back, and all go on."""
        before = await self.reconnects()
        up.kill(pid, number)

        async def some_are_back() -> bool:
            return await self.reconnects() > before

        await until(some_are_back, deadline=60, describe="documents to reconnect")
        await until(
            lambda: pid not in {each.pid for each in (*up.greeter_processes(), *up.lobby_processes().values())},
            describe="the end of the process",
        )
        await self.each_goes_on()


def test_pages_whose_greeters_are_killed_in_turn_miss_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin, browser.web_page(SCRIPT) as site:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=DOCUMENTS // 2 + 2, replicas=2, maxReplicas=2, waitSeconds=60,
                origin_connect="Always",
            )  # fmt: skip
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource), "--greeters", "2") as up,
                browser.page(tmp_path / "profile") as page,
            ):
                await page.goto(site)
                documents = Documents(page)
                await documents.open(up.url, tickets=False)
                await until_found_anywhere(up)
                for number in SIGNALS * 2:
                    await documents.end(up, await fuller_greeter(up), number)
                await documents.check()

    run(main(), deadline=115)


def test_pages_with_tickets_whose_lobby_is_killed_resume_in_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin, browser.web_page(SCRIPT) as site:
            resource = lobby_resource(
                "prices", origin.url, clients_seats=DOCUMENTS, replicas=3, waitSeconds=60, origin_connect="Always",
                routing={"mode": "Redirect"},
            )  # fmt: skip
            async with (
                lobby_up("-f", lobby_file(tmp_path, resource)) as up,
                browser.page(tmp_path / "profile") as page,
            ):
                await page.goto(site)
                documents = Documents(page)
                await documents.open(up.url, tickets=True)
                await until_found_anywhere(up)
                for number in SIGNALS:
                    reports = await up.until_clients(DOCUMENTS)
                    fullest = max(reports, key=lambda name: reports[name]["clients"])
                    await documents.end(up, up.lobby_processes()[fullest].pid, number)
                await documents.check()

    run(main(), deadline=115)


FOLLOW = """
    const { ResumingWebSocket } = await import("/script.js");
    const options = { minBackoff: 20, maxBackoff: 50, noSeat: 200, ...%s };
    const socket = new ResumingWebSocket("%s", [], options);
    const seen = [];
    socket.addEventListener("open", () => seen.push("open"));
    socket.onreconnect = () => seen.push("reconnect");
    socket.ongap = event => seen.push(`gap: ${event.reason}`);
    socket.onerror = () => seen.push("error");
    socket.binaryType = "arraybuffer";
    socket.onmessage = event => {
        const data = typeof event.data === "string" ? event.data : new TextDecoder().decode(event.data);
        seen.push(data);
        if (data === "stop") socket.close();
        if (data === "answer") socket.send("hello");
    };
    await new Promise(closed => { socket.onclose = event => { seen.push(`close ${event.code}`); closed(); }; });
    seen.push(socket.readyState);
    return seen;
"""


def seen(tmp_path: Path, *steps: Step, options: str = "{}") -> tuple[list[Any], Server]:
    """What a page sees of a scripted gateway, until its socket is closed."""

    async def main() -> tuple[list[Any], Server]:
        async with (
            browser.web_page(SCRIPT) as site,
            browser.page(tmp_path / "profile") as page,
            Server(*steps).run() as server,
        ):
            await page.goto(site)
            return await page.run(FOLLOW % (options, server.url)), server

    return run(main(), deadline=110)


def test_a_page_sees_one_socket_and_its_gaps(tmp_path: Path) -> None:
    events, server = seen(
        tmp_path,
        sends("a", b"b", close=1001),
        sends(EXACT, "c", close=1012),
        sends(LIVE, "d", close=0),
        sends("e", close=1013),
        sends(EXACT, "stop", close=1012),
    )
    assert events == [
        "open", "a", "b", "reconnect", "c", "reconnect", "gap: gone", "d", "reconnect",
        "gap: the server does not support resuming", "e", "reconnect", "stop", "close 1012", 3,
    ]  # fmt: skip
    assert server.asked[:3] == [
        "/prices", f"/prices?resume={hashes([b'a', b'b'])}", f"/prices?resume={hashes([b'a', b'b', b'c'])}",
    ]  # fmt: skip
    assert server.asked[4] == f"/prices?resume={hashes([b'e'])}"  # in a row
    assert server.times[4] - server.times[3] >= 0.2  # after 1013


def test_a_page_that_broke_a_rule_does_not_come_back(tmp_path: Path) -> None:
    async def hears(connection: ServerConnection) -> None:
        await connection.send("answer")
        assert await connection.recv() == "hello"
        await connection.close(1008)

    events, server = seen(tmp_path, hears)
    assert events == ["open", "answer", "error", "close 1008", 3]
    assert server.asked == ["/prices"]


def test_a_page_waits_as_long_as_a_refusal_of_a_ticket_says(tmp_path: Path) -> None:
    cors = {"Access_Control_Allow_Origin": "*", "Access_Control_Expose_Headers": "Retry-After"}

    async def main() -> None:
        async with (
            browser.web_page(SCRIPT) as site,
            browser.page(tmp_path / "profile") as page,
            Server(sends("a", close=1012), sends(EXACT, "b", close=1000)).run() as lobby,
        ):
            ticket = json.dumps({"url": f"{lobby.url}?token=x"}).encode()
            steps = refuses(503, Retry_After="1", **cors), refuses(200, ticket, **cors), refuses(200, ticket, **cors)
            async with Server(*steps, refuses(404, **cors)).run() as gateway:
                await page.goto(site)
                events = await page.run(FOLLOW % ("{tickets: true}", gateway.url))
                assert events == ["open", "a", "reconnect", "b", "close 1000", 3]
                assert gateway.asked == ["/prices", "/prices", f"/prices?resume={hashes([b'a'])}"]
                assert gateway.times[1] - gateway.times[0] >= 1
                events = await page.run(FOLLOW % ("{tickets: true}", gateway.url))
                assert events == ["error", "close 1006", 3]  # 404 would come again

    run(main(), deadline=110)
