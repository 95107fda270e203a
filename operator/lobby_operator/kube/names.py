"""Names, labels and annotations of what the operator makes: the contract with everything that looks at its objects."""

from __future__ import annotations

from typing import Any

from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube.resources import LOBBIES

GROUP = "lobby-gateway.io"

APP = "lobby-gateway"
MANAGER = "lobby-operator"

NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
LOBBY_LABEL = f"{GROUP}/lobby"
REVISION_LABEL = f"{GROUP}/revision"

LOBBY_COMPONENT = "lobby"
GREETER_COMPONENT = "greeter"
OPERATOR_COMPONENT = "operator"

DRAINING_ANNOTATION = f"{GROUP}/draining"
"""Since when a lobby drains, as of RFC 3339. Lasts over a restart of the operator."""

CONFIG_ANNOTATION = f"{GROUP}/config"
"""Digest of the live configuration. That it changes makes the kubelet bring the volumes up to date at once."""

SAFE_TO_EVICT_ANNOTATION = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""`false` while a lobby has clients: the cluster autoscaler leaves its node alone."""

CLIENTS_PORT = 8000
ADMIN_PORT = 8001

CONFIG_DIRECTORY = "/etc/lobby/config"
CONFIG_KEY = "lobby.json"
TOKEN_DIRECTORY = "/etc/lobby/token"  # noqa: S105  # where it is, not what
TOKEN_KEY = "key"  # noqa: S105  # of the Secret, not what is in it
SECRETS_DIRECTORY = "/etc/lobby/secrets"


def lobby_labels(lobby: str) -> dict[str, str]:
    """Labels of every object that belongs to a Lobby; together they select its pods."""
    return {NAME_LABEL: APP, COMPONENT_LABEL: LOBBY_COMPONENT, LOBBY_LABEL: lobby}


def selector(labels: dict[str, str]) -> str:
    """A label selector that fits what has these labels."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def config_map_name(lobby: str) -> str:
    """Of the ConfigMap with the live configuration of a Lobby, and of its PodDisruptionBudget."""
    return f"{lobby}-lobby"


def owned_metadata(lobby: Lobby, name: str) -> dict[str, Any]:
    """Metadata of an object that belongs to a Lobby, and goes with it."""
    owner = {
        "apiVersion": LOBBIES.api_version,
        "kind": LOBBIES.kind,
        "name": lobby.name,
        "uid": lobby.uid,
        "controller": True,
        "blockOwnerDeletion": False,  # would need the right to change finalizers of Lobbies
    }
    return {
        "name": name,
        "namespace": lobby.namespace,
        "labels": {**lobby_labels(lobby.name), MANAGED_BY_LABEL: MANAGER},
        "ownerReferences": [owner],
    }
