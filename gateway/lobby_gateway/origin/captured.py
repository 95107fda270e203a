"""What a connection learns from an origin's messages (`save`), and what else of the conversation must never be shown.

Saved values live over reconnects: an id of a session, the address of the next one, the interval of heartbeats. They may be as
secret as a password, and so may a computed signature: both are hidden like one in everything that is reported (`hidden.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lobby_gateway.origin.expressions import Expression, ExpressionError, nests_too_deep
from lobby_gateway.origin.hidden import Hidden, Latest, Moment
from lobby_gateway.settings import EXPRESSIONS, ORIGIN, OriginSettings


class Captured:
    """Saved values by name.

    Args:
        hidden: where to tell what must not be shown.
        settings: how many bytes may be saved, and how much is hidden.

    Attributes:
        values: the values, as the variable `saved` of expressions.
        hidden: what must not be shown.
    """

    __slots__ = ("__weakref__", "_handshake", "_max_bytes", "_sizes", "hidden", "values")

    def __init__(self, hidden: Hidden | None = None, settings: OriginSettings = ORIGIN) -> None:
        self._max_bytes = settings.saved_bytes
        self._sizes: dict[str, int] = {}  # of the values as JSON, with their names
        self._handshake = Latest(None, settings.hidden_handshake_characters)  # computed for the open connection
        self.values: dict[str, object] = {}
        self.hidden = hidden or Hidden(settings=settings)
        self.hidden.add_source(self)

    def save(self, expressions: Mapping[str, Expression], variables: Mapping[str, object], where: str) -> None:
        """Saves the values of expressions, all of them or none.

        Args:
            expressions: by name.
            variables: of the message.
            where: the field of the expressions, for errors.

        Raises:
            ExpressionError: an expression has no value, or the values are too large.
        """
        if not expressions:
            return
        found: dict[str, object] = {}
        texts: list[str] = []
        sizes = dict(self._sizes)
        for name, expression in expressions.items():
            try:
                found[name] = expression.value(variables)
                too_deep = nests_too_deep(found[name])  # saved in itself again and again
                text = "" if too_deep else json.dumps(found[name])
            except (ExpressionError, TypeError, ValueError) as error:
                why = str(error) if isinstance(error, ExpressionError) else "the value is not JSON"
                raise ExpressionError(f"{where}.save.{name}: {why}") from None
            if too_deep:
                raise ExpressionError(f"{where}.save.{name}: nests deeper than {EXPRESSIONS.json_depth} levels")
            texts.append(text)
            sizes[name] = len(name) + len(text) + len('"": , ')
            if (size := sum(sizes.values())) > self._max_bytes:
                raise ExpressionError(
                    f"{where}.save.{name}: all saved values have {size} bytes; accepted: {self._max_bytes}"
                )
        self._sizes = sizes
        self.values.update(found)
        for text in texts:
            self.hidden.add_captured(text)

    def hide(self, text: str, moment: Moment = Moment.MESSAGE) -> None:
        """A computed text that must not be shown."""
        if moment is Moment.HANDSHAKE:
            self._handshake.add(text)
            self.hidden.changed()
        else:
            self.hidden.add_computed(text, moment)

    def begin_attempt(self) -> None:
        """Another connection is to be opened: what was computed for the earlier one counts no more than anything earlier."""
        for text in self._handshake.texts():
            self.hidden.add_computed(text, Moment.HANDSHAKE)
        self._handshake.clear()

    def inherit(self, other: Captured) -> None:
        """Takes over what another session has saved so far, and hides together with it from now on."""
        other.hidden.add_secrets(self.hidden.secrets)
        self.values.update(other.values)
        self._sizes.update(other._sizes)
        self.hidden = other.hidden
        self.hidden.add_source(self)

    def values_to_hide(self) -> tuple[object, ...]:
        """See `Source`."""
        return tuple(self.values.values())

    def texts_to_hide(self) -> tuple[str, ...]:
        """See `Source`."""
        return self._handshake.texts()


@dataclass(frozen=True, slots=True)
class Known:
    """What expressions know beside a message.

    Attributes:
        variables: secrets by their names, times, saved values; `repr` omits them.
        captured: the saved values, and where to save more.
        moment: when the expressions are evaluated.
    """

    variables: Mapping[str, object] = field(default_factory=dict, repr=False)
    captured: Captured = field(default_factory=Captured, repr=False)
    moment: Moment = Moment.MESSAGE

    def hide(self, text: str) -> None:
        """A computed text that must not be shown."""
        self.captured.hide(text, self.moment)
