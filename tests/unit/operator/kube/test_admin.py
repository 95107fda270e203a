"""The admin port of an operator in a cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.unit.operator.kube.cluster import called
from tests.unit.operator.kube.objects import lobby_resource

from lobby_gateway.http.admin import AdminRequest, AdminResponse
from lobby_gateway.resource.list_watch import Change
from lobby_operator import metrics
from lobby_operator.kube.admin import routes
from lobby_operator.kube.election import Election
from lobby_operator.kube.lease import Lease
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.settings import PodSettings


class Port:
    """Routes, and what they are told."""

    def __init__(self) -> None:
        self.ready = ""
        self.alive = ""
        self.routes: Any = {}

    async def get(self, path: str) -> AdminResponse:
        answer = await self.routes["GET", path](AdminRequest(method="GET", path=path, query="", headers={}))
        assert isinstance(answer, AdminResponse)
        return answer


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def asked(port: Port, path: str, *, begin: bool = False) -> AdminResponse:
    async with called() as (server, api):
        host = ControllerManager(api, PodSettings(image="lobby", token_secret="token"), "one")
        lease = Lease(api, Election("one"), namespace="system", name="lobby-operator")
        resource = server.put("/apis/lobby-gateway.io/v1alpha1/namespaces/shop/lobbies/prices", lobby_resource())
        host.lobby_changed(Change("shop/prices", resource))
        if begin:
            host.begin()
        port.routes = routes(host, lease, [api, api], ready=lambda: port.ready, alive=lambda: port.alive)
        try:
            return await port.get(path)
        finally:
            await host.close()


def test_lobbies_are_shown_with_who_acts() -> None:
    async def main() -> None:
        told = json.loads((await asked(Port(), "/lobbies")).body)
        assert (told["acts"], told["holder"], told["greeters"]) == (False, "", {})
        assert [item["metadata"]["name"] for item in told["items"]] == ["prices"]

    run(main())


def test_probes_say_what_is_wrong() -> None:
    async def main() -> None:
        port = Port()
        port.ready, port.alive = "not all objects are known yet", "pods were not looked at for 600 s"
        for path, text in (("/readyz", port.ready), ("/healthz", port.alive)):
            answer = await asked(port, path)
            assert (answer.status, answer.body.decode().strip()) == (503, text)

    run(main())


def test_the_metrics_are_those_of_every_lobby_host_and_the_operators_own() -> None:
    async def main() -> None:
        page = (await asked(Port(), "/metrics", begin=True)).body.decode()
        found = {family.name for family in text_string_to_metric_families(page)}
        for definition in (*metrics.LOBBY_HOST, *API_CALLS, *OPERATOR):
            assert definition.name.removesuffix("_total") in found
        assert 'lobby_operator_known_objects{resource="lobbies"} 1.0' in page
        assert 'lobby_operator_status_writes_total{lobby="shop/prices"} 0.0' in page
        assert "lobby_operator_leader 0.0" in page

    run(main())
