"""Handshakes with a greeter: subprotocols, the Origin of browsers, plain HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import web
from tests.support.origins import FakeOrigin
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up

MODES = ["Proxy", "Redirect"]


@pytest.mark.parametrize("mode", MODES)
def test_subprotocol_of_the_origin_is_negotiated_with_the_client(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin(subprotocols=["feed.v2"]) as origin:
            resource = lobby_resource("prices", origin.url, origin_subprotocols=["feed.v2"], routing={"mode": mode})
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                for offered, chosen in ((("feed.v1", "feed.v2"), "feed.v2"), ((), None)):
                    async with Swarm(up.url, subprotocols=offered, follow_redirects=True) as swarm:
                        (client,) = await swarm.connect_all(1)
                        assert client.subprotocol == chosen
                connection = await origin.until_connected(1)
                assert connection.offered == ("feed.v2",)

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_only_pages_from_allowed_origins_are_accepted(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource(
                "prices", origin.url, clients_allowedOrigins=["https://example.com"], routing={"mode": mode}
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                for page, status in (("https://example.com", 101), ("https://example.net", 403), ("null", 403)):
                    async with Swarm(up.url, origin=page, follow_redirects=True) as swarm:
                        (client,) = await swarm.connect(1)
                        assert client.status == status, page

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", MODES)
def test_by_default_only_pages_of_the_greeters_own_host_are_accepted(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, routing={"mode": mode})
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                for page, status in (
                    (None, 101),
                    ("http://127.0.0.1:3000", 101),
                    ("https://evil.example", 403),
                    ("null", 403),
                ):
                    async with Swarm(up.url, origin=page, follow_redirects=True) as swarm:
                        (client,) = await swarm.connect(1)
                        assert client.status == status, page

    run(main(), deadline=60)


def test_plain_http_request_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up:
                response = await web.get(up.url.replace("ws://", "http://"))
                assert response.status == 426, response
                assert response.headers["upgrade"].lower() == "websocket"
                response = await web.request("POST", up.url.replace("ws://", "http://"))
                assert response.status == 405, response

    run(main(), deadline=60)


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
@pytest.mark.parametrize("chosen", ["feed.v1", None])
def test_client_is_told_the_subprotocol_that_the_origin_chose(tmp_path: Path, mode: str, chosen: str | None) -> None:
    """The origin, connected for the first client, knows only the Lobby's second subprotocol, or none."""

    async def main() -> None:
        async with FakeOrigin(subprotocols=[chosen] if chosen else []) as origin:
            resource = lobby_resource(
                "prices", origin.url, origin_subprotocols=["feed.v2", "feed.v1"], routing={"mode": mode}
            )
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                offered = ["feed.v2", "feed.v1"]
                async with Swarm(up.url, subprotocols=offered, follow_redirects=True) as swarm:
                    first, second = *await swarm.connect_all(1), *await swarm.connect_all(1)
                    assert (first.subprotocol, second.subprotocol) == (chosen, chosen)

    run(main(), deadline=60)
