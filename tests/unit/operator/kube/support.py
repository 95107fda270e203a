"""For tests of `lobby_operator.kube`: a server of the API on a real socket, and Lobbies and pods as it stores them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from tests.support.kube_api import FakeKubeApi, fake_kube_api

from lobby_gateway.resource.schema import crd, default_lobby, validate_and_default
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_operator.kube.client import KubeApi
from lobby_operator.settings import OperatorSettings, PodSettings

LOBBIES_PATH = "/apis/lobby-gateway.io/v1alpha1/namespaces/{}/lobbies"
PODS_PATH = "/api/v1/namespaces/{}/pods"

UID = "0c2f1f5e-7d0e-4a37-8f2c-3c5c1b9f6b1e"
SETTINGS = PodSettings(image="registry.example/lobby:1", token_secret="token")

crd()  # reads its file now, as the process does: before there is an event loop


def operator_settings(**fields: Any) -> OperatorSettings:
    """Settings of an operator of the namespace `shop`."""
    return OperatorSettings(
        **{"pods": SETTINGS, "namespace": "shop", "own_namespace": "system", "identity": "one", **fields}
    )


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[FakeKubeApi, KubeApi]]:
    """A server, and our access to it."""
    async with fake_kube_api() as server:
        api = KubeApi(ApiClient(Configuration(host=server.url)), **options)
        try:
            yield server, api
        finally:
            await api.close()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs what runs for ever; it fails if it ends by itself."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        ended = task.done()
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert not ended, result


def resource(name: str = "prices", uid: str = UID, **spec: Any) -> dict[str, Any]:
    origin = {"url": "wss://feed.example.com/stream", **spec.pop("origin", {})}
    document = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": uid,
            "generation": 3,
            "resourceVersion": "7",
            "labels": {"team": "trading"},
        },
        "spec": {"origin": origin, **spec},
    }
    return validate_and_default(document, "test")


def lobby(name: str = "prices", uid: str = UID, **spec: Any) -> Lobby:
    return lobby_from_resource(resource(name, uid, **spec))


def running_pod(
    pod: dict[str, Any], *, ip: str = "10.1.2.3", ready: bool = True, started: bool = True, node: str = "node-1"
) -> dict[str, Any]:
    """The pod, once its container runs."""
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    containers = [{"name": "lobby", "started": started, "state": {"running": {}}}]
    status = {"phase": "Running", "podIP": ip, "conditions": conditions, "containerStatuses": containers}
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}


def lobby_resource(
    name: str = "prices", *, namespace: str = "shop", version: int = 1, created: str = "", **fields: Any
) -> dict[str, Any]:
    """A Lobby; `fields` are those of `spec`, or `uid`, `generation`, `status`, `metadata`. Not validated."""
    made = default_lobby(name, fields.pop("url", "ws://feed/"))
    status, metadata = fields.pop("status", None), fields.pop("metadata", {})
    made["metadata"] = {
        "name": name,
        "namespace": namespace,
        "uid": fields.pop("uid", f"uid-of-{namespace}-{name}"),
        "resourceVersion": str(version),
        "generation": fields.pop("generation", 1),
        "creationTimestamp": created or "2026-11-25T14:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        **metadata,
    }
    made["spec"] = {**made["spec"], **copy.deepcopy(fields)}
    return made if status is None else {**made, "status": status}
