"""The admin port of `lobby up`: what there is as JSON, and the lobby host's own metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from lobby_gateway.metrics import LoopLag, Readings, registry
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
    def greeters_serving(self) -> int:
        """Greeters that answer."""

    def items(self) -> list[dict[str, Any]]:
        """Every Lobby as JSON types."""

    def not_ready(self) -> str:
        """Why no client can be served now; empty: it can."""


def routes(served: Served) -> Routes:
    """The routes of the admin port."""

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        return AdminResponse.json({"items": served.items()})

    def read() -> Readings:
        return metrics.read(served.workers, served.greeters_serving, served.lag)

    return {
        ("GET", "/lobbies"): lobbies,
        ("GET", "/metrics"): metrics_handler(registry(metrics.LOBBY_HOST, read)),
        **health_handlers(served.not_ready),
    }


def shown_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what may be secret: headers, query, texts sent, and what stands in the URL beside host and path."""
    origin = spec["origin"]
    url = urlsplit(origin["url"])
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    netloc = host if url.port is None else f"{host}:{url.port}"
    hidden = {"headers", "query", "onConnect", "secrets", "tls"}
    kept = {key: value for key, value in origin.items() if key not in hidden}
    return {**spec, "origin": {**kept, "url": url._replace(netloc=netloc, query="").geturl()}}
