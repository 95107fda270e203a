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
        arguments: for each, how the text is written that it consists of; empty if it is something else. What is in front of
            the dot is an argument, too.
    """

    name: str
    arguments: tuple[str, ...]

    @property
    def first(self) -> str | None:
        """The first argument if it is a text without escapes; None: it is something else."""
        bare = self.arguments[0].lstrip("rR") if self.arguments else ""
        return bare.strip("\"'") if bare[:1] in ("'", '"') and "\\" not in bare else None


def calls(source: str) -> Iterator[Call]:
    """The calls of functions in a text that the library has compiled."""
    tokens = list(_tokens(source))
    for index, name in enumerate(tokens[:-1]):
        if name.lastgroup == "value" and tokens[index + 1][0] == "(":
            receiver = ("",) if index > 0 and tokens[index - 1][0] == "." else ()
            yield Call(name[0], (*receiver, *_arguments(tokens, index + 2)))


def _arguments(tokens: Sequence[re.Match[str]], at: int) -> Iterator[str]:
    """The arguments of a call that begin at a token, see `Call`."""
    depth, start = 1, at
    for index in range(at, len(tokens)):
        sign = tokens[index][0]
        if sign in _PAIRS.values():
            depth += 1
        elif sign in _PAIRS:
            depth -= 1
        if depth == 0 or (depth == 1 and sign == ","):
            if index > start:
                alone = index == start + 1 and tokens[start].lastgroup == "string"
                yield tokens[start][0] if alone else ""
            start = index + 1
        if depth == 0:
            return


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
