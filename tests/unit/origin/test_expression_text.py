"""What must not reach the library for CEL: expressions that are too large, and characters that CEL doesn't have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lobby_gateway.origin.expression_text import blanked, calls, problem
from lobby_gateway.origin.expressions import OF_MESSAGE, Expression, ExpressionError

IN_A_ROW = "has more than 100 operators in a row; accepted: at most 100"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("+".join(["1"] * 26_000), "has 51999 characters; accepted: at most 4096"),
        ("+".join(["b'a'"] * 800), IN_A_ROW),
        ("1 in " * 102 + "[1]", IN_A_ROW),
        ("msg" + ".a" * 101, IN_A_ROW),
        ("msg" + "[0]" * 101, IN_A_ROW),
        ("text" + ".size()" * 51, IN_A_ROW),
        ("(true ? 1 : " * 9 + "1" + ")" * 9 + "+1" * 101, IN_A_ROW),
        ("true ? 1 : " * 101 + "1", IN_A_ROW),
        ("- " * 101 + "1", IN_A_ROW),
        ("1 + 1 + (" * 10 + "1" + ")" * 10 + " + 1" * 99, IN_A_ROW),
        ("(" * 11 + "1" + ")" * 11, "nests brackets 11 deep; accepted: at most 10"),
        ("[" * 11 + "]" * 11, "nests brackets 11 deep; accepted: at most 10"),
        ("hex(" * 11, "nests brackets 11 deep; accepted: at most 10"),
        ("text == 'a", 'character 9: "\'" is not expected; accepted: a CEL expression'),
        ("text ==\n  \\\\", "line 2, character 3: '\\\\' is not expected; accepted: a CEL expression"),
        ("\U0001f600" * 4096, "character 1: '\U0001f600' is not expected; accepted: a CEL expression"),
        ("a < && a", "character 5: '&&' is not expected; accepted: a CEL expression"),
        ("[1}", "character 3: '}' is not expected; accepted: a CEL expression"),
        ("1)", "character 2: ')' is not expected; accepted: a CEL expression"),
    ],
)
def test_an_expression_that_is_too_large_or_has_strange_characters_is_refused_in_one_line(
    source: str, line: str
) -> None:
    assert problem(source) == line
    with pytest.raises(ExpressionError) as caught:
        Expression(source, OF_MESSAGE)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    "hidden", ["r'\\'{}//'", '// "\n{}//"', "'\\q{}'", "'\n{}'", "'''a'''{}", "r'a'{}", "br'''a'''{}"]
)
def test_operators_beside_texts_and_comments_are_counted(hidden: str) -> None:
    assert problem(hidden.format("+1" * 101)) != ""


@pytest.mark.parametrize(
    "source",
    [
        "text == '" + "+1" * 1000 + "'",
        'text == """ \n" ' + "+1" * 1000 + '"""',
        'text == r"\\" + "' + "((" * 500 + '"',
        "'\\\\\\'\\n\\x41\\u00e9\\U0001F600\\101" + "++" * 200 + "' + text",
        "1 // " + "+1" * 1000,
        " || ".join(f"msg.a.b == {index}" for index in range(200)),
        " && ".join(["true"] * 500),
        "text in [" + ", ".join(f"'{index}' + 'a'" for index in range(300)) + "]",
        "{" + ", ".join(f"'{index}': 1 + 1" for index in range(200)) + "}",
        "!" * 200 + "true",
        "[1, 2,].map(x, 0x1F + x)",
        "0.5 + .5 + 1e3 - 1.5E-3 > -1.0 ? 1u : 2u",
    ],
)
def test_what_is_beside_one_another_is_no_chain(source: str) -> None:
    assert problem(source) == ""
    Expression(source, OF_MESSAGE)


def test_the_largest_expressions_fit_into_the_smallest_stacks() -> None:
    """128 KiB, as threads have with musl. The limits of the text are what keeps the library from ending the process."""
    code = """
import threading
from lobby_gateway.origin.expression_text import blanked, calls, problem
from lobby_gateway.resource.cel_library import cel
sources = ["+".join(["1"] * 101), "1 in " * 99 + "[1]", "msg" + ".a" * 100, "true ? 1 : " * 100 + "1"]
for opening, closing in ("()", "[]", ("{1: ", "}"), ("size(", ")"), ("[1].map(x, ", ")"), ("msg.f(", ")"), ("msg{a: ", "}")):
    for before in ("", "1 + ", "1 + 1 * ", "true ? 2 : ", "msg.a.b.c + ", "true || "):
        for count in (0, 60, 80, 99):
            for depth in range(10, 0, -1):
                source = (before + opening) * depth + "1" + " + 1" * count + closing * depth
                if not problem(source):
                    break
            sources.append(source)
assert not any(map(problem, sources[:4]))
module = cel()
def use() -> None:
    for source in sources:
        try:
            program = module.compile(source)
            program.variables()
            program.execute({"msg": {}})
        except Exception:
            pass
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
use()
threading.stack_size(128 << 10)
thread = threading.Thread(target=use)
thread.start()
thread.join()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stderr=subprocess.DEVNULL)


def test_calls_are_found_with_the_number_of_their_arguments_and_a_first_text() -> None:
    source = "f('a', g(1, [2, 3]), {'b': h()}) + text.i(r\"c\") == j('d' + 'e') // k()\n && has(msg.l) ? m(b'f') : n('\\x41')"
    assert list(calls(source)) == [
        ("f", ("'a'", "", "")),
        ("g", ("", "")),
        ("h", ()),
        ("i", ("", 'r"c"')),
        ("j", ("",)),
        ("has", ("",)),
        ("m", ("b'f'",)),
        ("n", ("'\\x41'",)),
    ]
    assert [each.first for each in calls(source)] == ["a", *[None] * 7]


def test_texts_and_comments_are_blanked_in_their_place() -> None:
    assert blanked('a + \'b.c\' // d\n+ r\'\\\' + b"""e"""') == 'a + "___"     \n+ "__" + "______"'.replace("\n", " ")
