"""A real browser, proxied and redirected. Browsers follow no redirect of a WebSocket, so the page requests a ticket first."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import browser
from tests.support.sockets import run
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up

pytestmark = pytest.mark.skipif(bool(browser.skip_reason()), reason=browser.skip_reason())

# What a page's own script does: connect and return the first three messages.
LISTEN = """
    const messages = await new Promise((resolve, reject) => {
        const socket = new WebSocket(url);
        const got = [];
        socket.onmessage = event => {
            got.push(JSON.parse(event.data));
            if (got.length === 3) { socket.close(); }
        };
        socket.onclose = event => got.length === 3 ? resolve(got) : reject(new Error("closed " + event.code));
    });
    return messages;
"""


def assert_consecutive(messages: list[dict[str, int]]) -> None:
    numbers = [message["seq"] for message in messages]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


@pytest.mark.parametrize("compression", ["Off", "Shared"])
def test_page_gets_messages_through_the_greeter(tmp_path: Path, compression: str) -> None:
    async def main() -> None:
        async with ticker() as origin, browser.web_page() as site:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, clients_compression=compression))
            async with lobby_up("-f", file) as up, browser.page(tmp_path / "profile") as page:
                await page.goto(site)
                assert_consecutive(await page.run(f"const url = '{up.url}'; {LISTEN}"))

    run(main(), deadline=110)


def test_page_gets_a_ticket_and_connects_to_the_lobby(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin, browser.web_page() as site:
            resource = lobby_resource("prices", origin.url, routing={"mode": "Redirect"}, clients_allowedOrigins=[site])
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, browser.page(tmp_path / "profile") as page:
                await page.goto(site)
                address = up.url.replace("ws://", "http://")
                ticket = (
                    f"const answer = await fetch('{address}', {{headers: {{Accept: 'application/json'}}}});"
                    "const url = (await answer.json()).url;"
                )
                assert_consecutive(await page.run(ticket + LISTEN))
                greeter = (await up.greeter_metrics())[0]
                assert greeter("greeter_redirects_total") == 1

    run(main(), deadline=110)


def test_page_from_a_disallowed_origin_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker() as origin, browser.web_page() as address:
            site = address.replace("127.0.0.1", "localhost")  # to a browser, another host than the greeter's
            resource = lobby_resource("prices", origin.url, clients_allowedOrigins=["https://example.com"])
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, browser.page(tmp_path / "profile") as page:
                await page.goto(site)
                with pytest.raises(browser.PageError, match="closed 1006"):
                    await page.run(f"const url = '{up.url}'; {LISTEN}")
                greeter = (await up.greeter_metrics())[0]
                assert greeter("greeter_refusals_total", reason="origin_not_allowed") == 1

    run(main(), deadline=110)
