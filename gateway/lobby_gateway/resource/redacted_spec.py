"""A spec that may be shown: on admin ports, and in the status of its Lobby."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lobby_gateway.resource.lobby_overview import redacted_url
from lobby_gateway.resource.schema import open_api_schema
from lobby_gateway.resource.structural_schema import Schema, child

HIDDEN = "***"


def redacted_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what may be secret: texts that the CRD marks (`format: password`), and parts of each `url`.

    What greeters need is unchanged.
    """
    made: dict[str, Any] = _redacted(spec, open_api_schema()["properties"]["spec"])
    return made


def _redacted(value: Any, schema: Schema) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, Mapping):
        return {
            name: (redacted_url(each) or HIDDEN) if name == "url" else _redacted(each, child(schema, name) or {})
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_redacted(each, schema.get("items", {})) for each in value]
    return HIDDEN if schema.get("format") == "password" else value
