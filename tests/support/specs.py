"""Origin specs for tests without a file: the defaults of the CRD plus changed fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lobby_gateway.origin.secrets import ResolvedOrigin, resolve
from lobby_gateway.resource.from_json import build
from lobby_gateway.resource.spec import OriginSpec


def origin_spec(url: str = "ws://origin.example/", **fields: Any) -> OriginSpec:
    """An origin spec; `fields` are fields of the resource, such as `staleSeconds=5`."""
    defaults: dict[str, Any] = {
        "headers": [],
        "query": [],
        "subprotocols": [],
        "tls": {"insecureSkipVerify": False},
        "proxy": None,
        "secrets": [],
        "decode": "None",
        "beforeConnect": [],
        "onConnect": [],
        "onMessage": [],
        "every": [],
        "closeCodes": {"refused": [1008]},
        "keepalive": {"pingSeconds": 20, "timeoutSeconds": 20},
        "staleSeconds": 0,
        "reconnect": {"minMilliseconds": 500, "maxMilliseconds": 30000, "jitter": "Full"},
        "connect": "OnDemand",
        "maxMessageBytes": 1048576,
        "identity": "Content",
        "limits": {"connections": 0, "connects": None, "sendsPerSecond": 0},
        "renew": {"everySeconds": 0, "overlap": True},
    }
    steps = [
        {kind: {"early": "Drop", **each} if kind in ("expect", "wait") else each for kind, each in step.items()}
        for step in fields.get("onConnect", ())
    ]
    rules = [
        {
            "forward": True,
            "renew": False,
            **rule,
            **({"end": {"refused": False, **rule["end"]}} if "end" in rule else {}),
        }
        for rule in fields.get("onMessage", ())
    ]
    proxy = fields.get("proxy")
    if isinstance(proxy, dict):
        fields = {**fields, "proxy": {"credentialsSecretRef": None, **proxy}}
    given = {
        name: {**before, **each} if isinstance(each, dict) and isinstance(before := defaults.get(name), dict) else each
        for name, each in fields.items()
    }
    return build(OriginSpec, {**defaults, "url": url, **given, "onConnect": steps, "onMessage": rules}, "spec.origin")


def http_step(**fields: Any) -> dict[str, Any]:
    """An `http` step; `fields` are those that differ from the defaults."""
    http = {"method": "GET", "headers": [], "query": [], "status": [200], "timeoutSeconds": 10, **fields}
    return {"http": {**http, **({"end": {"refused": False, **fields["end"]}} if "end" in fields else {})}}


def resolved(spec: OriginSpec, environment: Mapping[str, str] | None = None) -> ResolvedOrigin:
    """The resolved origin, with secrets from `environment`."""
    return resolve(spec, environment or {})
