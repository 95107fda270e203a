"""Lobbies and pods as the API gives them."""

from __future__ import annotations

import copy
from typing import Any

from lobby_gateway.resource.schema import crd, default_lobby

crd()  # is read from its file here, as the process does it: before there is an event loop


def lobby_resource(
    name: str = "prices", *, namespace: str = "shop", version: int = 1, created: str = "", **fields: Any
) -> dict[str, Any]:
    """A Lobby; `fields` are those of `spec`, or `uid`, `generation`, `status`, `metadata`."""
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
