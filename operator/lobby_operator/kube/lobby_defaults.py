"""What the pods of all lobbies have unless their Lobby says otherwise (`--lobby-defaults`), and their labels. Pure.

The defaults are an administrator's, who may create pods anyway, so the policy does not limit them. They have the fields of
`spec.template`, checked with the CRD; besides, variables may have a source (`valueFrom`), and pods may have more volumes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lobby_gateway.resource import cel_rules, structural_schema
from lobby_gateway.resource.schema import open_api_schema
from lobby_operator.kube.names import Object

VOLUMES = ("config", "token", "secrets")
"""Names of a lobby's own volumes."""

_LABEL_KEY = re.compile(r"([a-z0-9][a-z0-9.-]{0,251}[a-z0-9]/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_OWN_LABEL = re.compile(r"lobby-gateway\.io/.*|app\.kubernetes\.io/(name|component|managed-by)")

_BEYOND_TEMPLATE = ("env", "volumes", "volumeMounts")
"""Fields that are not those of `spec.template`, or not checked like these."""


def read_labels(text: str) -> dict[str, str]:
    """The labels in a JSON object.

    Raises:
        ValueError: there are none, or they can't be labels; one line.
    """
    labels = _json_object(text)
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise ValueError(f"contains {key!r}, which is not the key of a label")
        if _OWN_LABEL.fullmatch(key):
            raise ValueError(f"contains {key}, which the operator sets")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"contains {key}: {value!r}, which is not the value of a label")
    return labels


def read_defaults(text: str) -> dict[str, Any]:
    """The defaults in a JSON object.

    Raises:
        ValueError: the first problem, in one line.
    """
    defaults = _json_object(text)
    schema = open_api_schema()["properties"]["spec"]["properties"]["template"]
    given = {key: value for key, value in defaults.items() if key not in _BEYOND_TEMPLATE}
    template = structural_schema.defaulted(schema, given)
    found = list(structural_schema.problems(schema, template))
    found += cel_rules.violations(schema, template, [problem.path for problem in found])
    problems = [*map(str, found), *_env_problems(defaults), *_volume_problems(defaults)]
    if problems:
        raise ValueError(f"has an invalid field: {problems[0]}")
    return {**template, **{key: defaults[key] for key in _BEYOND_TEMPLATE if key in defaults}}


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError("is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  # the caller catches ValueError
    return value


def _env_problems(defaults: Mapping[str, Any]) -> Iterator[str]:
    for at, each in _items(defaults, "env"):
        if not isinstance(each, dict) or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", str(each.get("name", ""))):
            yield f"env[{at}].name: is not the name of a variable; accepted: letters, digits and '_'"
        elif ("value" in each) == ("valueFrom" in each):
            yield f"env[{at}]: {each['name']} needs one of value and valueFrom"


def _volume_problems(defaults: Mapping[str, Any]) -> Iterator[str]:
    volumes = {each.get("name") for _, each in _items(defaults, "volumes") if isinstance(each, dict)}
    for at, each in _items(defaults, "volumes"):
        if not isinstance(each, dict) or not each.get("name"):
            yield f"volumes[{at}].name: missing; accepted: a name"
        elif each["name"] in VOLUMES:
            yield f"volumes[{at}].name: {each['name']} is taken; accepted: other names than {', '.join(VOLUMES)}"
    for at, each in _items(defaults, "volumeMounts"):
        if not isinstance(each, dict) or each.get("name") not in volumes:
            yield f"volumeMounts[{at}].name: is not one of the volumes; accepted: {', '.join(map(str, volumes)) or 'none'}"
        elif not str(each.get("mountPath", "")).startswith("/"):
            yield f"volumeMounts[{at}].mountPath: is not an absolute path; accepted: a path that begins with /"


def _items(defaults: Mapping[str, Any], field: str) -> Iterator[tuple[int, Any]]:
    value = defaults.get(field, [])
    if not isinstance(value, list):
        raise ValueError(f"has an invalid field: {field}: is not a list")  # noqa: TRY004  # the caller catches ValueError
    return enumerate(value)


def merged_template(defaults: Mapping[str, Any], template: Mapping[str, Any]) -> Object:
    """A Lobby's template with the defaults of what it does not have.

    Mappings and variables are merged by name, and the Lobby's take precedence; tolerations are added up, since a default one
    is for nodes that the default selector chooses; everything else is replaced as a whole.

    Args:
        defaults: see `read_defaults`.
        template: `spec.template` of a Lobby.
    """
    made = {**defaults, **template}
    for field in ("labels", "annotations", "nodeSelector"):
        made[field] = {**defaults.get(field, {}), **template.get(field, {})}
    made["resources"] = {
        kind: {**defaults.get("resources", {}).get(kind, {}), **template.get("resources", {}).get(kind, {})}
        for kind in ("requests", "limits")
    }
    made["env"] = _merged(defaults.get("env", ()), template.get("env", ()), lambda each: each["name"])
    made["tolerations"] = _merged(defaults.get("tolerations", ()), template.get("tolerations", ()), json.dumps)
    return made


def _merged(one: Iterable[Object], other: Iterable[Object], key: Callable[[Object], str]) -> list[Object]:
    return list({key(each): each for each in (*one, *other)}.values())
