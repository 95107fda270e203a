"""Lobby resources as a greeter is given them: checked and defaulted."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

_SPEC: dict[str, Any] = {
    "origin": {
        "url": "ws://origin.example/",
        "headers": [],
        "query": [],
        "subprotocols": [],
        "tls": {"insecureSkipVerify": False},
        "secrets": [],
        "onConnect": [],
        "keepalive": {"pingSeconds": 20, "timeoutSeconds": 20},
        "staleSeconds": 0,
        "reconnect": {"minMilliseconds": 500, "maxMilliseconds": 30000},
        "connect": "OnDemand",
        "maxMessageBytes": 1048576,
    },
    "clients": {
        "seats": 512,
        "queue": {"messages": 16, "overflow": "DropOldest"},
        "messages": "Ignore",
        "replay": 0,
        "pingSeconds": 25,
        "compression": "Off",
        "allowedOrigins": [],
        "maxMessageBytes": 65536,
    },
    "replicas": 0,
    "maxReplicas": 100,
    "spareSeats": 64,
    "placement": "Packed",
    "compaction": {"enabled": True, "stabilizationSeconds": 60},
    "emptySeconds": 60,
    "drainSeconds": 300,
    "routing": {"mode": "Proxy", "redirect": {"urlTemplate": "ws://{ip}:{port}/"}},
    "waitSeconds": 15,
}


def resource(name: str, *addresses: str, created: str | None = None, **spec: Any) -> dict[str, Any]:
    """A Lobby with open lobbies `<name>-1`, … at the addresses; `spec` replaces fields, `clients` and `origin` in part."""
    made = deepcopy(_SPEC)
    for key, value in spec.items():
        if isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key].update(value)
        else:
            made[key] = value
    return {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": name, **({"creationTimestamp": created} if created else {})},
        "spec": made,
        "status": {
            "open": [
                {"name": f"{name}-{number}", "address": address, "clients": 0, "seats": made["clients"]["seats"]}
                for number, address in enumerate(addresses, 1)
            ],
        },
    }
