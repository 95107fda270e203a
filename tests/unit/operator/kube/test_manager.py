"""The lobby host of a cluster: what informers tell gets to whom it concerns, and a standby only keeps it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from tests.support.kube_api import FakeKubeApi
from tests.support.waiting import until
from tests.unit.operator.kube.cluster import LOBBIES_PATH, called
from tests.unit.operator.kube.objects import lobby_resource

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.settings import PodSettings

PRICES = f"{LOBBIES_PATH.format('shop')}/prices"


def pod(name: str, lobby: str = "prices", *, owner: str = "uid-of-shop-prices", **status: Any) -> Change:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-11-25T10:00:00Z",
        "labels": {"lobby-gateway.io/lobby": lobby},
        "ownerReferences": [{"uid": owner, "controller": True}],
        "managedFields": [{"manager": "x" * 5000}],
    }
    return Change(f"shop/{name}", {"metadata": metadata, "spec": {"containers": ["x" * 5000]}, "status": status})


@asynccontextmanager
async def hosting() -> AsyncIterator[tuple[FakeKubeApi, ControllerManager]]:
    async with called() as (server, api):
        host = ControllerManager(api, PodSettings(image="lobby", token_secret="token"), "one")
        try:
            yield server, host
        finally:
            await host.close()


def seen(server: FakeKubeApi, host: ControllerManager, **fields: Any) -> None:
    """A Lobby is there, on the server and for the host."""
    resource = lobby_resource(**fields)
    path = f"{LOBBIES_PATH.format('shop')}/{resource['metadata']['name']}"
    host.lobby_changed(Change(f"shop/{resource['metadata']['name']}", server.put(path, resource)))


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_standby_keeps_what_it_is_told_and_calls_nobody() -> None:
    async def main() -> None:
        async with hosting() as (server, host):
            seen(server, host)
            host.lobbies_listed()
            host.pod_changed(pod("prices-1"))
            host.greeter_changed(Change("system/g-1", {"metadata": {"name": "g-1"}, "status": {}}))
            assert host.known == {"lobbies": 1, "pods": 1, "greeters": 1}
            assert (host.reconcilers, host.statuses, host.greeters_serving, host.greeters()) == ([], {}, 0, {})
            assert host.waiting("shop/prices", 5) == 0
            assert server.asked == []

    run(main())


def test_when_it_begins_a_lobbys_worker_knows_the_pods_that_there_were() -> None:
    async def main() -> None:
        async with hosting() as (server, host):
            seen(server, host, spareSeats=0)
            host.lobbies_listed()
            host.pod_changed(pod("prices-1"))
            host.pod_changed(pod("books-1", "books"))
            host.begin()
            (reconciler,) = host.reconcilers
            await until(lambda: [lobby.name for lobby in reconciler.observed.lobbies] == ["prices-1"])
            host.pod_changed(pod("prices-2"))
            host.pod_changed(Change("shop/prices-1", None))
            host.pod_changed(Change("shop/unknown-1", None))
            await until(lambda: [lobby.name for lobby in reconciler.observed.lobbies] == ["prices-2"])
            assert host.known["pods"] == 2

    run(main())


def test_a_pod_is_of_the_lobby_that_it_names_now() -> None:
    async def main() -> None:
        async with hosting() as (server, host):
            seen(server, host, spareSeats=0)
            host.lobbies_listed()
            host.pod_changed(pod("prices-1"))
            host.begin()
            (reconciler,) = host.reconcilers
            await until(lambda: reconciler.observed.lobbies)
            host.pod_changed(pod("prices-1", "books"))
            await until(lambda: not reconciler.observed.lobbies)
            host.pod_changed(pod("stranger", ""))
            assert host.known["pods"] == 1

    run(main())


def test_of_pods_only_what_is_read_is_kept() -> None:
    async def main() -> None:
        async with hosting() as (_, host):
            host.pod_changed(pod("prices-1", podIP="10.0.0.1", phase="Running", hostIP="x" * 5000))
            kept = json.dumps(host._pods)
            assert "10.0.0.1" in kept
            assert "xxxx" not in kept

    run(main())


def test_every_lobby_is_shown_without_what_may_be_secret() -> None:
    async def main() -> None:
        async with hosting() as (server, host):
            seen(server, host, origin={"url": "ws://feed/?key=s3cret", "headers": [{"name": "a", "value": "s3cret"}]})
            seen(server, host, name="bad", origin={"url": "ws://feed/", "onConnect": [{"send": "$(NO) s3cret"}]})
            host.begin()
            host.pod_changed(pod("prices-1"))
            shown = {item["metadata"]["name"]: item for item in host.items()}
            assert shown["prices"]["spec"]["origin"]["url"] == "ws://feed/"
            assert shown["prices"]["lobbies"]["prices-1"]["report"] is None
            assert "onConnect[0].send" in shown["bad"]["problem"]
            assert "s3cret" not in json.dumps(host.items())

    run(main())


def test_greeters_are_asked_more_often_while_anything_moves() -> None:
    async def main() -> None:
        async with hosting() as (_, host):
            host.begin()
            host.set_active("shop/prices", active=True)
            host.set_active("shop/books", active=True)
            host.set_active("shop/prices", active=False)
            assert host._greeters is not None
            assert host._greeters._fast
            host.set_active("shop/books", active=False)
            assert not host._greeters._fast

    run(main())
