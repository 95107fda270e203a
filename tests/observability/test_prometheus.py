"""Prometheus scrapes `lobby up` under load: every panel of the dashboard has data, and the rules are evaluated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.support.panels import number, panels, without_data
from tests.support.processes import ROOT
from tests.support.prometheus import Prometheus, prometheus, skip_reason
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

from lobby_operator.kube.metrics import API_CALLS, OPERATOR

pytestmark = pytest.mark.skipif(bool(skip_reason()), reason=skip_reason())

RULES = ROOT / "charts" / "lobby-gateway" / "rules" / "lobby-gateway.yaml"
IN_CLUSTERS = {definition.name for definition in (*API_CALLS, *OPERATOR)}
WINDOW = "5s"
PRICES, BOOKS, SEATS, RATE = 40, 10, 16, 20


async def shows(server: Prometheus, title: str, least: float, most: float) -> None:
    """Waits until a panel with one number shows one within bounds."""
    seen = math.nan

    async def look() -> bool:
        nonlocal seen
        seen = await number(server, title, window=WINDOW)
        return least <= seen <= most

    await until(look, deadline=20, every=0.5, describe=lambda: f"{title}: {seen}, not {least} to {most}")


async def no_alert(server: Prometheus) -> bool:
    """All rules are evaluated, and none finds anything."""
    rules = await server.rules()
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
    return all(rule["health"] == "ok" and rule["state"] == "inactive" for rule in rules)


async def every_process_is_scraped(server: Prometheus, up: LobbyUp) -> None:
    processes = [each.pid for each in (*up.greeter_processes(), *up.lobby_processes().values())]
    admins = {up.admin, *[await up.admin_of(pid) for pid in processes]}

    async def look() -> bool:
        return await server.targets() == {admin.removeprefix("http://"): "up" for admin in admins}

    await until(look, deadline=20, every=0.2, describe=lambda: f"{admins} up; {up.process.tail()}")


def test_every_panel_has_data_and_every_rule_is_evaluated(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=RATE, may_be_killed=True) as origin:
            prices = lobby_resource("prices", origin.url, clients_seats=SEATS, spareSeats=4)
            books = lobby_resource("books", origin.url, routing={"mode": "Redirect"})
            files = [argument for each in (prices, books) for argument in ("-f", lobby_file(tmp_path, each))]
            async with (
                lobby_up(*files, "--greeters", "2") as up,
                Swarm(up.at("/prices")) as proxied,
                Swarm(up.at("/books"), follow_redirects=True) as redirected,
            ):
                discovery = {"url": f"{up.admin}/targets", "refresh_interval": "1s"}
                scrape = {"job_name": "lobby-gateway", "http_sd_configs": [discovery]}
                async with prometheus(tmp_path, [scrape], rules=RULES) as server:
                    await proxied.connect_all(PRICES)
                    await redirected.connect_all(BOOKS)
                    await up.until_clients(PRICES + BOOKS)
                    await every_process_is_scraped(server, up)

                    empty: list[str] = []

                    async def all_show_data() -> bool:
                        empty[:] = await without_data(server, panels(without=IN_CLUSTERS), window=WINDOW)
                        return not empty

                    await until(all_show_data, deadline=20, every=1, describe=lambda: "\n".join(empty))
                    expected = {
                        "Clients": PRICES + BOOKS,
                        "Lobbies": len(up.lobby_processes()),
                        "Disconnected origins": 0,
                    }
                    for title, value in expected.items():
                        await shows(server, title, value, value)
                    await shows(
                        server, "Deliveries per second", *(RATE * (PRICES + BOOKS) * share for share in (0.5, 1.5))
                    )
                    await until(lambda: no_alert(server), deadline=20, every=0.5)

                    await origin.process.stop(deadline=5)

                    async def noticed() -> bool:
                        away = await server.query('ALERTS{alertname="LobbyOriginAway", alertstate="pending"}')
                        return {labels["lobby"] for labels, _ in away} == {"prices", "books"}

                    await until(noticed, deadline=20, every=0.5, describe=origin.process.tail)

    run(main(), deadline=100)
