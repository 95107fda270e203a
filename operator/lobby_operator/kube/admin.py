"""The admin port of the operator: whether it works, what it knows, and its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lobby_gateway.http.admin import AdminRequest, AdminResponse, Routes, health_handlers, metrics_handler
from lobby_gateway.metrics import Samples, registry
from lobby_operator import metrics
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.lease import Lease
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.kube.metrics import API_CALLS, OPERATOR, read_calls, read_operator


def routes(
    host: ControllerManager,
    lease: Lease,
    apis: Sequence[KubeApi],
    *,
    ready: Callable[[], str],
    alive: Callable[[], str],
) -> Routes:
    """The routes.

    Args:
        host: what it does.
        lease: whether it may.
        apis: all that calls the API.
        ready: why it could not act now; empty: it could.
        alive: why it is to be started again; empty: it need not be.
    """

    async def lobbies(_request: AdminRequest) -> AdminResponse:
        told = {"acts": host.acts, "holder": lease.holder, "greeters": host.greeters(), "items": host.items()}
        return AdminResponse.json(told)

    def read() -> Samples:
        calls: Counter[tuple[str, str, str]] = Counter()
        seconds: Counter[tuple[str, str]] = Counter()
        for api in apis:
            calls.update(api.calls)
            seconds.update(api.seconds)
        return {
            **metrics.read(host.reconcilers, host.greeters_serving, host.lag, host.statuses, leader=lease.holds()),
            **read_calls(calls, seconds),
            **read_operator(host.status_writes, host.recorder.gathering.dropped, host.known),
        }

    return {
        ("GET", "/lobbies"): lobbies,
        ("GET", "/metrics"): metrics_handler(registry((*metrics.LOBBY_HOST, *API_CALLS, *OPERATOR), read), large=True),
        **health_handlers(ready, alive),
    }
