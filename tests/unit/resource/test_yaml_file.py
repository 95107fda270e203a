from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.yaml_file import MAX_BYTES, MAX_DEPTH, parse, read_document

TOO_MANY = "there are more than 10000 keys and values; accepted: a Lobby resource"


def refusal(text: str) -> str:
    with pytest.raises(InvalidLobbyError) as caught:
        parse(text, "file")
    (line,) = caught.value.problems
    assert line.startswith("file: ")
    assert line.isprintable()
    return line.removeprefix("file: ")


def refusal_of(path: Path) -> str:
    with pytest.raises(InvalidLobbyError) as caught:
        read_document(path)
    (line,) = caught.value.problems
    return line.removeprefix(f"{path}: ")


# A key of more than 1,024 characters is JSON but no YAML, without a '?' before it (YAML 1.2 §7.4.2); no field has one.
keys = st.text(max_size=50)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(json_values.filter(lambda value: value is not None))
def test_json_is_read_as_what_it_is(value: object) -> None:
    assert parse(json.dumps(value), "file") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("012", 10),
        ("0x1F", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("-7", -7),
        ("0", 0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("12:30:45", "12:30:45"),
        ("2026-08-01", "2026-08-01"),
        ("2026-08-01T10:00:00Z", "2026-08-01T10:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("+", "+"),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("'1'", "1"),
    ],
)
def test_plain_scalars_are_what_kubernetes_takes_them_for(text: str, value: object) -> None:
    assert parse(f"key: {text}", "file") == {"key": value}


@pytest.mark.parametrize("text", ["", "---", "# nothing\n", "---\n...\n", "null"])
def test_a_text_without_a_document_is_empty(text: str) -> None:
    assert refusal(text) == "is empty; accepted: one Lobby resource"


def test_empty_documents_around_the_one_are_passed_over() -> None:
    assert parse("---\n---\na: 1\n---\n", "file") == {"a": 1}


def test_a_second_document_is_refused() -> None:
    assert refusal("a: 1\n---\nb: 1\n") == "contains more than one document; accepted: one Lobby resource"


QUOTE = "accepted: plain values (put text that begins with * or ! in quotes)"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' is duplicated; accepted: unique keys"),
        ('{"a": {"b": 1, "b": 2}}', "line 1, column 16: the key 'b' is duplicated; accepted: unique keys"),
        ("1: a\n", "line 1, column 1: a key is not a string; accepted: a string (put it in quotes)"),
        ("on: a\n", "line 1, column 1: a key is not a string; accepted: a string (put it in quotes)"),
        ("? [a]\n: b\n", "line 1, column 3: a key is not a string; accepted: a string (put it in quotes)"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']', but got '<stream end>'"),
        ("a: *b\n", f"line 1, column 4: found undefined alias; {QUOTE}"),
        ("a: [*]\n", f"line 1, column 6: expected alphabetic or numeric character, but found ']'; {QUOTE}"),
        ("a: [*.b]\n", f"line 1, column 6: expected alphabetic or numeric character, but found '.'; {QUOTE}"),
        ("a: *b: 1\n", f"line 1, column 4: found undefined alias; {QUOTE}"),
        ("a: !mine 1\n", f"line 1, column 4: could not determine a constructor for the tag; {QUOTE}"),
        ("a: !<b> 1\n", f"line 1, column 4: could not determine a constructor for the tag; {QUOTE}"),
        ("a: !b!c 1\n", f"line 1, column 4: found undefined tag handle; {QUOTE}"),
        ("%YAML 3.0\n---\na: 1\n", "line 1, column 1: found incompatible YAML document (version 1.* is required)"),
        ("a: \x01\n", "contains the character U+0001 at 3; accepted: YAML or JSON"),
        (
            r'{"a": "\ud83d"}',
            "contains an unpaired surrogate (an escape such as \\ud800 alone); accepted: Unicode text",
        ),
        (
            r'{"\ude00\ud83d": 1}',
            "contains an unpaired surrogate (an escape such as \\ud800 alone); accepted: Unicode text",
        ),
        ("a: .inf\n", "contains the number inf; accepted: JSON numbers"),
        ("a: !!set {b}\n", "contains a value of the YAML type set; accepted: JSON types"),
        ("a: !!binary aGk=\n", "contains a value of the YAML type bytes; accepted: JSON types"),
        ("a: !!timestamp 2026-08-01\n", "contains a value of the YAML type date; accepted: JSON types"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(text: str, line: str) -> None:
    assert refusal(text) == line


def test_a_value_is_not_shown_when_the_file_can_not_be_read() -> None:
    assert "hunter2" not in refusal("value: 'hunter2\n")
    assert "hunter2" not in refusal("value: hunter2: hunter2\n")
    assert "hunter2" not in refusal("send: [hunter2}\n")


def test_keys_may_be_merged_and_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmade: {<<: *base, b: 3}\n"
    assert parse(text, "file") == {"base": {"a": 1, "b": 2}, "made": {"a": 1, "b": 3}}


def test_what_stands_behind_an_alias_is_copied() -> None:
    made = parse("a: &x [1]\nb: *x\n", "file")
    assert isinstance(made, dict)
    made["a"].append(2)
    assert made["b"] == [1]


def test_nesting_is_bounded() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH, "file") is not None
    for depth in (MAX_DEPTH + 1, 2_000, 50_000):
        assert refusal("[" * depth + "]" * depth).startswith("is nested too deeply")
    for depth in (MAX_DEPTH + 1, 700):
        lines = (f"{' ' * level}a:" for level in range(depth))
        assert refusal("\n".join(lines)).startswith("is nested too deeply")


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 12):
        text += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n"
    assert refusal(text) == TOO_MANY


def merging(depth: int, width: int) -> str:
    lines = ["l0: &l0 {a: 1, b: 2}"]
    lines += [f"l{i}: &l{i} {{<<: [{', '.join([f'*l{i - 1}'] * width)}], k{i}: 1}}" for i in range(1, depth + 1)]
    return "\n".join(lines)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        merging(8, 9),
        f"a: &a {{{', '.join(f'k{i}: 1' for i in range(4_000))}}}\nb: {{<<: [{', '.join(['*a'] * 900)}]}}",
        f"a: [{'1,' * 500_000}]",
        "- 1\n" * 250_000,
        f"a: [{'!!str 1, ' * 110_000}]",
        f"a: [{''.join(f'&a{i} 1, ' for i in range(90_000))}]",
        "\n".join(f"k{i}: 1" for i in range(90_000)),
        "---\n" * 250_000,
    ],
    ids=["merge keys", "merge of many keys", "flow list", "list", "tags", "anchors", "keys", "empty documents"],
)
def test_a_file_of_too_many_values_is_refused_early(text: str) -> None:
    assert refusal(text).endswith("there are more than 10000 keys and values; accepted: a Lobby resource")


@pytest.mark.timeout(20)
def test_documents_after_the_second_are_not_read() -> None:
    assert refusal("--- 1\n" * 160_000) == "contains more than one document; accepted: one Lobby resource"


@pytest.mark.parametrize(
    "digits", [f"{'1' * 1_000_000}", f"-{'9' * 4_301}", f"0x{'f' * 1_000}", f"0b{'1' * 200}", f"0{'7' * 200}"]
)
def test_an_integer_of_many_digits_is_refused_in_one_line(digits: str) -> None:
    line = refusal(f"a:\n  b: {digits}")
    assert line == f"line 2, column 6: an integer has {len(digits)} digits; accepted: at most 100"


def test_an_integer_of_many_digits_in_json_is_refused_in_one_line() -> None:
    assert refusal(f'{{"a": {"1" * 5_000}}}') == "line 1, column 7: an integer has 5000 digits; accepted: at most 100"


def test_what_is_said_about_a_long_tag_or_alias_is_short() -> None:
    for text in (f"a: !{'x' * 100_000} 1", f"a: *{'x' * 100_000}"):
        assert len(refusal(text)) < 300


def test_a_loop_is_refused() -> None:
    assert refusal("a: &a [*a]\n").startswith("is nested too deeply")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "gone.yaml") == "cannot be read: No such file or directory"
    assert refusal_of(tmp_path) == "cannot be read: Is a directory"


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(b"\x89PNG\r\n")
    assert refusal_of(file) == "is not UTF-8 text (byte 0); accepted: YAML or JSON"
    file.write_bytes(b"PK\x00\x00")
    assert refusal_of(file) == "contains the character U+0000 at 2; accepted: YAML or JSON"


def test_a_huge_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as opened:
        opened.truncate(50 * 1024**3)  # a hole: it takes no room
    assert refusal_of(file) == f"is larger than {MAX_BYTES} bytes; accepted: a Lobby resource in YAML or JSON"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "lobby.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa4\r\n")
    assert read_document(file) == {"a": "ä"}
