"""What a lobby must not show of its conversation with an origin, beside its secrets: captured values and signatures.

Nothing is searched or prepared until something is shown: a message that captures a value costs a few microseconds, and what
hides it is made when a line needs it. The memory is bounded, and no kind of text pushes out another one:

| what | how many are remembered |
| --- | --- |
| values that are saved now (`Captured`) | all of them: `OriginSettings.saved_bytes` |
| values that they replaced | the latest: `hidden_texts`, `hidden_characters` |
| signatures of the handshake and of `onConnect`, of each open connection | all of them: `hidden_handshake_characters` |
| signatures of `every`, of rules, of earlier connections | the latest of each: `hidden_texts`, `hidden_characters` |

Some values are too short or too common to be hidden, because logs without them could not be read: texts of less than 4
characters and the words of JSON, truth values, and numbers of less than 6 digits. A longer number is hidden where it stands
as a whole. Keys of an object are names of fields, and are only hidden if they look random.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from math import isfinite
from typing import Protocol

from lobby_gateway.origin.redaction import Redactor
from lobby_gateway.settings import ORIGIN, OriginSettings

SHORTEST_NUMBER = 6
"""Digits of a number that is hidden. Status codes, close codes, ports and most intervals have fewer."""

_COMMON = frozenset({"true", "false", "null", "none"})
_SHORTEST_KEY = 8  # with a digit in it
_LONGEST_NAME = 20  # of a field; anything longer looks random
_VERSIONS = 4  # of the secrets


class Moment(Enum):
    """When a text was computed."""

    HANDSHAKE = auto()  # or in a step of `onConnect`
    TIMER = auto()
    MESSAGE = auto()


class Latest:
    """The latest texts, each once.

    Args:
        most: how many.
        most_characters: of all together; the latest one is remembered even if it is longer.
    """

    __slots__ = ("_characters", "_most", "_most_characters", "_texts")

    def __init__(self, most: int | None, most_characters: int) -> None:
        self._most = most
        self._most_characters = most_characters
        self._characters = 0
        self._texts: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Remembers a text as the latest one."""
        texts = self._texts
        if text in texts:
            del texts[text]
        else:
            self._characters += len(text)
        texts[text] = None
        while len(texts) > 1 and (
            self._characters > self._most_characters or (self._most is not None and len(texts) > self._most)
        ):
            oldest = next(iter(texts))
            del texts[oldest]
            self._characters -= len(oldest)

    def texts(self) -> tuple[str, ...]:
        """All of them, the latest one last."""
        return tuple(self._texts)  # at once, since logs are written by other threads, too

    def clear(self) -> None:
        """Forgets all."""
        self._texts = {}
        self._characters = 0


class Source(Protocol):
    """What a session must not show as long as it exists."""

    def values_to_hide(self) -> Iterable[object]:
        """Saved values, as JSON types."""
        ...

    def texts_to_hide(self) -> Iterable[str]:
        """Computed texts."""
        ...


class Hidden:
    """What must not be shown. Shared by all sessions of a lobby: an origin may quote on one what it was told on another.

    Args:
        secrets: of the Lobby.
        settings: how much is remembered.
    """

    __slots__ = ("_captured", "_changes", "_computed", "_made", "_made_of", "_secrets", "_sources")

    def __init__(self, secrets: Iterable[str] = (), settings: OriginSettings = ORIGIN) -> None:
        self._secrets: tuple[frozenset[str], ...] = (frozenset(secrets),)
        self._captured = Latest(settings.hidden_texts, settings.hidden_characters)  # as JSON
        self._computed = {each: Latest(settings.hidden_texts, settings.hidden_characters) for each in Moment}
        self._sources: tuple[weakref.ref[Source], ...] = ()
        self._changes = 0
        self._made = Redactor(self._secrets[0])
        self._made_of = 0

    def __repr__(self) -> str:
        return f"<Hidden: {self.redactor()!r}>"

    def hide(self, text: str) -> str:
        """`text` with all that must not be shown replaced."""
        return self.redactor().hide(text)

    def line(self, text: str) -> str:
        """The same as one line of limited length, see `Redactor.line`."""
        return self.redactor().line(text)

    def redactor(self) -> Redactor:
        """What hides all that must not be shown now."""
        if self._made_of != self._changes:
            changes = self._changes
            self._made = self._make()
            self._made_of = changes
        return self._made

    def changed(self) -> None:
        """A source has more to hide."""
        self._changes += 1

    @property
    def secrets(self) -> frozenset[str]:
        """Those of the Lobby, their latest version."""
        return self._secrets[-1]

    def add_source(self, source: Source) -> None:
        """Hides what this source knows, too, as long as it exists."""
        self._sources = (*(each for each in self._sources if each() is not None), weakref.ref(source))
        self.changed()

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Other secrets took the place of those so far, which an origin may still quote: the latest versions are hidden."""
        added = frozenset(secrets)
        self._secrets = (*(each for each in self._secrets if each != added), added)[-_VERSIONS:]
        self.changed()

    def add_captured(self, value_as_json: str) -> None:
        """A value was captured."""
        self._captured.add(value_as_json)
        self.changed()

    def add_computed(self, text: str, moment: Moment) -> None:
        """A signature was computed."""
        self._computed[moment].add(text)
        self.changed()

    def _make(self) -> Redactor:
        texts: set[str] = set().union(*self._secrets)
        numbers: set[str] = set()
        for each in self._computed.values():
            texts.update(each.texts())
        for captured in self._captured.texts():
            _collect(json.loads(captured), texts, numbers)
        for reference in self._sources:
            source = reference()
            if source is not None:
                texts.update(source.texts_to_hide())
                for value in source.values_to_hide():
                    _collect(value, texts, numbers)
        return Redactor(texts, numbers)


def _collect(value: object, texts: set[str], numbers: set[str]) -> None:
    """Adds what is to be hidden of a captured value."""
    if isinstance(value, str):
        if value.casefold() not in _COMMON:
            texts.add(value)
    elif isinstance(value, dict):
        for key, each in value.items():
            _collect_key(str(key), texts, numbers)
            _collect(each, texts, numbers)
    elif isinstance(value, list):
        for each in value:
            _collect(each, texts, numbers)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        numbers.update(_forms(value))


def _collect_key(key: str, texts: set[str], numbers: set[str]) -> None:
    if key.isdecimal():
        if len(key) >= SHORTEST_NUMBER:
            numbers.add(key)
    elif len(key) > _LONGEST_NAME or (len(key) >= _SHORTEST_KEY and any(map(str.isdigit, key))):
        texts.add(key)


def _forms(number: float) -> Iterator[str]:
    """How a number may be written, without its sign and exponent: 8675309123, 8,675,309,123, 8.675309123 (e+09, as in Go)."""
    if not isfinite(number):  # an integer has 64 bits in CEL
        return
    whole = isinstance(number, int) or number.is_integer()
    plain = str(abs(int(number))) if whole else repr(abs(number)).partition("e")[0]
    digits = plain.replace(".", "").strip("0")
    if whole and len(plain) >= SHORTEST_NUMBER:
        yield plain
        yield f"{int(plain):,}"
    elif len(plain.replace(".", "").lstrip("0")) >= SHORTEST_NUMBER:
        yield plain
    if len(digits) >= SHORTEST_NUMBER:
        yield f"{digits[0]}.{digits[1:]}"
