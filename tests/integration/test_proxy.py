"""The connection to the origin goes through a proxy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.origins import FakeOrigin
from tests.support.proxies import fake_proxy
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_file, lobby_resource, lobby_up

SECRET = "s3cret-of-joe"


@pytest.mark.timeout(120)
def test_clients_get_the_stream_of_an_origin_that_only_a_proxy_reaches(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, fake_proxy(("127.0.0.1", origin.port), f"joe:{SECRET}") as proxy:
            resource = lobby_resource(
                "prices",
                "ws://feed.invalid:8080/stream",
                origin_proxy={
                    "url": f"http://127.0.0.1:{proxy.port}",
                    "credentialsSecretRef": {"name": "proxy", "key": "login"},
                },
            )
            env = {**os.environ, "LOBBY_SECRET_PROXY_LOGIN": f"joe:{SECRET}"}
            async with lobby_up("-f", lobby_file(tmp_path, resource), env=env) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(3)
                record = await origin.until_open(1, deadline=30)
                assert record.headers["host"] == "feed.invalid:8080"
                assert proxy.violations == []
                assert proxy.requests[0].startswith("CONNECT feed.invalid:8080 HTTP/1.1\r\n")

    run(main(), deadline=110)
