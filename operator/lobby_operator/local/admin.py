"""The admin port of `lobby up`: status page, Lobbies as JSON, metrics, and scrape targets for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lobby_gateway.http import status_page
from lobby_gateway.http.admin import AdminRequest, AdminResponse, Routes, health_handlers, metrics_handler
from lobby_gateway.metrics import LoopLag, Samples, registry
from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, dropped_by
from lobby_gateway.resource.lobby_overview import (
    Item,
    LobbyCounts,
    LobbyOverview,
    Overview,
    item,
    lobby_overviews,
    with_seats,
)
from lobby_gateway.resource.spec import Lobby
from lobby_gateway.resource.status import LobbyStatus
from lobby_operator import metrics
from lobby_operator.planner.state import PollResult
from lobby_operator.reconcile.reconciler import Reconciler


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A process that Prometheus can scrape.

    Attributes:
        address: IP address and port of its admin port.
        job: `lobby`, `greeter` or `operator`.
        name: name of the process.
        lobby: the Lobby of a lobby; empty for other processes.
    """

    address: str
    job: str
    name: str
    lobby: str = ""

    def to_json(self) -> dict[str, Any]:
        """As in Prometheus' HTTP service discovery, with the labels that the chart's PodMonitor gives to pods."""
        labels = {"job": self.job, "pod": self.name}
        if self.lobby:
            labels["lobby"] = self.lobby
        return {"targets": [self.address], "labels": labels}


class AdminState(Protocol):
    """What the admin port reads of the lobby host."""

    @property
    def lag(self) -> LoopLag:
        """Lag of its event loop."""

    @property
    def reconcilers(self) -> Sequence[Reconciler]:
        """One for each Lobby."""

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby that has one."""

    @property
    def greeters_serving(self) -> int:
        """Number of greeters that respond."""

    def overview(self) -> Overview:
        """Everything on the status page."""

    def targets(self) -> list[ScrapeTarget]:
        """Every process that serves `/metrics`."""

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types."""

    def not_ready(self) -> str:
        """Why no client can be served now; empty if clients can."""


def routes(state: AdminState) -> Routes:
    """The routes of the admin port."""

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json({"items": state.items()})

    async def targets(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json([target.to_json() for target in state.targets()])

    def read() -> Samples:
        return metrics.read(state.reconcilers, state.greeters_serving, state.lag, state.statuses)

    return {
        **status_page.routes(state.overview),
        ("GET", "/lobbies"): lobbies,
        ("GET", "/targets"): targets,
        ("GET", "/metrics"): metrics_handler(registry(metrics.LOBBY_HOST, read)),
        **health_handlers(state.not_ready),
    }


def overview_item(
    lobby: Lobby,
    status: Mapping[str, Any],
    lobby_polls: Mapping[str, PollResult[LobbyReport]],
    greeter_polls: Iterable[PollResult[GreeterReport]],
    *,
    address: str,
    now: float,
) -> Item:
    """A Lobby on the status page, with what its lobbies and the greeters report.

    Args:
        lobby: the Lobby.
        status: its status, made by the lobby host.
        lobby_polls: latest poll result of each of its lobbies, by name.
        greeter_polls: latest poll results of the greeters.
        address: where clients connect.
        now: the time, in seconds.
    """
    parsed = LobbyStatus.from_json(status)
    lobbies = [_with_report(each, lobby_polls.get(each.name), now) for each in lobby_overviews(parsed).values()]
    greeter_polls = tuple(greeter_polls)
    greeters = [result.report for result in greeter_polls if result.report is not None]
    own = [result.report for result in lobby_polls.values() if result.report is not None]
    key = lobby.key
    return item(
        lobby,
        parsed,
        tuple(lobbies),
        address=address,
        counts=LobbyCounts(
            clients=sum(report.direct for report in own) + sum(report.clients.get(key, 0) for report in greeters),
            waiting=sum(report.waiting.get(key, 0) for report in greeters),
            deliveries=sum(report.deliveries for report in own)
            + sum(report.deliveries.get(key, 0) for report in greeters),
            dropped=sum(report.dropped for report in own) + sum(report.dropped.get(key, 0) for report in greeters),
            dropped_by=dropped_by(key, own, greeters),
            moves_exact=sum(report.moves_exact.get(key, 0) for report in greeters),
            moves_live=sum(report.moves_live.get(key, 0) for report in greeters),
            at=max([*(each.at for each in lobby_polls.values()), *(each.at for each in greeter_polls)], default=now),
        ),
    )


def _with_report(overview: LobbyOverview, result: PollResult[LobbyReport] | None, now: float) -> LobbyOverview:
    if result is None or result.report is None:
        return overview
    report = result.report
    updated = replace(
        overview,
        origin=report.origin.state.value,
        via=tuple(report.via),
        problem=report.origin.reason,
        retry_in_seconds=max(0.0, report.origin.retry_in_seconds - (now - result.at)),
        messages=report.messages,
        at=result.at,
    )
    return with_seats(updated, report.clients, report.seats)
