"""The admin port of `lobby up`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from lobby_gateway.http.admin import AdminRequest, AdminResponse
from lobby_gateway.metrics import LoopLag
from lobby_gateway.resource.overview import Overview
from lobby_operator.local.admin import ScrapeTarget, routes
from lobby_operator.local.sources import from_url
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.reconcile.reconciler import Reconciler


class Served:
    """A lobby host that stands still."""

    def __init__(self, workers: Sequence[Reconciler] = ()) -> None:
        self.workers = workers
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


def ask(served: Served, path: str) -> AdminResponse:
    async def answer() -> AdminResponse:
        request = AdminRequest(method="GET", path=path, query="", headers={})
        return await routes(served)["GET", path](request)

    return asyncio.run(answer())


def test_lobbies_are_a_list_as_json() -> None:
    answer = ask(Served(), "/lobbies")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.body == b'{"items": [{"metadata": {"name": "prices"}}]}\n'


def test_prometheus_is_told_where_to_look() -> None:
    answer = ask(Served(), "/targets")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == [
        {"targets": ["127.0.0.1:1"], "labels": {"job": "greeter", "pod": "greeter-1"}},
        {"targets": ["127.0.0.1:2"], "labels": {"job": "lobby", "pod": "prices-1", "lobby": "prices"}},
    ]


def test_the_status_page_and_what_it_shows_are_served() -> None:
    page = ask(Served(), "/")
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    assert json.loads(ask(Served(), "/status").body)["name"] == "lobby host test/1"


def test_health_and_readiness() -> None:
    served = Served()
    assert ask(served, "/healthz").status == 200
    assert ask(served, "/readyz").status == 200
    served.problem = "no greeter answers"
    assert ask(served, "/healthz").status == 200
    assert (ask(served, "/readyz").status, ask(served, "/readyz").body) == (503, b"no greeter answers\n")


def worker(name: str) -> Reconciler:
    lobby = from_url("ws://h/", name=name, seats=None, option="test").lobby

    async def make() -> Reconciler:
        return Reconciler(lobby, None, waiting=int, told=print, passed=print)  # type: ignore[arg-type]

    return asyncio.run(make())


def test_metrics_tell_lobbies_by_phase_seats_clients_and_actions() -> None:
    prices, books = worker("prices"), worker("books")
    prices.observed = Observed(
        lobbies=(
            LobbyState(name="prices-1", index=1, phase=Phase.READY, created_at=0.0, seats=512, clients=500),
            LobbyState(name="prices-2", index=2, phase=Phase.DRAINING, created_at=0.0, seats=512, clients=7),
        ),
        waiting=3,
    )
    prices.actions["Create", "ClientsWait"] = 2
    prices.failures = 1
    lines = ask(Served([prices, books]), "/metrics").body.decode().splitlines()
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
