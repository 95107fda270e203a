"""Renders `docs/reference.md` from the CRD."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lobby_gateway.resource.schema import api_version, crd, open_api_schema

Schema = Mapping[str, Any]

_INTRODUCTION = """\
# The Lobby resource

<!-- Generated from crds/lobbies.yaml by `make docs`; a test fails when this page is out of date. -->

{description}

`apiVersion: {api_version}`, `kind: {kind}`, short name `{short}`. On Kubernetes, apply it with `kubectl apply`; in local mode,
pass the same file to `lobby up -f`, which validates and defaults it with the same schema. `metadata.name` has at most
{name_length} characters: {name}.

A field without a default is optional unless marked as required. Unknown fields are rejected.
"""

_SHOWN = """\
## Columns of `kubectl get {plural}`

| column | description |
| --- | --- |
"""


def render() -> str:
    """Renders the page."""
    schema = open_api_schema()
    names = crd()["spec"]["names"]
    name = schema["properties"]["metadata"]["properties"]["name"]
    page = _INTRODUCTION.format(
        description=schema["description"],
        api_version=api_version(),
        kind=names["kind"],
        short=names["shortNames"][0],
        name_length=name["maxLength"],
        name=name["title"],
    )
    for part in ("spec", "status"):
        page += "\n" + "\n".join(_Sections().of(part, schema["properties"][part]))
    page += "\n" + _SHOWN.format(plural=names["plural"])
    (version,) = crd()["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        wide = " Only with `-o wide`." if column.get("priority") else ""
        page += f"| {column['name']} | {column.get('description', 'Time since creation.')}{wide} |\n"
    return page


class _Sections:
    """The sections of `spec` or `status`. Objects with equal fields, such as all references to Secrets, share one section."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, path: str, schema: Schema) -> Iterator[str]:
        """The lines of an object's section, followed by those of nested objects."""
        yield f"## {path}\n"
        if "description" in schema:
            yield f"{schema['description']}\n"
        yield "| field | type | default | description |\n| --- | --- | --- | --- |"
        inner: list[tuple[str, Schema]] = []
        for name, field in schema["properties"].items():
            fields, below = field, f"{path}.{name}"
            if "items" in field:
                fields, below = field["items"], f"{below}[]"
            section = ""
            if "properties" in fields:
                section = self._known.setdefault(json.dumps(fields, sort_keys=True), below)
                if section == below:
                    inner.append((below, fields))
            yield _row(name, field, section, required=name in schema.get("required", ()))
        yield ""
        for rule in schema.get("x-kubernetes-validations", ()):
            subject = f"`{rule['fieldPath'][1:]}`" if "fieldPath" in rule else "Each" if path.endswith("[]") else "It"
            yield f"- {subject} {rule['message']}."
        if "x-kubernetes-validations" in schema:
            yield ""
        for below, fields in inner:
            yield from self.of(below, fields)


def _row(name: str, field: Schema, section: str, *, required: bool) -> str:
    """A field's row. A field with its own section has its rules there."""
    text = field.get("description", "")
    if section:
        text += f" See [{section}](#{_anchor(section)})."
    else:
        rules = field.get("x-kubernetes-validations", ())
        text += "".join(f" It {rule['message']}." for rule in rules)
        rules = field.get("items", {}).get("x-kubernetes-validations", ())
        text += "".join(f" Each {rule['message']}." for rule in rules)
    default = "required" if required else ""
    if "default" in field and field["default"] != {}:
        default = f"`{_default(field['default'])}`"
    return f"| `{name}` | {_cell(_takes(field))} | {_cell(default)} | {_cell(text)} |"


def _default(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _takes(schema: Schema) -> str:
    """A field's type and limits in words."""
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    match schema.get("type"):
        case "integer":
            least, most = schema.get("minimum"), schema.get("maximum")
            bounds = f", {least} to {most}" if most is not None else f", {least} or more" if least is not None else ""
            return f"integer{bounds}"
        case "boolean":
            return "`true`, `false`"
        case "string":
            what = schema.get("title") or ("RFC 3339 time" if schema.get("format") == "date-time" else "string")
            return f"{what}{_length(schema, 'Length', 'characters')}"
        case "array":
            once = {"set": ", unique", "map": ", unique names"}.get(schema.get("x-kubernetes-list-type", ""), "")
            inner = "" if "properties" in schema["items"] else f": {_takes(schema['items'])}"
            return f"list{_length(schema, 'Items', 'entries')}{once}{inner}"
        case "object" if "additionalProperties" in schema:
            return f"object{_length(schema, 'Properties', 'entries')}"
        case None:  # a number or a string
            return str(schema.get("title", "any JSON"))
        case _:
            return "object"


def _length(schema: Schema, what: str, unit: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is not None and most is not None:
        return f", {least} to {most} {unit}"
    return f", at most {most} {unit}" if most is not None else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, reduced to letters, digits, '-' and '_'."""
    return "".join(each for each in heading.lower() if each.isalnum() or each in "-_")
