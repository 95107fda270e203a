"""Clients that are redirected to a lobby."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.sockets import run
from tests.unit.greeter.clients import REDIRECT, UPGRADE, http_get
from tests.unit.greeter.lobbies import KEY, greeter
from tests.unit.greeter.support import resource

from lobby_gateway.clients.tokens import Purpose, verify


def asked_for(url: str, name: str) -> bool:
    token = parse_qs(urlsplit(url).query)["token"][0]
    claims = verify(token, [KEY], purpose=Purpose.SEAT, lobby=name, path="/prices", now=time.time())
    return 0 < claims.expires - time.time() <= 31


def test_redirected_clients_get_a_token_for_their_lobby() -> None:
    async def main() -> None:
        async with greeter("prices-1", **REDIRECT) as running:
            [lobby] = running.lobbies
            status, headers, _ = await http_get(running.greeter.port, **UPGRADE)
            assert status == 307
            assert headers["location"].startswith(f"//{lobby.address}/prices?symbol=x&token=")
            status, headers, body = await http_get(running.greeter.port, Accept="application/json")
            ticket = json.loads(body)
            assert status == 200
            assert ticket["url"] == f"ws://{lobby.address}/prices?symbol=x&token={ticket['token']}"
            assert asked_for(ticket["url"], "prices-1")
            assert (lobby.trunks_opened, lobby.seat_count.taken) == (0, 0)

    run(main())


def test_redirected_clients_are_spread_over_lobbies_by_the_tickets_issued() -> None:
    async def main() -> None:
        async with greeter("prices-1", "prices-2", seats=2, waitSeconds=1, **REDIRECT) as running:
            answers = [await http_get(running.greeter.port, Accept="application/json") for _ in range(4)]
            urls = [json.loads(body)["url"] for _, _, body in answers]
            assert [urlsplit(url).netloc for url in urls] == [
                lobby.address for lobby in running.lobbies for _ in range(2)
            ]
            status, headers, _ = await http_get(running.greeter.port, Accept="application/json", Origin="https://h")
            assert (status, headers["retry-after"]) == (503, "5")

    run(main())


@pytest.mark.parametrize("headers", [UPGRADE, {"Accept": "application/json"}])
@pytest.mark.parametrize(
    "template",
    ["ws://{ip}:{port}\u0001", "wss://münchen{port}.example/", "wss://€{port}.example/", "wss://{ip}:9{port}/"],
)
def test_clients_that_cannot_be_redirected_are_refused(
    caplog: pytest.LogCaptureFixture, template: str, headers: dict[str, str]
) -> None:
    async def main() -> None:
        async with greeter("prices-1", **REDIRECT) as running:
            [lobby] = running.lobbies
            raw = resource("prices", **REDIRECT)
            raw["spec"]["routing"]["redirect"]["urlTemplate"] = template  # stored before the CRD had its rule
            raw["status"] = {"open": [lobby.entry]}
            running.greeter.directory.update([raw])
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(http_get(running.greeter.port, **headers) for _ in range(3)))
            assert [status for status, _, _ in answers] == [500] * 3
            assert b"spec.routing.redirect.urlTemplate" in answers[0][2]
            assert running.greeter.report().waiting == {"prices": 0}
            assert running.greeter._capacity.clients == 0
            running.tell(lobby, **REDIRECT)
            status, _, _ = await http_get(running.greeter.port, **headers)
            assert status in {200, 307}

    run(main())
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1  # not one for each client
    assert "token" not in caplog.text


def test_a_client_that_cannot_be_redirected_keeps_no_other_from_its_lobby() -> None:
    async def main() -> None:
        # An IPv6 address can't be part of a name.
        names: Any = {"routing": {"mode": "Redirect", "redirect": {"urlTemplate": "ws://{ip}.example.com:{port}/"}}}
        async with greeter("prices-1", "prices-2", seats=1, waitSeconds=1, **names) as running:
            bad, good = running.lobbies
            bad.address = "[fd00::7]:9000"
            running.tell(bad, good)
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(http_get(running.greeter.port, **UPGRADE) for _ in range(2)))
            assert sorted(status for status, _, _ in answers) == [307, 500]

    run(main())
