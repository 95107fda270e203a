"""What the lobby host shows on its admin port, as JSON types. No value of a secret is among it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lobby_gateway.resource.overview import shown_url
from lobby_operator.reconcile.poller import PollResult


def shown_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what may be secret: headers, query, texts sent, variables, and the URL's parts beside host and path."""
    origin = spec["origin"]
    hidden = {"headers", "query", "onConnect", "secrets", "tls"}
    kept = {key: value for key, value in origin.items() if key not in hidden}
    template = {key: value for key, value in (spec.get("template") or {}).items() if key != "env"}
    return {**spec, "origin": {**kept, "url": shown_url(origin["url"])}, "template": template}


def shown_reading(reading: PollResult[Any]) -> dict[str, Any]:
    """What a process said of itself last."""
    report = reading.report.to_json() if reading.report is not None else None
    return {"report": report, "answers": reading.unresponsive_since is None, "problem": reading.problem}
