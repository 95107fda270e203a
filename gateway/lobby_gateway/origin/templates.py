"""Texts with expressions in them: `{"pong":$(msg.ping)}`.

`$(…)` holds an expression (see `expressions.py`) and is replaced by its value: a string as it is, anything else as JSON (the
keys of an object in any order).
`$(json:NAME)` is a secret escaped for a JSON string. `$$(` is a literal `$(`. No error contains a value.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, ExpressionError, as_text, kind_of

Compile = Callable[[str, Collection[str]], Expression]
"""Makes an expression of its text and the names that it may use, or raises an `ExpressionError`."""

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_JSON = "json:"
_ESCAPE, _OPEN = "$$(", "$("
# What may stand between the parentheses of an expression: strings, in which parentheses do not count, and the rest.
_TOKEN = re.compile(r"""[rRbB]{0,2}"(?:[^"\\]|\\.)*"|[rRbB]{0,2}'(?:[^'\\]|\\.)*'|[()]|[^()"']""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Secret:
    """`$(NAME)` or `$(json:NAME)`: needs no expression, so most Lobbies need no library for them."""

    name: str
    quoted: bool

    def text(self, variables: Mapping[str, object]) -> str:
        value = str(variables[self.name])
        return json.dumps(value, ensure_ascii=False)[1:-1] if self.quoted else value


class Template:
    """A text with expressions.

    Attributes:
        constant: whether its text depends on the secrets alone.
        uses_last: whether it looks at the newest message of the stream.
    """

    __slots__ = ("_parts", "constant", "uses_last")
    field: ClassVar = "send"  # the field that has one, for errors

    def __init__(
        self, source: str, secrets: Collection[str], variables: Collection[str], compiled: Compile = Expression
    ) -> None:
        """Parses and compiles it.

        Args:
            source: the text.
            secrets: names of the Lobby's secrets.
            variables: other names that its expressions may use.
            compiled: compiles an expression.

        Raises:
            ExpressionError: an expression is not closed, does not compile, or uses an unknown name.
        """
        try:
            found = list(split(source))
        except ExpressionError as error:
            raise ExpressionError(f"{error}; {_accepted(secrets, variables)}") from None
        parts: list[str | _Secret | Expression] = []
        for text, start, inner in found:
            parts.append(text)
            if inner is not None:
                parts.append(_part(inner, start, secrets, variables, compiled))
        self._parts = tuple(parts)
        expressions = [part for part in parts if isinstance(part, Expression)]
        self.constant = not expressions
        self.uses_last = any(each.uses_last for each in expressions)

    def message(self, known: Known) -> str:
        """The text, with the values of the expressions.

        Raises:
            ExpressionError: an expression has no value, or one that no text can hold.
        """
        made: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                made.append(part)
            elif isinstance(part, _Secret):
                made.append(part.text(known.variables))
            else:
                text = as_text(part.value(known.variables))
                if part.signs:
                    known.hide(text)
                made.append(text)
        return "".join(made)


class BytesTemplate:
    """A binary message: one expression whose value is bytes.

    Attributes:
        uses_last: whether it looks at the newest message of the stream.
    """

    __slots__ = ("_expression", "uses_last")
    field: ClassVar = "sendBytes"

    def __init__(self, source: str, variables: Collection[str], compiled: Compile = Expression) -> None:
        """Compiles it; `variables` are the names that it may use.

        Raises:
            ExpressionError: it does not compile, or uses an unknown name.
        """
        self._expression = compiled(source, variables)
        self._expression.check_constant(_as_bytes)
        self.uses_last = self._expression.uses_last

    def message(self, known: Known) -> bytes:
        """The message.

        Raises:
            ExpressionError: the expression has no value, or none of bytes.
        """
        value = _as_bytes(self._expression.value(known.variables))
        if self._expression.signs:
            for text in (value.hex(), b64encode(value).decode(), value.decode(errors="replace")):
                known.hide(text)
        return value


MessageTemplate = Template | BytesTemplate
"""What makes a message to send."""


def split(source: str) -> Iterator[tuple[str, int, str | None]]:
    """The texts of a template, with where the expression behind each begins, and that expression; behind the last is none.

    Raises:
        ExpressionError: an expression is not closed.
    """
    text, at = "", 0
    while (start := source.find(_OPEN, at)) >= 0:
        if start > at and source[start - 1 : start + 2] == _ESCAPE:
            text += source[at : start - 1] + _OPEN
            at = start + len(_OPEN)
            continue
        end = _closing(source, start + len(_OPEN))
        if end is None:
            raise ExpressionError("$( without an expression and ')'")
        yield text + source[at:start], start, source[start + len(_OPEN) : end]
        text, at = "", end + 1
    yield text + source[at:], len(source), None


def _part(
    inner: str, start: int, secrets: Collection[str], variables: Collection[str], compiled: Compile
) -> _Secret | Expression:
    name = inner.removeprefix(_JSON)
    if _NAME.fullmatch(name) and (name != inner or name not in variables):
        if name not in secrets:
            raise ExpressionError(f"$({inner}) is unknown; {_accepted(secrets, variables)}")
        return _Secret(name, quoted=name != inner)
    try:
        made = compiled(inner, {*secrets, *variables})
        made.check_constant(as_text)
    except ExpressionError as error:
        raise ExpressionError(f"the expression at character {start + len(_OPEN) + 1}: {error}") from None
    return made


def _accepted(secrets: Collection[str], variables: Collection[str]) -> str:
    names = ", ".join(sorted(secrets)) or "none"
    others = ", ".join(sorted(variables))
    return f"accepted: the names of spec.origin.secrets ({names}), expressions with {others}, or $$( for $( itself"


def _closing(source: str, at: int) -> int | None:
    """Where the `)` is that closes an expression which begins at `at`; None if there is none."""
    depth = 1
    while (token := _TOKEN.match(source, at)) is not None:
        at = token.end()
        if token[0] == "(":
            depth += 1
        elif token[0] == ")":
            depth -= 1
            if not depth:
                return at - 1
    return None


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ExpressionError(f'the value is {kind_of(value)}; accepted: bytes, such as b"\\xc0\\x00"')
    return value
