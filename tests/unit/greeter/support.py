"""Lobby resources as a greeter is given them: checked and defaulted, with a status."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lobby_gateway.resource.schema import validate_and_default


def resource(
    name: str, *addresses: str, created: str | None = None, namespace: str | None = None, **spec: Any
) -> dict[str, Any]:
    """A Lobby with open lobbies `<name>-1`, … at the addresses; `spec` holds fields as in a file."""
    spec.setdefault("origin", {"url": "ws://origin.example/"})
    document = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": name, "creationTimestamp": created, "namespace": namespace},
        "spec": spec,
    }
    with ThreadPoolExecutor(1) as elsewhere:  # the CRD is read from its file, which no event loop may wait for
        made: dict[str, Any] = elsewhere.submit(validate_and_default, document, "test").result()
    made["status"] = {
        "open": [
            {"name": f"{name}-{number}", "address": address, "clients": 0, "seats": made["spec"]["clients"]["seats"]}
            for number, address in enumerate(addresses, 1)
        ],
    }
    return made
