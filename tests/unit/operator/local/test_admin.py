"""The admin port of `lobby up`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lobby_gateway.http.admin import AdminRequest, AdminResponse
from lobby_gateway.metrics import LoopLag
from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginReport, OriginState
from lobby_gateway.resource.lobby_overview import Item, Overview
from lobby_operator.local.admin import ScrapeTarget, overview_item, routes
from lobby_operator.local.lobby_sources import from_url
from lobby_operator.planner.demand import Demand
from lobby_operator.planner.state import LobbyState, Observed, Phase, PollResult
from lobby_operator.reconcile.reconciler import Reconciler


class FakeHost:
    """A lobby host with fixed answers."""

    def __init__(self, reconcilers: Sequence[Reconciler] = ()) -> None:
        self.reconcilers = reconcilers
        self.greeters_serving = 2
        self.statuses: dict[str, dict[str, Any]] = {}
        self.lag = LoopLag()
        self.problem = ""

    def overview(self) -> Overview:
        return Overview(kind="lobby host", name="lobby host test/1", version="0", seconds=1.5)

    def targets(self) -> list[ScrapeTarget]:
        return [
            ScrapeTarget("127.0.0.1:1", "greeter", "greeter-1"),
            ScrapeTarget("127.0.0.1:2", "lobby", "prices-1", "prices"),
        ]

    def items(self) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "prices"}}]

    def not_ready(self) -> str:
        return self.problem


def get(host: FakeHost, path: str) -> AdminResponse:
    async def answer() -> AdminResponse:
        request = AdminRequest(method="GET", path=path, query="", headers={})
        return await routes(host)["GET", path](request)

    return asyncio.run(answer())


def test_lobbies_are_listed_as_json() -> None:
    answer = get(FakeHost(), "/lobbies")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body == b'{"items": [{"metadata": {"name": "prices"}}]}\n'


def test_scrape_targets_are_listed_for_prometheus() -> None:
    answer = get(FakeHost(), "/targets")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == [
        {"targets": ["127.0.0.1:1"], "labels": {"job": "greeter", "pod": "greeter-1"}},
        {"targets": ["127.0.0.1:2"], "labels": {"job": "lobby", "pod": "prices-1", "lobby": "prices"}},
    ]


def test_status_page_and_its_data_are_served() -> None:
    page = get(FakeHost(), "/")
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    assert json.loads(get(FakeHost(), "/status").body)["name"] == "lobby host test/1"


def test_health_and_readiness() -> None:
    host = FakeHost()
    assert get(host, "/healthz").status == 200
    assert get(host, "/readyz").status == 200
    host.problem = "no greeter responds"
    assert get(host, "/healthz").status == 200
    assert (get(host, "/readyz").status, get(host, "/readyz").body) == (503, b"no greeter responds\n")


def reconciler(name: str) -> Reconciler:
    lobby = from_url("ws://h/", name=name, seats=None, option="test").lobby

    async def make() -> Reconciler:
        return Reconciler(lobby, None, demand=lambda _taken: Demand(), on_action=print, on_plan=print)  # type: ignore[arg-type]

    return asyncio.run(make())


def test_metrics_count_lobbies_by_phase_seats_clients_and_actions() -> None:
    prices, books = reconciler("prices"), reconciler("books")
    prices.observed = Observed(
        lobbies=(
            LobbyState(name="prices-1", index=1, phase=Phase.READY, created_at=0.0, seats=512, clients=500),
            LobbyState(name="prices-2", index=2, phase=Phase.DRAINING, created_at=0.0, seats=512, clients=7),
        ),
        waiting=3,
    )
    prices.actions["Create", "ClientsWait"] = 2
    prices.failures = 1
    lines = get(FakeHost([prices, books]), "/metrics").body.decode().splitlines()
    for line in (
        'lobby_operator_lobbies{lobby="prices",phase="Ready"} 1.0',
        'lobby_operator_lobbies{lobby="prices",phase="Draining"} 1.0',
        'lobby_operator_lobbies{lobby="prices",phase="Silent"} 0.0',
        'lobby_operator_lobbies{lobby="books",phase="Ready"} 0.0',
        'lobby_operator_clients{lobby="prices"} 507.0',
        'lobby_operator_seats{lobby="prices"} 512.0',
        'lobby_operator_waiting_clients{lobby="prices"} 3.0',
        'lobby_operator_actions_total{action="Create",lobby="prices",reason="ClientsWait"} 2.0',
        'lobby_operator_actions_total{action="Drain",lobby="books",reason="Sparse"} 0.0',
        'lobby_operator_failed_passes_total{lobby="prices"} 1.0',
        'lobby_operator_failed_passes_total{lobby="books"} 0.0',
        "lobby_operator_greeters 2.0",
    ):
        assert line in lines


LOBBY = from_url("ws://h/", name="prices", seats=None, option="test").lobby
STATUS = {
    "lobbies": [
        {"name": "prices-1", "phase": "Ready", "clients": 1, "seats": 512, "origin": "Idle"},
        {"name": "prices-2", "phase": "Starting"},
    ],
    "open": [{"name": "prices-1", "address": "h:1", "clients": 1, "seats": 512}],
}


def report(**fields: int) -> LobbyReport:
    origin = OriginReport(state=OriginState.WAITING, reason="connection refused", retry_in_seconds=12.0)
    return replace(LobbyReport(name="prices-1", lobby="prices", seats=512, origin=origin), **fields)  # type: ignore[arg-type]


def page_item(
    polls: dict[str, PollResult[LobbyReport]], *greeters: PollResult[GreeterReport], now: float = 100.0
) -> Item:
    return overview_item(LOBBY, STATUS, polls, greeters, address="ws://h:8000/prices", now=now)


def test_report_of_a_lobby_overrides_its_status() -> None:
    item = page_item({"prices-1": PollResult(report(clients=9, messages=500), 98.0), "prices-2": PollResult()})
    one, two = item.lobbies
    assert (one.phase, one.clients, one.origin, one.problem) == ("open", 9, "Waiting", "connection refused")
    assert (one.messages, one.at, one.retry_in_seconds) == (500, 98.0, 10.0)
    assert (two.phase, two.messages) == ("starting", None)
    assert item.address == "ws://h:8000/prices"


def test_overdue_retry_is_due_now() -> None:
    item = page_item({"prices-1": PollResult(report(), 50.0)})
    assert item.lobbies[0].retry_in_seconds == 0.0


def test_counts_add_up_lobbies_and_greeters() -> None:
    greeters: list[PollResult[GreeterReport]] = [
        PollResult(
            GreeterReport(
                clients={"prices": 5, "books": 99},
                waiting={"prices": 2},
                dropped={"prices": 7, "books": 99},
                dropped_by={"prices": {"slow": 5, "memory": 2}, "books": {"slow": 99}},
                deliveries={"prices": 100},
                moves_exact={"prices": 1},
                moves_live={"prices": 4},
            ),
            99.0,
        ),
        PollResult(GreeterReport(clients={"prices": 1}), 97.0),
        PollResult(),
    ]
    own = replace(report(direct=3, dropped=10, deliveries=20), dropped_by={"slow": 3, "old": 7})
    counts = page_item({"prices-1": PollResult(own, 98.0)}, *greeters).counts
    assert (counts.clients, counts.waiting) == (9, 2)
    assert (counts.dropped, counts.deliveries) == (17, 120)
    assert counts.dropped_by == {"slow": 8, "old": 7, "memory": 2}
    assert (counts.moves_exact, counts.moves_live) == (1, 4)
    assert counts.at == 99.0


def test_counts_are_zero_before_the_first_report() -> None:
    item = page_item({})
    assert (item.counts.clients, item.counts.at) == (0, 100.0)
