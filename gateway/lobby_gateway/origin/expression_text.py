"""Whether the text of an expression may be given to the library for CEL, and the calls in it, which the library does not tell.

The library recurses for each bracket, and without a limit for each operator of a chain (`1 + 1 + …`): some 12,000 of them
overflow a stack of 8 MiB, which ends the process. It takes seconds, too, for a text full of characters that CEL doesn't have.
Imported only where expressions are compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

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


class Call(NamedTuple):
    """A call in an expression.

    Attributes:
        name: the function.
        arguments: how many it is given, with what is in front of the dot, if any.
        first: the first argument if that is a constant text; None: it is something else.
    """

    name: str
    arguments: int
    first: str | None


def calls(source: str) -> Iterator[Call]:
    """The calls of functions in a text that the library has compiled."""
    tokens = list(_tokens(source))
    for index, name in enumerate(tokens[:-1]):
        if name.lastgroup != "value" or tokens[index + 1][0] != "(":
            continue
        after_dot = index > 0 and tokens[index - 1][0] == "."
        arguments = _arguments(tokens, index + 2)
        first, then = tokens[index + 2 : index + 4] if arguments else (None, None)
        alone = not after_dot and first is not None and then is not None and then[0] in (",", ")")
        yield Call(name[0], arguments + after_dot, _text(first[0]) if alone and first is not None else None)


def _arguments(tokens: Sequence[re.Match[str]], at: int) -> int:
    """How many arguments a call has that begin at a token."""
    if tokens[at][0] == ")":
        return 0
    count = depth = 1
    for token in tokens[at:]:
        if token[0] in _PAIRS.values():
            depth += 1
        elif token[0] in _PAIRS:
            depth -= 1
            if not depth:
                break
        elif token[0] == "," and depth == 1:
            count += 1
    return count


def _text(literal: str) -> str | None:
    """The value of a text without escapes; None: it is something else."""
    bare = literal.lstrip("rR")
    return bare.strip("\"'") if bare[:1] in ("'", '"') and "\\" not in bare else None


def blanked(source: str) -> str:
    """The text, of the same length, without comments and without what is in constant texts."""
    parts: list[str] = []
    for token in _TOKEN.finditer(source):
        text = token[0]
        if token.lastgroup == "string":
            text = '"' + "_" * (len(text) - 2) + '"'
        elif token.lastgroup == "skipped":
            text = " " * len(text)
        parts.append(text)
    return "".join(parts)


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
