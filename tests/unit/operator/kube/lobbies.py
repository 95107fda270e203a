"""A Lobby as the API gives it, and pods as they become."""

from __future__ import annotations

from typing import Any

from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import Lobby, lobby_from_resource
from lobby_operator.settings import PodSettings

UID = "0c2f1f5e-7d0e-4a37-8f2c-3c5c1b9f6b1e"
SETTINGS = PodSettings(image="registry.example/lobby:1", token_secret="token")


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
    return schema.validate_and_default(document, "test")


def lobby(name: str = "prices", uid: str = UID, **spec: Any) -> Lobby:
    return lobby_from_resource(resource(name, uid, **spec))


def running(
    pod: dict[str, Any], *, ip: str = "10.1.2.3", ready: bool = True, started: bool = True, node: str = "node-1"
) -> dict[str, Any]:
    """The pod, once its container runs."""
    conditions = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True" if ready else "False"},
    ]
    containers = [{"name": "lobby", "started": started}]
    status = {"phase": "Running", "podIP": ip, "conditions": conditions, "containerStatuses": containers}
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}
