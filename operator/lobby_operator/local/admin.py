"""The admin port of `lobby up`: what there is as JSON, and the lobby host's own metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lobby_gateway.net.admin import AdminRequest, AdminResponse, Routes, health_handlers, metrics_handler
from lobby_operator.state import Phase
from lobby_operator.worker import Worker


class Served(Protocol):
    """What the admin port reads of the lobby host."""

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

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(HostCollector(served))
    return {
        ("GET", "/lobbies"): lobbies,
        ("GET", "/metrics"): metrics_handler(registry),
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


class HostCollector(Collector):
    """The lobby host's figures, read when Prometheus scrapes."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def collect(self) -> Iterator[Metric]:
        """Reads all figures (called at each scrape)."""
        workers = self._served.workers
        lobbies = GaugeMetricFamily("lobby_operator_lobbies", "Lobbies, by Lobby and phase.", labels=["lobby", "phase"])
        actions = CounterMetricFamily(
            "lobby_operator_actions", "Lobbies created, drained, deleted.", labels=["lobby", "action", "reason"]
        )
        for worker in workers:
            for phase in Phase:
                lobbies.add_metric([worker.lobby.name, phase.value], len(worker.observed.in_phase(phase)))
            for (action, reason), count in worker.actions.items():
                actions.add_metric([worker.lobby.name, action, reason], count)
        yield lobbies
        yield actions
        for name, text, read in _FIGURES:
            gauge = GaugeMetricFamily(name, text, labels=["lobby"])
            for worker in workers:
                gauge.add_metric([worker.lobby.name], read(worker))
            yield gauge
        failures = CounterMetricFamily(
            "lobby_operator_failed_passes", "Passes over a Lobby that failed and were done again.", labels=["lobby"]
        )
        for worker in workers:
            failures.add_metric([worker.lobby.name], worker.failures)
        yield failures
        yield GaugeMetricFamily("lobby_operator_greeters", "Greeters that answer.", self._served.greeters_serving)


_FIGURES: tuple[tuple[str, str, Callable[[Worker], float]], ...] = (
    (
        "lobby_operator_clients",
        "Seats taken, as lobbies said last.",
        lambda w: sum(each.clients for each in w.observed.lobbies),
    ),
    (
        "lobby_operator_seats",
        "Seats of lobbies that take clients.",
        lambda w: sum(each.seats for each in w.observed.in_phase(Phase.READY)),
    ),
    ("lobby_operator_waiting_clients", "Clients without a seat.", lambda w: w.observed.waiting),
)
