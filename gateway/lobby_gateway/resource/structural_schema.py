"""Validates and defaults a value with a structural schema of Kubernetes, and describes problems in words.

jsonschema checks types, limits, patterns and enums. Unknown fields, lists that are sets or maps, and defaults are handled here
as in "Structural schemas" and "Defaulting" of the Kubernetes documentation of custom resources.
"""

# JSON values are what `Any` is for.
# ruff: noqa: ANN401

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

MAX_VALUE_CHARACTERS: Final = 60
"""Longer values are cut in errors."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A field that the schema does not accept.

    Attributes:
        path: path of the field.
        text: the value, and what is accepted.
    """

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}" if self.path else self.text


def path_text(path: Path) -> str:
    """A path as text: `spec.origin.headers[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch("[A-Za-z_][A-Za-z0-9_-]*", part):
            text += f".{part}" if text else part
        else:
            text += f"[{_cut(part)}]"
    return text


def defaulted(schema: Schema, value: Any) -> Any:
    """A copy of the value with defaults filled in, at every depth.

    A null that the schema does not allow counts as absent. Integers written as `5.0` become integers.
    """
    if isinstance(value, dict):
        made = {}
        for key, each in value.items():
            inner = child(schema, key)
            if each is None and inner is not None and not inner.get("nullable", False):
                continue
            made[key] = copy.deepcopy(each) if inner is None else defaulted(inner, each)
        for key, inner in schema.get("properties", {}).items():
            if key not in made and "default" in inner:
                made[key] = defaulted(inner, inner["default"])
        return made
    if isinstance(value, list):
        items = schema.get("items")
        return [copy.deepcopy(each) if items is None else defaulted(items, each) for each in value]
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    return value


def child(schema: Schema, key: str | int) -> Schema | None:
    """The schema of a field or list item; None if there is none."""
    if isinstance(key, int):
        items: Schema | None = schema.get("items")
        return items
    found: Schema | None = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
    return found


def problems(schema: Schema, value: Any) -> Iterator[Problem]:
    """Violations of the schema in a defaulted value; `rules.py` checks its validation rules."""
    yield from _unknown_fields(schema, schema, value, ())
    for error in _Validator(dict(schema)).iter_errors(value):
        yield from _problems_of(error)


def describe(value: Any, schema: Schema) -> str:
    """A value for an error: cut if it is long, hidden if it may be a secret."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if schema.get("format") == "password":
        return "this value"
    if isinstance(value, str):
        # The user, password and query of a URL may be secret.
        value = re.sub(r"(://)[^/?#@]*@", r"\1...@", value)
        value = re.sub(r"(://[^?]*\?).*", r"\1...", value, flags=re.DOTALL)
        return _cut(value)
    return _cut(json.dumps(value), quoted=False)


def accepted(schema: Schema) -> str:
    """The values that a field accepts, in words: `1 to 4096`."""
    if "title" in schema:  # in the CRD, it describes what a pattern or rule accepts
        return str(schema["title"])
    if "enum" in schema:
        *others, last = map(str, schema["enum"])
        return f"{', '.join(others)} or {last}" if others else last
    match schema.get("type"):
        case "integer":
            least, most = schema.get("minimum"), schema.get("maximum")
            if least is not None and most is not None:
                return f"{least} to {most}"
            return "an integer" if least is None else f"{least} or more"
        case "boolean":
            return "true or false"
        case "string":
            return "a string"
        case "array":
            return "a list"
        case "object" if "properties" in schema:
            return "a mapping of " + ", ".join(schema["properties"])
        case _:
            return "a mapping"


def _cut(text: str, *, quoted: bool = True) -> str:
    short = text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 3] + "..."
    return repr(short) if quoted else short


def _unknown_fields(root: Schema, schema: Schema, value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _unknown_fields(root, schema.get("items", {}), each, (*path, index))
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    for key, each in value.items():
        inner = child(schema, key)
        if inner is not None:
            yield from _unknown_fields(root, inner, each, (*path, key))
        elif "properties" in schema:
            yield Problem((*path, key), f"unknown field; {_guess(root, schema['properties'], key)}")


def _guess(root: Schema, known: Mapping[str, Any], key: str) -> str:
    """Suggests a field for an unknown one: with a similar name, or with the same name elsewhere."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), by_lower, n=1, cutoff=0.7)
    if near:
        return f"did you mean {by_lower[near[0]]}? accepted: {', '.join(known)}"
    elsewhere = [each for each in _find_parents(root, key) if each[:1] != ("status",)]  # people do not write the status
    if len(elsewhere) == 1:
        return f"did you mean {path_text((*elsewhere[0], key))}? accepted: {', '.join(known)}"
    return f"accepted: {', '.join(known)}"


def _find_parents(schema: Schema, key: str, path: Path = ()) -> Iterator[Path]:
    """Paths of the objects that have a field of that name, outside lists."""
    for name, inner in schema.get("properties", {}).items():
        if name == key:
            yield path
        yield from _find_parents(inner, key, (*path, name))


def _problems_of(error: ValidationError) -> Iterator[Problem]:
    """Describes an error of jsonschema in words."""
    schema: Any = error.schema  # never a boolean in a CRD
    value: Any = error.instance
    limit: Any = error.validator_value
    path: Path = tuple(error.absolute_path)
    accepts = f"accepted: {accepted(schema)}"
    shown = describe(value, schema)
    match error.validator:
        case "required":
            for name in limit:
                if name not in value:
                    yield Problem((*path, name), f"missing; accepted: {accepted(schema['properties'][name])}")
        case "type":
            yield Problem(path, f"{shown} {_type_problem(value, schema)}{_hint(value, schema)}; {accepts}")
        case "anyOf":  # a number or a string, the only alternatives that a CRD may have
            quotes = " (put it in quotes)" if isinstance(value, float) else ""
            yield Problem(path, f"{shown} is invalid{quotes}; {accepts}")
        case "minimum" | "maximum" if isinstance(value, float) and schema.get("type") == "integer":
            return  # it is not an integer, which is reported
        case "minimum":
            yield Problem(path, f"{shown} is too small; {accepts}")
        case "maximum":
            yield Problem(path, f"{shown} is too large; {accepts}")
        case "enum" if not isinstance(value, str):
            return  # its type is wrong, which is reported
        case "enum":
            near = difflib.get_close_matches(str(value).lower(), [str(each).lower() for each in limit], n=1)
            meant = next((f"did you mean {each}? " for each in limit if near and str(each).lower() == near[0]), "")
            yield Problem(path, f"{shown} is unknown; {meant}{accepts}")
        case "pattern":
            yield Problem(path, f"{shown} is invalid; {accepts}")
        case "minLength":
            yield Problem(path, f"is empty; accepted: at least {_count(limit, 'character')}")
        case "maxLength":
            yield Problem(path, f"has {_count(len(value), 'character')}; accepted: at most {limit}")
        case "minItems" | "minProperties":
            yield Problem(path, f"has {_count(len(value), 'entry', 'entries')}; accepted: at least {limit}")
        case "maxItems" | "maxProperties":
            yield Problem(path, f"has {_count(len(value), 'entry', 'entries')}; accepted: at most {limit}")
        case _:
            yield Problem(path, error.message)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def _type_problem(value: Any, schema: Schema) -> str:
    if isinstance(value, (dict, list)):
        return "is not allowed here"
    if isinstance(value, float) and schema.get("type") == "integer":
        return "is not an integer"
    return {bool: "is a boolean", int: "is a number", float: "is a number", str: "is a string"}.get(
        type(value), "is not allowed"
    )


def _hint(value: Any, schema: Schema) -> str:
    # In YAML 1.1, which Kubernetes uses, unquoted Off, On, Yes and No are booleans.
    if isinstance(value, bool) and schema.get("type") == "string":
        return " to YAML (put words such as Off in quotes)"
    if schema.get("type") == "string" and isinstance(value, int | float):
        return " (put it in quotes)"
    if isinstance(value, str) and schema.get("type") in {"integer", "boolean"}:
        return " (remove the quotes)" if re.fullmatch("-?[0-9]+|true|false", value) else ""
    return ""


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    # Python's `$` also matches before a newline at the end; that of Kubernetes (RE2) does not.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError("pattern")


def _list_type(_validator: Any, kind: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, list) or kind == "atomic":
        return
    keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys", ())
    seen = set()
    for index, each in enumerate(value):
        if kind == "map" and not isinstance(each, dict):
            continue  # its type is wrong, which is reported elsewhere
        name = json.dumps([each.get(key) for key in keys] if kind == "map" else each)
        if name in seen:
            named = ", ".join(f"{key} {_cut(str(each.get(key)))}" for key in keys) if kind == "map" else _cut(str(each))
            yield ValidationError(f"{named} is duplicated; accepted: unique entries", path=[index])
        seen.add(name)


_Validator = extend(  # type: ignore[no-untyped-call]  # the stubs leave it untyped
    Draft202012Validator, {"pattern": _pattern, "x-kubernetes-list-type": _list_type}
)
