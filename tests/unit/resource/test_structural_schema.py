from __future__ import annotations

from typing import Any

import pytest

from lobby_gateway.resource.structural_schema import accepted, defaulted, describe, path_text, problems


def lines(schema: dict[str, Any], value: Any) -> list[str]:
    return [str(problem) for problem in problems(schema, value)]


def of(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


TEXTS = of(a={"type": "string"}, b={"type": "integer"})


def test_a_default_is_filled_in_and_then_its_own_fields() -> None:
    schema = of(a={**of(b={"type": "integer", "default": 1}), "default": {}}, c=of(d={"type": "integer", "default": 2}))
    assert defaulted(schema, {}) == {"a": {"b": 1}}
    assert defaulted(schema, {"c": {}}) == {"a": {"b": 1}, "c": {"d": 2}}


def test_defaults_reach_into_lists_and_maps() -> None:
    item = of(a={"type": "integer", "default": 1})
    assert defaulted({"type": "array", "items": item}, [{}, {"a": 2}]) == [{"a": 1}, {"a": 2}]
    assert defaulted({"type": "object", "additionalProperties": item}, {"x": {}}) == {"x": {"a": 1}}


def test_a_default_is_copied() -> None:
    schema = of(
        a={"type": "array", "default": []}, b={"default": {"c": []}, "x-kubernetes-preserve-unknown-fields": True}
    )
    defaulted(schema, {})["a"].append(1)
    defaulted(schema, {})["b"]["c"].append(1)
    assert defaulted(schema, {}) == {"a": [], "b": {"c": []}}


def test_a_null_is_absent_unless_it_is_allowed() -> None:
    schema = of(a={"type": "integer", "default": 1}, b={"type": "string"}, c={"type": "string", "nullable": True})
    assert defaulted(schema, {"a": None, "b": None, "c": None}) == {"a": 1, "c": None}


def test_an_unknown_null_stays_to_be_refused() -> None:
    assert defaulted(TEXTS, {"x": None}) == {"x": None}
    assert lines(TEXTS, {"x": None}) == ["x: unknown field; accepted: a, b"]


def test_what_has_the_wrong_kind_is_left_alone() -> None:
    assert defaulted(of(a=of(b={"default": 1})), {"a": [1]}) == {"a": [1]}
    assert defaulted({"type": "array"}, [[1]]) == [[1]]


def test_whole_floats_become_integers() -> None:
    made = defaulted(TEXTS, {"b": 5.0})
    assert made == {"b": 5}
    assert isinstance(made["b"], int)
    assert defaulted(TEXTS, {"b": 5.5}) == {"b": 5.5}
    assert isinstance(defaulted({"type": "number"}, 5.0), float)


def test_free_form_fields_are_not_unknown() -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}}
    assert lines(free, {"x": {"y": 1}}) == []
    assert lines({"type": "object", "additionalProperties": {}}, {"x": {"y": 1}}) == []


def test_an_unknown_field_in_the_status_is_not_what_was_meant() -> None:
    schema = of(spec=of(a={}), status=of(seats={}))
    assert lines(schema, {"spec": {"seats": 1}}) == ["spec.seats: unknown field; accepted: a"]


def test_a_field_that_stands_in_two_other_places_is_not_guessed() -> None:
    schema = of(a=of(x={}), b=of(x={}), c={})
    assert lines(schema, {"x": 1}) == ["x: unknown field; accepted: a, b, c"]
    assert lines(of(a=of(x={}), c={}), {"x": 1}) == ["x: unknown field; did you mean a.x? accepted: a, c"]


def test_every_missing_field_is_named_once() -> None:
    schema = {**TEXTS, "required": ["a", "b"]}
    assert sorted(set(lines(schema, {}))) == ["a: missing; accepted: a string", "b: missing; accepted: an integer"]


@pytest.mark.parametrize(
    ("schema", "value", "line"),
    [
        ({"type": "integer"}, None, "null is not allowed; accepted: an integer"),
        ({"type": "integer", "minimum": 1}, 0, "0 is too small; accepted: 1 or more"),
        ({"type": "integer"}, 10**99, ""),
        ({"type": "integer", "maximum": 9, "minimum": 0}, 10**99, f"1{'0' * 56}... is too large; accepted: 0 to 9"),
        ({"type": "integer", "minimum": 10, "maximum": 20}, 1.5, "1.5 is not an integer; accepted: 10 to 20"),
        ({"type": "integer", "maximum": 9}, 9.5, "9.5 is not an integer; accepted: an integer"),
        ({"type": "boolean"}, 0, "0 is a number; accepted: true or false"),
        ({"type": "boolean"}, "false", "'false' is a string (remove the quotes); accepted: true or false"),
        ({"type": "string"}, 1.5, "1.5 is a number (put it in quotes); accepted: a string"),
        ({"type": "string"}, {}, "a mapping is not allowed here; accepted: a string"),
        ({"type": "object"}, [], "a list is not allowed here; accepted: a mapping"),
        ({"type": "string", "minLength": 2}, "", "is empty; accepted: at least 2 characters"),
        ({"type": "array", "minItems": 1}, [], "has 0 entries; accepted: at least 1"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, "has 2 entries; accepted: at most 1"),
        ({"enum": ["Only"]}, "only", "'only' is unknown; did you mean Only? accepted: Only"),
        ({"enum": ["A"]}, 1, ""),  # the type is what is said to be wrong
        ({"type": "string", "pattern": "^a$", "title": "the a"}, "a\n", "'a\\n' is invalid; accepted: the a"),
        ({"type": "string", "pattern": "^a"}, "ab", ""),
        ({"type": "string", "const": "a"}, "b", "'a' was expected"),
    ],
)
def test_what_does_not_fit_is_said_in_words(schema: dict[str, Any], value: Any, line: str) -> None:
    assert lines(schema, value) == ([line] if line else [])


def test_a_set_has_no_two_equal_entries() -> None:
    schema = {"type": "array", "x-kubernetes-list-type": "set"}
    assert lines(schema, ["a", "b", "a", "a"]) == [
        "[2]: 'a' is duplicated; accepted: unique entries",
        "[3]: 'a' is duplicated; accepted: unique entries",
    ]


def test_a_map_has_no_two_entries_with_the_same_keys() -> None:
    schema = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"]}
    assert lines(schema, [{"a": "1"}, {"a": "1", "b": "2"}, "no entry", {"b": "2", "a": "1"}]) == [
        "[3]: a '1', b '2' is duplicated; accepted: unique entries",
    ]


def test_other_lists_may_repeat_themselves() -> None:
    assert lines({"type": "array", "x-kubernetes-list-type": "atomic"}, [1, 1]) == []
    assert lines({"type": "array", "x-kubernetes-list-type": "set"}, "no list") == [
        "'no list' is a string; accepted: a list"
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a" * 60, repr("a" * 60)),
        ("a" * 61, repr("a" * 57 + "...")),
        ("a\nb", r"'a\nb'"),
        ("wss://joe:hunter2@a.example/", "'wss://...@a.example/'"),
        ("wss://hunter2@a.example/?key=hunter2\nx", "'wss://...@a.example/?...'"),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        ({"a": "hunter2"}, "a mapping"),
        (["hunter2"], "a list"),
    ],
)
def test_a_value_is_shown_short_and_without_credentials(value: Any, shown: str) -> None:
    assert describe(value, {}) == shown


@pytest.mark.parametrize("value", ["hunter2", 12345, True])
def test_a_value_that_may_be_secret_is_not_shown(value: Any) -> None:
    assert describe(value, {"format": "password"}) == "this value"


def test_a_path_is_written_as_people_write_it() -> None:
    assert path_text(()) == ""
    assert path_text(("spec", "headers", 0, "name")) == "spec.headers[0].name"
    assert path_text(("json", "/a.b", "x y\n")) == r"json['/a.b']['x y\n']"
    assert len(path_text(("a" * 10, "/" * 500))) < 100


def test_what_a_field_accepts_is_said_in_words() -> None:
    assert accepted({"enum": ["A", "B", "C"]}) == "A, B or C"
    assert accepted({"type": "object", "properties": {"a": {}, "b": {}}}) == "a mapping of a, b"
    assert accepted({"type": "object"}) == "a mapping"
