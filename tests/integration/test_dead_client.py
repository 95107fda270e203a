"""A client that vanishes silently is detected by a ping and loses its seat; one that answers pings stays connected."""

from __future__ import annotations

from pathlib import Path

from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

PING_SECONDS = 1
GIVEN_UP_WITHIN = 40.0  # the ping, 20 s for the pong, and slack for a busy machine


def test_client_that_does_not_answer_pings_loses_its_seat(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=1) as origin:
            files = [
                lobby_file(
                    tmp_path,
                    lobby_resource(mode.lower(), origin.url, clients_pingSeconds=PING_SECONDS, routing={"mode": mode}),
                )
                for mode in ("Proxy", "Redirect")
            ]
            async with (
                lobby_up("-f", files[0], "-f", files[1]) as up,
                Swarm(up.at("/proxy")) as proxied,
                Swarm(up.at("/redirect"), follow_redirects=True) as redirected,
            ):
                pairs = [await proxied.connect_all(2), await redirected.connect_all(2)]
                await up.until_clients(4)
                for dead, _ in pairs:
                    dead.pause()  # it does not read the ping, so it sends no pong
                await up.until_clients(2, deadline=GIVEN_UP_WITHIN)
                for dead, alive in pairs:
                    assert alive.is_open
                    assert alive.pings >= 3
                    dead.resume()
                    await until(dead.ended.is_set, describe="the client to be disconnected")
                    assert dead.close_code in {1011, 1006}

    run(main(), deadline=90)
