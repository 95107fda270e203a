"""A lobby is the authority on its seats: the 513th client is refused before the upgrade."""

from __future__ import annotations

from tests.support.lobby import lobby_process
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_resource

from lobby_gateway.settings import TokenSettings


def test_513th_client_is_refused_until_a_seat_is_free() -> None:
    async def main() -> None:
        async with (
            ticker(rate=5) as origin,
            lobby_process(lobby_resource("prices", origin.url)) as lobby,
            Swarm(lobby.client_url) as swarm,
        ):
            clients = await swarm.connect_all(512)
            (late,) = await swarm.connect(1)
            assert late.status == 503, late
            assert int(late.headers["Retry-After"]) >= 1
            assert late.body

            await swarm.each_has(3, of=clients)
            assert (swarm.gaps, swarm.disorder) == (0, 0), swarm.summary()
            assert (await lobby.seats())["clients"] == 512

            await swarm.close(clients[:1])
            await lobby.until_clients(511)
            (second_try,) = await swarm.connect_all(1)
            await swarm.each_has(1, of=[second_try])

    run(main(), deadline=60)


def test_lobby_refuses_clients_without_a_valid_token() -> None:
    async def main() -> None:
        async with ticker() as origin, lobby_process(lobby_resource("prices", origin.url)) as lobby:
            good = lobby.client_url()
            urls = {
                "none": good.partition("?")[0],
                "forged": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
                "expired": lobby.client_url(expires_in=-TokenSettings().clock_tolerance_seconds - 1),
                "of another lobby": lobby.client_url(lobby="prices-2"),
                "of another path": lobby.client_url(path="/other"),
            }
            for what, url in urls.items():
                async with Swarm(url) as swarm:
                    (client,) = await swarm.connect(1)
                    assert client.status == 401, (what, client.status)
            async with Swarm(good) as swarm:
                await swarm.connect_all(1)
                (again,) = await swarm.connect(1)
                assert again.status == 401  # a token is single-use
            assert (await lobby.metrics())("lobby_refusals_total", reason="bad_token") == 6

    run(main(), deadline=60)
