from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

from tests.support import web
from tests.support.sockets import run
from tests.unit.greeter.lobbies import greeter

from lobby_gateway import __version__
from lobby_gateway.http import status_page
from lobby_gateway.http.admin import AdminRequest, AdminResponse
from lobby_gateway.resource.lobby_overview import Overview

OVERVIEW = Overview(kind="greeter", name="greeter test/1", version="0", seconds=1.5)


async def answer(path: str) -> AdminResponse:
    request = AdminRequest(method="GET", path=path, query="", headers={})
    return await status_page.routes(lambda: OVERVIEW)["GET", path](request)


class Elements(html.parser.HTMLParser):
    """Tags with their attributes, and what stands in scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] in {"script", "style"}:
            self.texts.setdefault(self.tags[-1][0], data)


def parsed(page: AdminResponse) -> Elements:
    elements = Elements()
    elements.feed(page.body.decode())
    return elements


def test_page_is_all_that_is_needed() -> None:
    async def main() -> None:
        page = await answer("/")
        assert page.content_type == "text/html; charset=utf-8"
        assert len(page.body) < 40_000
        for tag, attributes in parsed(page).tags:
            for name in ("src", "href"):
                assert (attributes.get(name) or "data:").startswith(("data:", "status")), (tag, attributes)
            # Inline styles and handlers would be refused by the policy.
            assert not any(name == "style" or name.startswith("on") for name in attributes), (tag, attributes)

    run(main())


def test_policy_allows_the_own_script_and_style_and_nothing_else() -> None:
    async def main() -> None:
        page = await answer("/")
        policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        for kind, text in parsed(page).texts.items():
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
        assert "unsafe" not in str(policy)
        assert page.headers["x-content-type-options"] == "nosniff"

    run(main())


def test_script_never_makes_html_of_what_it_is_told() -> None:
    async def main() -> None:
        script = parsed(await answer("/")).texts["script"]
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)
        assert "textContent" in script

    run(main())


def test_status_is_what_is_known_now_as_json() -> None:
    async def main() -> None:
        status = await answer("/status")
        assert status.content_type == "application/json"
        assert json.loads(status.body) == json.loads(json.dumps(OVERVIEW.to_json()))

    run(main())


def test_greeter_serves_both_on_its_admin_port() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            admin = f"http://127.0.0.1:{made.greeter.admin_port}"
            page = await web.get(f"{admin}/")
            assert page.status == 200
            assert page.body == (await answer("/")).body
            assert page.headers["content-security-policy"].startswith("default-src 'none'")
            assert page.headers["cache-control"] == "no-store"
            told = (await web.get(f"{admin}/status")).json()
            assert (told["kind"], told["version"], told["problem"]) == ("greeter", __version__, "")
            assert [item["name"] for item in told["items"]] == ["prices"]
            assert (await web.request("POST", f"{admin}/status")).status == 405

    run(main())
