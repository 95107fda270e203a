"""The admin port of `lobby up`: the status page, what there is as JSON, its own metrics, and where those of all others are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lobby_gateway.http import status_page
from lobby_gateway.http.admin import AdminRequest, AdminResponse, Routes, health_handlers, metrics_handler
from lobby_gateway.metrics import LoopLag, Readings, registry
from lobby_gateway.resource.overview import Overview
from lobby_operator import metrics
from lobby_operator.reconcile.reconciler import Reconciler


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """A process that Prometheus can scrape.

    Attributes:
        address: IP address and port of its admin port.
        job: what it is: `lobby`, `greeter` or `operator`.
        name: of the process.
        lobby: the Lobby of a lobby; empty for all others.
    """

    address: str
    job: str
    name: str
    lobby: str = ""

    def to_json(self) -> dict[str, Any]:
        """As Prometheus' HTTP service discovery reads it, with the labels that the chart's PodMonitor gives to pods."""
        labels = {"job": self.job, "pod": self.name}
        if self.lobby:
            labels["lobby"] = self.lobby
        return {"targets": [self.address], "labels": labels}


class Served(Protocol):
    """What the admin port reads of the lobby host."""

    @property
    def lag(self) -> LoopLag:
        """How late its event loop is."""

    @property
    def workers(self) -> Sequence[Reconciler]:
        """One for each Lobby."""

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby that has one."""

    @property
    def greeters_serving(self) -> int:
        """Greeters that answer."""

    def overview(self) -> Overview:
        """All that the status page shows."""

    def targets(self) -> list[ScrapeTarget]:
        """Every process that answers on `/metrics`."""

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types."""

    def not_ready(self) -> str:
        """Why no client can be served now; empty: it can."""


def routes(served: Served) -> Routes:
    """The routes of the admin port."""

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json({"items": served.items()})

    async def targets(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json([target.to_json() for target in served.targets()])

    def read() -> Readings:
        return metrics.read(served.workers, served.greeters_serving, served.lag, served.statuses)

    return {
        **status_page.routes(served.overview),
        ("GET", "/lobbies"): lobbies,
        ("GET", "/targets"): targets,
        ("GET", "/metrics"): metrics_handler(registry(metrics.LOBBY_HOST, read)),
        **health_handlers(served.not_ready),
    }
