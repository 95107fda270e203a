"""The admin port of `lobby up`: the status page, what there is as JSON, and the lobby host's own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lobby_gateway.greeter import status_page
from lobby_gateway.metrics import LoopLag, Readings, registry
from lobby_gateway.model.overview import Overview, shown_url
from lobby_gateway.net.admin import AdminRequest, AdminResponse, Routes, health_handlers, metrics_handler
from lobby_operator import metrics
from lobby_operator.worker import Worker


class Served(Protocol):
    """What the admin port reads of the lobby host."""

    @property
    def lag(self) -> LoopLag:
        """How late its event loop is."""

    @property
    def workers(self) -> Sequence[Worker]:
        """One for each Lobby."""

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Status of each Lobby that has one."""

    @property
    def greeters_serving(self) -> int:
        """Greeters that answer."""

    def overview(self) -> Overview:
        """All that the status page shows."""

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types."""

    def not_ready(self) -> str:
        """Why no client can be served now; empty: it can."""


def routes(served: Served) -> Routes:
    """The routes of the admin port."""

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json({"items": served.items()})

    def read() -> Readings:
        return metrics.read(served.workers, served.greeters_serving, served.lag, served.statuses)

    return {
        **status_page.routes(served.overview),
        ("GET", "/lobbies"): lobbies,
        ("GET", "/metrics"): metrics_handler(registry(metrics.LOBBY_HOST, read)),
        **health_handlers(served.not_ready),
    }


def shown_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what may be secret: headers, query, texts sent, and what stands in the URL beside host and path."""
    origin = spec["origin"]
    hidden = {"headers", "query", "onConnect", "secrets", "tls"}
    kept = {key: value for key, value in origin.items() if key not in hidden}
    return {**spec, "origin": {**kept, "url": shown_url(origin["url"])}}
