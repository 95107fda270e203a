"""Real processes export exactly the metrics that docs/metrics.md lists."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from tests.support import web
from tests.support.processes import ROOT
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
CLIENTS = 6


def documented(*sections: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind and labels of each metric in some sections of the page."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for section in sections:
        start = PAGE.index(f"\n## {section}\n")
        text = PAGE[start : PAGE.index("\n## ", start + 1)]
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE):
            found[name] = (kind, tuple(re.findall(r"\w+", labels)))
    assert found
    return found


BUILD = {"version": version("lobby-gateway"), "python": platform.python_version()}
"""Labels of `*_build_info`."""


def label_values() -> dict[tuple[str, str], set[str]]:
    """Listed values by metric and label."""
    text = PAGE[PAGE.index("## Label values") :]
    found = {}
    for label, metrics, values in re.findall(r"^\| `(\w+)` \| (`.*?`) \| (.*) \|$", text, re.MULTILINE):
        for metric in re.findall(r"`(\w+)`", metrics):
            found[metric, label] = set(re.findall(r"`(\w+)`", values))
    assert found
    return found


async def scraped(url: str, *, openmetrics: bool = False) -> dict[str, tuple[str, list[dict[str, str]]]]:
    """Kind and label sets of each exported metric."""
    answer = await web.get(f"{url}/metrics", accept=OPENMETRICS if openmetrics else "text/plain")
    assert answer.status == 200, answer
    parse = openmetrics_families if openmetrics else text_families
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            [{name: value for name, value in sample.labels.items() if name != "le"} for sample in family.samples],
        )
        for family in parse(answer.body.decode())
    }


async def check(url: str, *sections: str) -> None:
    expected = documented(*sections)
    values = label_values()
    for openmetrics in (False, True):
        exported = await scraped(url, openmetrics=openmetrics)
        assert exported.keys() == expected.keys()
        for name, (kind, samples) in exported.items():
            assert kind == expected[name][0], name
            assert samples, name
            assert all(sample.keys() == set(expected[name][1]) for sample in samples), name
            for label in expected[name][1]:
                found = {sample[label] for sample in samples}
                listed = values[name, label]
                if name.endswith("_build_info"):
                    assert found == {BUILD[label]}, (name, label)
                elif name == "lobby_operator_condition":  # only conditions that hold are exported
                    assert found <= (listed or {"prices", "books"}), (name, label)
                else:
                    assert found == (listed or {"prices", "books"}), (name, label)


async def until_served(up: LobbyUp) -> None:
    """Waits until both Lobbies have their clients."""
    reports = await up.until_clients(2 * CLIENTS)
    assert {report["lobby"] for report in reports.values()} == {"prices", "books"}


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_exported_metrics_are_exactly_the_documented_ones(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            resources = [lobby_resource(name, origin.url, routing={"mode": mode}) for name in ("prices", "books")]
            files = [argument for each in resources for argument in ("-f", lobby_file(tmp_path, each))]
            async with lobby_up(*files) as up:
                prices = Swarm(up.at("/prices"), follow_redirects=True)
                async with prices, Swarm(up.at("/books"), follow_redirects=True) as books:
                    for swarm in (prices, books):
                        await swarm.connect_all(CLIENTS)
                        await swarm.each_has(3)
                    await until_served(up)
                    for lobby in up.lobby_processes().values():
                        await check(await up.admin_of(lobby.pid), "A lobby", "Every process")
                    (greeter,) = up.greeter_processes()
                    await check(await up.admin_of(greeter.pid), "A greeter", "Every process")
                    await check(up.admin, "The lobby host", "Every process")

    run(main(), deadline=60)


def test_figures_add_up_between_origin_lobby_and_greeter(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            resource = lobby_resource("prices", origin.url, clients_messages="Forward")
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up, Swarm(up.url) as swarm:
                await swarm.connect_all(CLIENTS)
                await swarm.each_has(10)
                swarm.clients[0].send("hello")
                (lobby,) = up.lobby_processes().values()
                (greeter,) = up.greeter_processes()
                inner, outer = await up.admin_of(lobby.pid), await up.admin_of(greeter.pid)

                async def forwarded() -> bool:
                    return (await web.metrics(f"{inner}/metrics"))("lobby_client_messages_total", fate="forwarded") == 1

                await until(forwarded)

                async def polled() -> bool:
                    return (await up.metrics())("lobby_operator_clients", lobby="prices") == CLIENTS

                await until(polled, describe="the lobby host to poll its lobbies")
                of_greeter = await web.metrics(f"{outer}/metrics")
                of_lobby = await web.metrics(f"{inner}/metrics")
                assert of_lobby("lobby_client_message_bytes_total") == len("hello")
                assert of_greeter("greeter_client_message_bytes_total") == len("hello")
                assert of_greeter("greeter_client_messages_total", fate="forwarded") == 1
                assert (
                    of_lobby("lobby_clients", via="trunk") == CLIENTS == of_greeter("greeter_clients", lobby="prices")
                )
                assert of_lobby("lobby_origin_state", state="Connected") == 1
                assert of_lobby("lobby_origin_connections_total") == 1
                # The lobby is scraped last, so it has counted everything that the greeter received over the trunk.
                messages = of_greeter("greeter_messages_total")
                assert 10 <= messages <= of_lobby("lobby_messages_total") == of_lobby("lobby_stream_offset")
                assert of_greeter("greeter_stream_offset", lobby="prices") <= of_lobby("lobby_stream_offset")
                # Each trunk message went to all clients connected at that time; all messages have the same size.
                size = of_greeter("greeter_message_bytes_total") / messages
                deliveries = of_greeter("greeter_deliveries_total")
                assert 10 * CLIENTS <= deliveries <= messages * CLIENTS
                assert of_greeter("greeter_delivered_bytes_total") == pytest.approx(deliveries * size, rel=0.1)
                assert of_lobby("lobby_event_loop_lag_seconds_count") >= 0

    run(main(), deadline=60)
