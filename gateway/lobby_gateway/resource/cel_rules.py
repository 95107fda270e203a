"""Evaluates the CRD's validation rules (`x-kubernetes-validations`, in CEL) on a defaulted value, as the API server does.

A rule sees only declared fields, and is skipped if the structure of what it sees is invalid. Transition rules (`oldSelf`) need
an older value, which a file does not have: they are skipped, as on creation in Kubernetes.
"""

# JSON values are what `Any` is for.
# ruff: noqa: ANN401

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from lobby_gateway.resource.cel_library import Program, cel
from lobby_gateway.resource.structural_schema import Path, Problem, Schema, child, describe


def violations(schema: Schema, value: Any, broken: Collection[Path], path: Path = ()) -> Iterator[Problem]:
    """The rules that the value violates, outermost first.

    Args:
        schema: schema of the value.
        value: the value, with defaults.
        broken: fields whose structure is invalid: no rule that could see them is evaluated.
        path: path of the value.
    """
    if schema.get("x-kubernetes-validations") and not any(each[: len(path)] == path for each in broken):
        yield from _checked(schema, value, path)
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, each in items:
        inner = child(schema, key)
        if inner is not None:
            yield from violations(inner, each, broken, (*path, key))


def _checked(schema: Schema, value: Any, path: Path) -> Iterator[Problem]:
    variables = {"self": _visible(schema, value)}
    for rule in schema["x-kubernetes-validations"]:
        if "oldSelf" in rule["rule"]:
            continue
        if _compiled(rule["rule"]).execute(variables) is True:
            continue
        at, found, found_schema = path, value, schema
        for name in rule.get("fieldPath", "").split(".")[1:]:
            at, found, found_schema = (*at, name), found.get(name), child(found_schema, name) or {}
        subject = "" if isinstance(found, (dict, list)) else f"{describe(found, found_schema)} "
        yield Problem(at, f"{subject}{rule['message']}")


@cache
def _compiled(expression: str) -> Program:
    compiled: Program = cel().compile(expression)
    return compiled


def _visible(schema: Schema, value: Any) -> Any:
    """The parts of a value that have a declared type: rules cannot see free-form JSON, as in Kubernetes."""
    if isinstance(value, dict):
        inner = ((key, each, child(schema, key)) for key, each in value.items())
        return {key: _visible(found, each) for key, each, found in inner if found is not None and "type" in found}
    if isinstance(value, list):
        return [_visible(schema.get("items", {}), each) for each in value]
    return value
