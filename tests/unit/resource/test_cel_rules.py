from __future__ import annotations

from typing import Any

from lobby_gateway.resource.cel_rules import violations
from lobby_gateway.resource.structural_schema import Path


def rule(expression: str, message: str = "must hold", **more: str) -> dict[str, str]:
    return {"rule": expression, "message": message, **more}


def lines(schema: dict[str, Any], value: Any, broken: list[Path] | None = None) -> list[str]:
    return [str(problem) for problem in violations(schema, value, broken or [])]


NUMBER = {"type": "integer"}
PAIR = {
    "type": "object",
    "properties": {"low": NUMBER, "high": NUMBER},
    "x-kubernetes-validations": [rule("self.low <= self.high", "must be at most high", fieldPath=".low")],
}


def test_a_rule_that_holds_says_nothing() -> None:
    assert lines(PAIR, {"low": 1, "high": 1}) == []


def test_a_rule_names_the_field_and_its_value() -> None:
    assert lines(PAIR, {"low": 2, "high": 1}) == ["low: 2 must be at most high"]


def test_a_field_path_may_lead_to_nothing() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {"b": NUMBER}}},
        "x-kubernetes-validations": [rule("has(self.a.b)", "must be there", fieldPath=".a.b")],
    }
    assert lines(schema, {"a": {}}) == ["a.b: null must be there"]


def test_rules_are_found_in_lists_maps_and_texts() -> None:
    text = {"type": "string", "x-kubernetes-validations": [rule("self.startsWith('a')", "must begin with a")]}
    schema = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": text},
            "map": {"type": "object", "additionalProperties": text},
            "text": text,
        },
    }
    value = {"list": ["a", "b"], "map": {"x": "c"}, "text": "d", "unknown": "e"}
    assert lines(schema, value) == [
        "list[1]: 'b' must begin with a",
        "map.x: 'c' must begin with a",
        "text: 'd' must begin with a",
    ]


def test_an_object_is_not_shown() -> None:
    schema = {**PAIR, "x-kubernetes-validations": [rule("false")]}
    assert lines(schema, {"low": 1}) == ["must hold"]


def test_a_rule_that_could_see_a_broken_part_is_not_asked() -> None:
    schema = {"type": "object", "properties": {"pair": PAIR, "other": PAIR}}
    value = {"pair": {"low": "many", "high": 1}, "other": {"low": 3, "high": 1}}
    assert lines(schema, value, [("pair", "low")]) == ["other.low: 3 must be at most high"]


def test_a_rule_on_changes_is_passed_over() -> None:
    schema = {**PAIR, "x-kubernetes-validations": [rule("self.low == oldSelf.low")]}
    assert lines(schema, {"low": 1, "high": 2}) == []


def test_free_form_json_is_hidden_from_rules() -> None:
    schema = {
        "type": "object",
        "properties": {
            "free": {"x-kubernetes-preserve-unknown-fields": True},
            "list": {"type": "array", "items": NUMBER},
        },
        "x-kubernetes-validations": [rule("!has(self.free) && !has(self.unknown) && self.list == [1]")],
    }
    assert lines(schema, {"free": 10**30, "unknown": 1, "list": [1]}) == []


def test_null_inside_free_json_harms_no_rule() -> None:
    schema = {"type": "object", "additionalProperties": {"nullable": True}, "x-kubernetes-validations": [rule("true")]}
    assert lines(schema, {"a": None}) == []
