"""Whether the text of an expression may be given to the library for CEL: its size and its characters.

The library recurses for each bracket, and without a limit for each operator of a chain (`1 + 1 + …`): some 12,000 of them
overflow a stack of 8 MiB, which ends the process. It takes seconds, too, for a text full of characters that CEL doesn't have.
Imported only where expressions are compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lobby_gateway.settings import EXPRESSIONS

_ESCAPE: Final = (
    r"\\(?:[abfnrtv\"'\\?`]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"  # of CEL's grammar
)
_TOKEN: Final = re.compile(
    rf"""
      (?P<skipped> [\t\n\f\r\ ]+ | //[^\n]* )
    | (?P<string>
          [bB]?[rR] (?: "{{3}}.*?"{{3}} | '{{3}}.*?'{{3}} | "[^"\n\r]*" | '[^'\n\r]*' )
        | [bB]? (?: "{{3}}(?:{_ESCAPE}|[^\\])*?"{{3}} | '{{3}}(?:{_ESCAPE}|[^\\])*?'{{3}}
                  | "(?:{_ESCAPE}|[^"\\\n\r])*" | '(?:{_ESCAPE}|[^'\\\n\r])*' )
      )
    | (?P<value> [A-Za-z_]\w* | `[\w./\ -]+` | 0[xX][0-9a-fA-F]+[uU]? | (?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?[uU]? )
    | (?P<closing> [\])}}] )
    | (?P<sign> && | \|\| | [<>=!]= | [\[({{.,?:+*/%<>!-] )
    | (?P<unknown> . )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_VALUES: Final = frozenset(("string", "value", "closing"))
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_SEPARATORS: Final = frozenset((",", ":", "&&", "||"))
"""What stands between these is beside each other: the library makes a balanced tree of `&&` and `||`."""

_BETWEEN_VALUES: Final = _SEPARATORS | frozenset(("==", "!=", "<=", ">=", "<", ">", "+", "*", "/", "%", "in", "."))
"""Where a value is missing before one of these, the library makes a tree of another form."""


def problem(source: str) -> str:
    """Why a text may not be compiled; empty if it may."""
    if len(source) > EXPRESSIONS.characters:
        return f"has {len(source)} characters; accepted: at most {EXPRESSIONS.characters}"
    outer: list[tuple[str, int, int, int]] = []
    base = operators = members = 0  # of the innermost brackets: where they begin, and what follows one another in them
    after_value = False
    for token in _tokens(source):
        sign = token[0]
        if (
            token.lastgroup == "unknown"
            or (sign in _BETWEEN_VALUES and not after_value)
            or (sign in _PAIRS and (not outer or outer[-1][0] != _PAIRS[sign]))
        ):
            return f"{_place(source, token.start())}: {sign!r} is not expected; accepted: a CEL expression"
        after_value = token.lastgroup in _VALUES and sign != "in"
        if sign == "!" or (after_value and sign not in _PAIRS):  # the library drops pairs of "!"
            continue
        if sign in _PAIRS.values():
            outer.append((sign, base, operators, members))
            base, operators, members = base + operators + members + 1, 0, 0
            if len(outer) > EXPRESSIONS.brackets:
                return f"nests brackets {len(outer)} deep; accepted: at most {EXPRESSIONS.brackets}"
        elif sign in _PAIRS:
            _, base, operators, members = outer.pop()
            members += 1
        elif sign == ".":
            members += 1
        elif sign in _SEPARATORS:
            operators = members = 0
        elif sign == "?":  # what follows is within it, up to the end of the brackets
            base, operators, members = base + 1, 0, 0
        else:
            operators, members = operators + 1, 0
        if base + operators + members > EXPRESSIONS.chain:
            return f"has more than {EXPRESSIONS.chain} operators in a row; accepted: at most {EXPRESSIONS.chain}"
    return ""


def _tokens(source: str) -> Iterator[re.Match[str]]:
    return (token for token in _TOKEN.finditer(source) if token.lastgroup != "skipped")


def _place(source: str, at: int) -> str:
    line = source.count("\n", 0, at) + 1
    column = at - source.rfind("\n", 0, at)
    return f"character {column}" if line == 1 else f"line {line}, character {column}"
