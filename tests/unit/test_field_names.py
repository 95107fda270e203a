"""Fields of a Lobby and values of the chart that documentation, alert rules and chart name: all of them exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lobby_gateway.resource.schema import open_api_schema

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "lobby-gateway"
OTHER_NAMES = frozenset({"nowMillis", "maxUnavailable", "minAvailable", "preStop", "resourceVersion"})
"""Fields of Kubernetes itself, and a variable of expressions."""

QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:^|(?<=\s))(?:(?:spec|status)\.)?[a-z][A-Za-z]*(?:(?:\[\])?\.[a-z][A-Za-z]*)*(?=:? |:?$)")
UNQUOTED = re.compile(r"(?<![\w.])(?:spec|status)(?:\.[a-z][A-Za-z]*)+")
FILE = re.compile(r"\.(py|pyi|c|h|js|md|yaml|json|html|crt|key|toml|txt)$")


def pages() -> list[Path]:
    named = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "crds" / "lobbies.yaml", CHART / "values.yaml"]
    folders = [(ROOT / "docs", "*.md"), (CHART / "rules", "*"), (CHART / "templates", "**/*")]
    found = [path for folder, pattern in folders for path in folder.glob(pattern) if path.is_file()]
    return sorted({*named, *found, CHART / "values.schema.json"})


def names(line: str) -> Iterator[str]:
    """Names in a line of text that look like a field's: dotted or in camel case, in backticks or after `spec.`."""
    for quoted in QUOTED.findall(line):
        first = PATH.match(quoted)
        if first is not None and ("." in first[0] or re.search("[A-Z]", first[0])):
            yield first[0]
    yield from UNQUOTED.findall(QUOTED.sub("", line))


def below(schema: Mapping[str, Any], segment: str) -> Mapping[str, Any] | None:
    """The schema of a field; None: there is no such field. Where any field is accepted, an empty one."""
    schema = schema.get("items", schema)
    fields = schema.get("properties", {})
    if segment not in fields and ("x-kubernetes-preserve-unknown-fields" in schema or "additionalProperties" in schema):
        return {"x-kubernetes-preserve-unknown-fields": True}
    found: Mapping[str, Any] | None = fields.get(segment)
    return found


def resolves(schema: Mapping[str, Any], path: str) -> bool:
    found: Mapping[str, Any] | None = schema
    for segment in path.replace("[]", "").split("."):
        found = below(found, segment) if found is not None else None
    return found is not None


def values_schema(values: object) -> dict[str, Any]:
    """Values as a schema; an empty mapping or a list accepts anything."""
    if isinstance(values, dict) and values:
        return {"properties": {key: values_schema(value) for key, value in values.items()}}
    return {"x-kubernetes-preserve-unknown-fields": True} if isinstance(values, dict | list) else {}


def objects(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Schemas of all objects in a schema, however deep."""
    schema = schema.get("items", schema)
    if "properties" in schema:
        yield schema
        for field in schema["properties"].values():
            yield from objects(field)


def all_fields(schema: Mapping[str, Any]) -> set[str]:
    return set().union(*(each["properties"] for each in objects(schema)))


LOBBY = open_api_schema()
PARTS = [LOBBY, *(LOBBY["properties"][part] for part in ("spec", "status"))]
VALUES = values_schema(yaml.safe_load((CHART / "values.yaml").read_text()))
VALUES_FIELDS = all_fields(VALUES)
LOBBY_FIELDS = all_fields(LOBBY)


def problem(name: str) -> str:
    """Why a name is not a field's; empty: it is, or it doesn't claim to be."""
    if "." not in name:
        known = name in LOBBY_FIELDS or name in VALUES_FIELDS or name in OTHER_NAMES
        return "" if known else "is not a field of a Lobby, nor a value of the chart"
    if FILE.search(name) or any(resolves(schema, name) for schema in (*PARTS, VALUES)):
        return ""
    first = name.split(".", maxsplit=1)[0].removesuffix("[]")
    if first in {"spec", "status"} or any(first in part["properties"] for part in PARTS[1:]):
        return "is not a field of a Lobby (crds/lobbies.yaml)"
    if first in VALUES["properties"]:
        return "is not a value of the chart (values.yaml)"
    if first in LOBBY_FIELDS and not any(
        first in each["properties"] and resolves(each, name) for each in objects(LOBBY)
    ):
        return "is not a field of a Lobby, wherever it begins (crds/lobbies.yaml)"
    return ""


def test_every_field_named_in_documentation_rules_and_chart_exists() -> None:
    found = [
        (f"{path.relative_to(ROOT)}:{number}", name)
        for path in pages()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for name in names(line)
    ]
    assert len(found) > 100
    problems = [f"{where}: `{name}` {text}" for where, name in found if (text := problem(name))]
    assert not problems, "\n" + "\n".join(problems)


def test_a_name_that_does_not_exist_is_found() -> None:
    assert list(names("see `origin.renewSeconds`, `spareSeats: 5`, `kubectl get lobbies`; spec.nothing.here")) == [
        "origin.renewSeconds",
        "spareSeats",
        "spec.nothing.here",
    ]
    assert "not a field" in problem("origin.renewSeconds")
    assert "not a field" in problem("spec.nothing.here")
    assert "not a field" in problem("renewSeconds")
    assert "not a value" in problem("greeter.replica")
    assert "not a field" in problem("reconnect.maxSeconds")
    for name in ("reconnect.maxMilliseconds", "valueFrom.secretKeyRef"):  # of a nested object
        assert not problem(name)
    for name in ("origin.reconnect.maxMilliseconds", "spec.template.resources.limits.cpu", "status.open", "spareSeats"):
        assert not problem(name)
    for name in ("origin.headers[].valueFrom", "greeter.resources.limits.memory", "metadata.name", "client.py"):
        assert not problem(name)
