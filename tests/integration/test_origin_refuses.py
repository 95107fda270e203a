"""An origin that refuses: retries honour Retry-After or back off, never hammering it; clients stay connected."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from tests.support.lobby import lobby_process
from tests.support.origins import FakeOrigin, Refuse, authority, ticking
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_resource

# Fast enough for dozens of attempts during a test if the lobby ignored the response of the origin.
FAST = {"minMilliseconds": 20, "maxMilliseconds": 100}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_reported_and_not_retried_quickly(status: int) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(status)) as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST)
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(5)
                report = await lobby.until_origin("Refused")
                assert str(status) in report["reason"]
                assert report["retry_in_seconds"] > 5
                await asyncio.sleep(2)  # enough for dozens of attempts; the absence of one has no event
                assert len(origin.attempts) == 1
                assert len(swarm.open) == 5, swarm.summary()

    run(main(), deadline=60)


def test_lobby_connects_to_no_origin_in_a_denied_network() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            denied = ("--origin-deny-cidrs", "127.0.0.0/8,::1/128")
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST)
            async with lobby_process(resource, options=denied) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(1)
                report = await lobby.until_origin("Waiting")
                assert report["reason"].startswith("localhost resolves to ")
                assert ", which is in the denied network " in report["reason"]
                assert origin.attempts == []

    run(main(), deadline=60)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honored(status: int) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(status, (("Retry-After", "2"),))) as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST)
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(5)
                await origin.until_attempts(1)
                report = await lobby.until_origin("Waiting")
                assert str(status) in report["reason"]
                await origin.until_attempts(2)
                origin.refuse = None
                await origin.until_open(1)
                assert all(later - earlier >= 1.9 for earlier, later in pairwise(origin.attempts)), origin.attempts
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(3)
                assert len(swarm.open) == 5, swarm.summary()

    run(main(), deadline=60)


def test_retries_of_an_unavailable_origin_back_off() -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(503)) as origin:
            resource = lobby_resource(
                "prices", origin.url, origin_reconnect={"minMilliseconds": 50, "maxMilliseconds": 400}
            )
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(1)
                await origin.until_attempts(8, deadline=20)
                waits = [later - earlier for earlier, later in pairwise(origin.attempts)]
                assert max(waits) < 0.4 + 1.0  # the bound, and slack for a busy machine
                origin.refuse = None
                await origin.until_open(1)
                await lobby.until_origin("Connected")

    run(main(), deadline=60)


def test_untrusted_certificate_is_reported_and_a_trusted_one_works() -> None:
    async def main() -> None:
        trust = authority()
        secret = {"LOBBY_SECRET_FEED_CA_CA_CRT": trust.ca_pem}
        async with FakeOrigin(tls=trust.server) as origin:
            resource = lobby_resource("prices", origin.url, origin_reconnect=FAST)
            async with lobby_process(resource) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(2)
                report = await lobby.until_origin("Waiting")
                assert "certificate" in report["reason"].lower(), report
                assert not origin.connections
                assert len(swarm.open) == 2

            resource = lobby_resource(
                "prices", origin.url, origin_tls={"caSecretRef": {"name": "feed-ca", "key": "ca.crt"}}
            )
            async with lobby_process(resource, env=secret) as lobby, Swarm(lobby.client_url) as swarm:
                await swarm.connect_all(2)
                await origin.until_open(1)
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(3)

    run(main(), deadline=60)
