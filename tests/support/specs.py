"""Origin specs for tests without a file: the defaults of the CRD plus changed fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lobby_gateway.origin.secrets import ResolvedOrigin, resolve
from lobby_gateway.resource.from_json import build
from lobby_gateway.resource.spec import OriginSpec


def origin_spec(url: str = "ws://origin.example/", **fields: Any) -> OriginSpec:
    """An origin spec; `fields` are fields of the resource, such as `staleSeconds=5`."""
    defaults = {
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
        "identity": "Content",
    }
    return build(OriginSpec, {**defaults, "url": url, **fields}, "spec.origin")


def resolved(spec: OriginSpec, environment: Mapping[str, str] | None = None) -> ResolvedOrigin:
    """The resolved origin, with secrets from `environment`."""
    return resolve(spec, environment or {})
