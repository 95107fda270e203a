"""The manager hands objects to their controllers; a standby only stores them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi
from tests.support.waiting import until
from tests.unit.operator.kube.support import LOBBIES_PATH, connected, lobby_resource, operator_settings

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.lobby_controller import LobbyController
from lobby_operator.kube.manager import ControllerManager
from lobby_operator.planner.demand import Demand
from lobby_operator.settings import PolicySettings

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
async def standby() -> AsyncIterator[tuple[FakeKubeApi, ControllerManager]]:
    async with connected() as (server, api):
        manager = ControllerManager(api, operator_settings())
        try:
            yield server, manager
        finally:
            await manager.close()


def put_lobby(server: FakeKubeApi, manager: ControllerManager, **fields: Any) -> None:
    """Puts a Lobby on the server, and reports it to the manager."""
    resource = lobby_resource(**fields)
    path = f"{LOBBIES_PATH.format('shop')}/{resource['metadata']['name']}"
    manager.lobby_changed(Change(f"shop/{resource['metadata']['name']}", server.put(path, resource)))


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_a_standby_stores_objects_and_calls_nothing() -> None:
    async def main() -> None:
        async with standby() as (server, manager):
            put_lobby(server, manager)
            manager.lobbies_listed()
            manager.pod_changed(pod("prices-1"))
            manager.greeter_changed(Change("system/g-1", {"metadata": {"name": "g-1"}, "status": {}}))
            assert manager.object_counts == {"lobbies": 1, "pods": 1, "greeters": 1}
            assert (manager.reconcilers, manager.statuses, manager.greeters_serving, manager.greeters()) == (
                [],
                {},
                0,
                {},
            )
            assert manager.demand("shop/prices", 5) == Demand()
            assert server.asked == []

    run(main())


def test_a_new_reconciler_knows_all_pods() -> None:
    async def main() -> None:
        async with standby() as (server, manager):
            put_lobby(server, manager, spareSeats=0)
            manager.lobbies_listed()
            manager.pod_changed(pod("prices-1"))
            manager.pod_changed(pod("books-1", "books"))
            manager.start()
            (reconciler,) = manager.reconcilers
            await until(lambda: [lobby.name for lobby in reconciler.observed.lobbies] == ["prices-1"])
            manager.pod_changed(pod("prices-2"))
            manager.pod_changed(Change("shop/prices-1", None))
            manager.pod_changed(Change("shop/unknown-1", None))
            await until(lambda: [lobby.name for lobby in reconciler.observed.lobbies] == ["prices-2"])
            assert manager.object_counts["pods"] == 2

    run(main())


def test_a_time_in_the_status_that_cannot_be_read_counts_as_an_attempt_now(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with standby() as (server, manager):
            resource = lobby_resource(status={"origin": {"connectsUntil": "0001-01-01T00:00:00+05:00"}})
            resource["spec"]["origin"]["limits"]["connects"] = {"count": 1, "seconds": 77}
            manager.lobby_changed(Change("shop/prices", server.put(PRICES, resource)))
            manager.lobbies_listed()
            manager.start()
            (reconciler,) = manager.reconcilers
            until_when = reconciler._peer_lists._permits.blocked_until - asyncio.get_running_loop().time()
            assert 70 < until_when <= 77

    run(main())
    assert "connectsUntil" in caplog.text


def test_a_pod_belongs_to_the_lobby_that_its_label_names_now() -> None:
    async def main() -> None:
        async with standby() as (server, manager):
            put_lobby(server, manager, spareSeats=0)
            manager.lobbies_listed()
            manager.pod_changed(pod("prices-1"))
            manager.start()
            (reconciler,) = manager.reconcilers
            await until(lambda: reconciler.observed.lobbies)
            manager.pod_changed(pod("prices-1", "books"))
            await until(lambda: not reconciler.observed.lobbies)
            manager.pod_changed(pod("stranger", ""))
            assert manager.object_counts["pods"] == 1

    run(main())


def test_all_lobbies_of_a_namespace_share_its_limit() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            manager = ControllerManager(api, operator_settings(policy=PolicySettings(max_lobbies=3)))
            try:
                manager.pod_changed(pod("books-1", "books"))
                manager.pod_changed(pod("books-2", "books"))
                manager.lobbies_listed()
                manager.start()
                put_lobby(server, manager, name="prices", replicas=2, spareSeats=0)

                def problem() -> str:
                    conditions = manager.statuses.get("shop/prices", {}).get("conditions", [])
                    return next((each["message"] for each in conditions if each["type"] == "Scaling"), "")

                await until(lambda: "namespace shop has 3 lobbies, the most that this cluster allows" in problem())
                assert len([path for path in server.objects if "/pods/" in path]) == 1
                manager.pod_changed(Change("shop/books-1", None))
                await until(lambda: len([path for path in server.objects if "/pods/" in path]) == 2, deadline=20)
            finally:
                await manager.close()

    run(main())


def test_a_bug_while_a_lobby_is_closed_ends_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pollers would run on, and the next Lobby of that name would not get its pods."""

    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with standby() as (server, manager):
            manager.lobbies_listed()
            manager.start()
            put_lobby(server, manager)
            with monkeypatch.context() as patch:
                patch.setattr(LobbyController, "close", fail)
                manager.lobby_changed(Change("shop/prices", None))
                with pytest.raises(ZeroDivisionError):
                    async with asyncio.timeout(10):
                        await manager.wait_failed()

    run(main())


def test_only_what_is_read_of_pods_is_kept() -> None:
    async def main() -> None:
        async with standby() as (_, manager):
            long = pod("prices-1", podIP="10.0.0.1", phase="Running", hostIP="x" * 5000)
            manager.pod_changed(long)
            manager.greeter_changed(Change("system/g-1", long.object))
            for kept in (repr(manager._pods), repr(manager._greeter_pods)):
                assert "10.0.0.1" in kept
                assert "xxxx" not in kept

    run(main())


def test_lobbies_are_shown_without_anything_secret() -> None:
    async def main() -> None:
        async with standby() as (server, manager):
            secret = {"headers": [{"name": "a", "value": "s3cret"}], "every": [{"seconds": 9, "send": "s3cret"}]}
            put_lobby(server, manager, origin={"url": "ws://feed/?key=s3cret", **secret})
            put_lobby(
                server, manager, name="bad", origin={"url": "ws://feed/", "onConnect": [{"send": "$(NO) s3cret"}]}
            )
            manager.start()
            manager.pod_changed(pod("prices-1"))
            shown = {item["metadata"]["name"]: item for item in manager.items()}
            assert shown["prices"]["spec"]["origin"]["url"] == "ws://feed/"
            assert shown["prices"]["lobbies"]["prices-1"]["report"] is None
            assert "onConnect[0].send" in shown["bad"]["problem"]
            assert "s3cret" not in json.dumps(manager.items())

    run(main())


def test_greeters_are_polled_fast_while_any_lobby_is_active() -> None:
    async def main() -> None:
        async with standby() as (_, manager):
            manager.start()
            manager.set_active("shop/prices", active=True)
            manager.set_active("shop/books", active=True)
            manager.set_active("shop/prices", active=False)
            assert manager._greeters is not None
            assert manager._greeters._fast
            manager.set_active("shop/books", active=False)
            assert not manager._greeters._fast

    run(main())
