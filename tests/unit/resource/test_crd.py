"""The CRD itself: what Kubernetes asks of a structural schema, and what we ask of it beyond that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from lobby_gateway.resource import schema, spec, structural_schema
from lobby_gateway.resource.cel_library import cel
from lobby_gateway.resource.from_json import camel_case
from lobby_gateway.resource.spec import LobbySpec

Schema = Mapping[str, Any]


def nodes(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


SPEC = dict(nodes(schema.open_api_schema()["properties"]["spec"], "spec"))
STATUS = dict(nodes(schema.open_api_schema()["properties"]["status"], "status"))
ALL = SPEC | STATUS


def dataclass_fields(kind: Any, path: str) -> Iterator[str]:
    """Every field of the dataclasses, as `SPEC` names them."""
    yield path
    if isinstance(kind, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is tuple:
        kind, path = get_args(kind)[0], f"{path}[]"
        yield path
    if get_origin(kind) is Mapping:
        yield f"{path}{{}}"
    if is_dataclass(kind):
        assert isinstance(kind, type)
        hints = get_type_hints(kind)
        for each in fields(kind):
            yield from dataclass_fields(hints[each.name], f"{path}.{camel_case(each.name)}")


def has_defaults_below(node: Schema) -> bool:
    return any("default" in inner for path, inner in nodes(node) if path and "[]" not in path)


def test_every_field_of_the_crd_is_a_field_of_the_dataclasses_and_the_reverse() -> None:
    known = set(dataclass_fields(LobbySpec, "spec")) - {"spec.template{}"}
    assert known == {path for path in SPEC if not path.startswith("spec.template.")}  # that is passed on as it stands


def test_dataclasses_have_no_defaults_of_their_own() -> None:
    kinds = [kind for kind in vars(spec).values() if is_dataclass(kind)]
    assert len(kinds) > 15
    for kind in kinds:
        assert all(each.default is MISSING and each.default_factory is MISSING for each in fields(kind))


@pytest.mark.parametrize("path", [path for path in ALL if not path.endswith("]")])
def test_every_field_is_described(path: str) -> None:
    assert ALL[path].get("description", "").endswith(".")


@pytest.mark.parametrize("path", SPEC)
def test_a_default_is_reached_because_its_parents_have_one(path: str) -> None:
    node = SPEC[path]
    for name, inner in node.get("properties", {}).items():
        if inner.get("type") == "object" and has_defaults_below(inner) and name not in node.get("required", ()):
            optional = name in {
                "caSecretRef",
                "expect",
                "end",
                "wait",
                "http",
            }  # what is in them counts only where they are
            assert ("default" in inner) is not optional


@pytest.mark.parametrize("path", SPEC)
def test_every_number_text_list_and_map_is_bounded(path: str) -> None:
    node = SPEC[path]
    bounds = {"integer": ("minimum", "maximum"), "array": ("maxItems",), "string": ("maxLength",)}
    if "additionalProperties" in node:
        assert "maxProperties" in node
    if "enum" not in node:
        assert all(bound in node for bound in bounds.get(node.get("type", ""), ()))


@pytest.mark.parametrize("path", [path for path, node in ALL.items() if "default" in node])
def test_a_default_is_accepted_by_its_own_schema(path: str) -> None:
    node = ALL[path]
    assert list(structural_schema.problems(node, structural_schema.defaulted(node, node["default"]))) == []


@pytest.mark.parametrize("path", [path for path, node in ALL.items() if "pattern" in node])
def test_a_pattern_means_the_same_to_python_and_to_kubernetes(path: str) -> None:
    pattern = ALL[path]["pattern"]
    assert pattern.startswith("^")
    assert pattern.endswith("$")
    assert not re.search(r"\\[dswbDSWB]", pattern), "these classes differ between RE2 and Python"
    assert ALL[path]["title"], "a pattern is said in words"


def rules() -> list[Any]:
    found = [(path, rule) for path, node in ALL.items() for rule in node.get("x-kubernetes-validations", ())]
    return [pytest.param(path, rule, id=f"{path}-{index}") for index, (path, rule) in enumerate(found)]


@pytest.mark.parametrize(("path", "rule"), rules())
def test_a_rule_compiles_and_says_what_must_hold(path: str, rule: Mapping[str, str]) -> None:
    cel().compile(rule["rule"])
    assert rule["message"].startswith("must ")
    assert "\n" not in rule["message"]
    at = path + rule.get("fieldPath", "")
    assert at in ALL


def test_texts_that_may_be_secret_are_marked() -> None:
    marked = {path for path, node in ALL.items() if node.get("format") == "password"}
    assert marked == {
        "spec.origin.headers[].value",
        "spec.origin.query[].value",
        *(
            f"spec.origin.{steps}[].http.{each}"
            for steps in ("beforeConnect", "onConnect")
            for each in ("headers[].value", "query[].value", "body")
        ),
        "spec.origin.onConnect[].send",
        "spec.origin.onConnect[].sendBytes",
        "spec.origin.onMessage[].send",
        "spec.origin.onMessage[].sendBytes",
        "spec.origin.every[].send",
        "spec.origin.every[].sendBytes",
        "spec.template.env[].value",
    }


FREE = {
    "status.lastValidSpec",
    *(f"spec.template.affinity.{which}" for which in ("nodeAffinity", "podAffinity", "podAntiAffinity")),
    "spec.template.topologySpreadConstraints[]",
    "spec.template.topologySpreadConstraints[].labelSelector",
}
"""What Kubernetes itself checks when the pod is made, and what was checked before it was kept."""


def test_objects_are_closed_and_typed() -> None:
    for path, node in ALL.items():
        if path == "spec.origin.onConnect[].expect.json{}":  # any JSON
            assert node["x-kubernetes-preserve-unknown-fields"]
            assert node["nullable"]
        elif node.get("x-kubernetes-int-or-string"):
            assert "type" not in node
        elif path in FREE:
            assert (node["type"], node["x-kubernetes-preserve-unknown-fields"]) == ("object", True)
        elif node["type"] == "object":
            assert ("properties" in node) is not ("additionalProperties" in node)
            assert set(node.get("required", ())) <= set(node.get("properties", ()))


def test_the_resource_is_served_with_scale_and_status() -> None:
    crd = schema.crd()
    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{crd['spec']['group']}" == "lobbies.lobby-gateway.io"
    (version,) = crd["spec"]["versions"]
    assert version["served"]
    assert version["storage"]
    scale = version["subresources"]["scale"]
    assert [scale[key][1:] in ALL for key in ("specReplicasPath", "statusReplicasPath", "labelSelectorPath")] == [
        True
    ] * 3
    assert version["subresources"]["status"] == {}


def test_columns_show_fields_that_exist() -> None:
    (version,) = schema.crd()["spec"]["versions"]
    for column in version["additionalPrinterColumns"]:
        path = re.sub(r"\[\?.*?\]", "[]", column["jsonPath"][1:])
        assert path in ALL or path == "metadata.creationTimestamp"
    shown = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert shown == ["URL", "Origin", "Lobbies", "Clients", "Ready", "Reason", "Age"]
