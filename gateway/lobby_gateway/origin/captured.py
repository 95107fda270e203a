"""What a connection learns from an origin's messages (`save`), and what else of the conversation must never be shown.

Saved values live over reconnects: an id of a session, the address of the next one, the interval of heartbeats. They may be as
secret as a password, and so may a computed signature: both are hidden like one in everything that is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lobby_gateway.origin.expressions import Expression, ExpressionError
from lobby_gateway.settings import ORIGIN


class Captured:
    """Saved values by name.

    Args:
        max_bytes: see `OriginSettings.saved_bytes`.

    Attributes:
        values: the values, as the variable `saved` of expressions.
    """

    __slots__ = ("_hidden", "_max_bytes", "values")

    def __init__(self, max_bytes: int = ORIGIN.saved_bytes) -> None:
        self._max_bytes = max_bytes
        self.values: dict[str, object] = {}
        self._hidden: list[str] = []

    def save(self, expressions: Mapping[str, Expression], variables: Mapping[str, object], where: str) -> None:
        """Saves the values of expressions, all of them or none.

        Args:
            expressions: by name.
            variables: of the message.
            where: the field of the expressions, for errors.

        Raises:
            ExpressionError: an expression has no value, or the values are too large.
        """
        found: dict[str, object] = {}
        for name, expression in expressions.items():
            try:
                found[name] = expression.value(variables)
                size = len(json.dumps({**self.values, **found}))
            except (ExpressionError, TypeError, ValueError) as error:
                text = str(error) if isinstance(error, ExpressionError) else "the value is not JSON"
                raise ExpressionError(f"{where}.save.{name}: {text}") from None
            if size > self._max_bytes:
                raise ExpressionError(
                    f"{where}.save.{name}: all saved values have {size} bytes; accepted: {self._max_bytes}"
                )
        self.values.update(found)
        for value in found.values():
            self._hidden += _texts(value)

    def hide(self, text: str) -> None:
        """A text that must not be shown."""
        self._hidden.append(text)

    def texts(self) -> Iterator[str]:
        """All texts of the saved values."""
        yield from _texts(self.values)

    def take_hidden(self) -> list[str]:
        """What must not be shown, since the last call."""
        hidden, self._hidden = self._hidden, []
        return hidden


@dataclass(frozen=True, slots=True)
class Known:
    """What expressions know beside a message.

    Attributes:
        variables: secrets by their names, times, saved values; `repr` omits them.
        captured: the saved values, and where to save more.
    """

    variables: Mapping[str, object] = field(default_factory=dict, repr=False)
    captured: Captured = field(default_factory=Captured, repr=False)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
