"""Hides secrets in texts: an origin may send back whatever it was sent, encoded in any way, and libraries quote their input.

A text is searched as it is and with its escapes undone, round by round: percent-encoding, escapes of JSON and of programming
languages, character references of HTML. Runs of base64 and of hexadecimal digits are decoded. What stands for a secret, or
for a large piece of one (a close reason is cut after 123 bytes, RFC 6455 §5.5), is replaced in the original text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from itertools import chain

MAX_REASON_CHARACTERS = 200
"""Of a line about an origin, see `Redactor.line`."""

_SHORTEST_SECRET = 4  # anything shorter is hardly a secret, and replacing it would mangle words
_PIECE = 16  # characters in a row of a longer secret that are no coincidence
_MOST_PLACES = 8  # of the same characters in secrets: what is repeated more often is hidden wherever it stands
_GRAM = _PIECE // 2  # likewise at the end of a text, if a secret begins with them: it may have been cut there
_MAX_LINE_INPUT = (
    1000  # characters that are searched for one line: usually 1 ms, at worst 30 ms, for any number of secrets
)
_ROUNDS = 4  # of undoing escapes: a URL in JSON in a URL has three
_DEPTH = 2  # of base64 in base64: credentials in a token
_HIDDEN = "***"

_ESCAPES = re.compile(
    r"(?P<percent>(?:%[0-9A-Fa-f]{2})+)"
    r"|(?P<unicode>(?:\\u[0-9A-Fa-f]{4})+)|\\[uU]\{?(?P<point>[0-9A-Fa-f]{1,8})\}?|(?P<bytes>(?:\\x[0-9A-Fa-f]{2})+)"
    r"|\\(?P<short>[\"'\\/bfnrt])"
    r"|&\#(?:(?P<decimal>[0-9]{1,7})|[xX](?P<hex>[0-9A-Fa-f]{1,6}));|&(?P<named>amp|lt|gt|quot|apos);"
)
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_NAMED_REFERENCES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_FROM_URL_SAFE = str.maketrans("-_", "+/")  # RFC 4648 §5
# Half an escape, and what follows it.
_AFTER_A_CUT = re.compile(r"(?:%\w?|\\[uUx]?\{?\w{0,7}|&\#?\w{0,6})?[ .…'\")\]}>]*\Z")
_LONGEST_CUT = 32  # characters at the end of a text that are searched for it

Span = tuple[int, int]
"""Start and end of a part of a text."""


class Redactor:
    """Replaces secrets in texts.

    Args:
        secrets: texts.
        numbers: forms of numbers, which are only replaced where no digit stands beside them.
    """

    __slots__ = ("_base64", "_beginnings", "_count", "_grams", "_hex", "_numbers", "_short")

    def __init__(self, secrets: Iterable[str] = (), numbers: Iterable[str] = ()) -> None:
        every: set[str] = set()
        for each in secrets:
            every.update((each,) if each.isalnum() else _forms(each))
        every = {form for form in every if len(form) >= _SHORTEST_SECRET}
        long = [form for form in every if len(form) >= _PIECE]
        whole = {form for form in numbers if len(form) >= _SHORTEST_SECRET} - every
        forms = every | whole
        self._count = len(forms)
        self._short = _Words(form for form in every if len(form) < _PIECE)
        self._numbers = _Words(whole)
        # Every piece contains one of these whole, so that most texts cost one look-up for each character.
        self._grams: dict[str, list[tuple[str, int]]] = {}
        for form in long:
            for at in range(0, len(form) - _GRAM + 1, _GRAM):
                places = self._grams.setdefault(form[at : at + _GRAM], [])
                if len(places) <= _MOST_PLACES:
                    places.append((form, at))
        # Runs too short for the shortest secret, as most words are, need not be decoded.
        shortest = min((_GRAM, *(len(form) for form in forms)))
        self._base64 = re.compile(rf"[A-Za-z0-9+/_-]{{{-(-shortest * 4 // 3)},}}")
        self._hex = re.compile(rf"[0-9A-Fa-f]{{{shortest * 2},}}")
        self._beginnings = {form[:_GRAM]: form[:_PIECE] for form in forms if len(form) > _GRAM}

    def __repr__(self) -> str:
        return f"<Redactor: {self._count} secrets>"

    def hide(self, text: str) -> str:
        """`text` with each secret replaced."""
        if not self._count:
            return text
        made: list[str] = []
        at = 0
        for start, end in sorted(self._secret_spans(text)):
            if end > at:
                if start > at or not made:
                    made += (text[at:start], _HIDDEN)
                at = end
        return "".join((*made, text[at:]))

    def line(self, text: str) -> str:
        """`text` as one line of at most `MAX_REASON_CHARACTERS` printable characters, with each secret replaced."""
        hidden = self.hide(text[:_MAX_LINE_INPUT])
        text = " ".join("".join(c if c.isprintable() else " " for c in hidden).split())
        if text != hidden:
            text = self.hide(text)  # removing unprintable characters may have assembled a secret
        return text if len(text) <= MAX_REASON_CHARACTERS else text[: MAX_REASON_CHARACTERS - 1] + "…"

    def _secret_spans(self, text: str, depth: int = _DEPTH) -> Iterator[Span]:
        yield from self._visible_spans(text, depth)
        for decoded in _Decoded.rounds(text):
            for start, end in self._visible_spans(decoded.text, depth):
                yield decoded.starts[start], decoded.ends[end - 1]

    def _visible_spans(self, text: str, depth: int) -> Iterator[Span]:
        """Without undoing escapes."""
        return chain(self._matches(text), self._encoded(text, depth - 1) if depth else ())

    def _matches(self, text: str) -> Iterator[Span]:
        """The secrets in a text, and large pieces of them."""
        yield from self._short.spans(text)
        for start, end in self._numbers.spans(text):
            if not (_is_digit(text[start - 1 : start]) or _is_digit(text[end : end + 1])):
                yield start, end
        for at in range(len(text) - _GRAM + 1) if self._grams else ():
            places = self._grams.get(text[at : at + _GRAM], ())
            if len(places) > _MOST_PLACES:
                yield at, at + _GRAM
                continue
            for form, place in places:
                before = _alike(text[max(0, at - _GRAM) : at][::-1], form[max(0, place - _GRAM) : place][::-1])
                end = at + _GRAM
                end += _alike(text[end : end + _GRAM], form[place + _GRAM : place + _PIECE])
                if end - at + before >= _PIECE:
                    yield at - before, end
        cut = _AFTER_A_CUT.search(text, max(0, len(text) - _LONGEST_CUT))
        end = len(text) if cut is None else cut.start()
        for at in range(max(0, end - _PIECE + 1), end - _GRAM + 1):
            if self._beginnings.get(text[at : at + _GRAM], "").startswith(text[at:end]):
                yield at, end

    def _encoded(self, text: str, depth: int) -> Iterator[Span]:
        """Runs of base64 or hexadecimal digits that contain a secret."""
        for found in self._base64.finditer(text):
            if any(self._reveals(_base64_decoded(found[0][skip:]), depth) for skip in range(4)):
                yield found.span()
        for found in self._hex.finditer(text):
            if any(self._reveals(_hex_decoded(found[0][skip:]), depth) for skip in range(2)):
                yield found.span()

    def _reveals(self, data: bytes, depth: int) -> bool:
        return next(self._secret_spans(data.decode(errors="replace"), depth), None) is not None


class _Words:
    """Short texts, however many, to be found in others: by their first characters, and then by their length."""

    __slots__ = ("_beginnings", "_lengths", "_words")

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words)
        self._beginnings = frozenset(each[:_SHORTEST_SECRET] for each in self._words)
        self._lengths = sorted({len(each) for each in self._words})

    def spans(self, text: str) -> Iterator[Span]:
        """Where they stand; one may contain another."""
        beginnings = self._beginnings
        for at in range(len(text) - _SHORTEST_SECRET + 1) if beginnings else ():
            if text[at : at + _SHORTEST_SECRET] in beginnings:
                for length in self._lengths:
                    if text[at : at + length] in self._words and at + length <= len(text):
                        yield at, at + length


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written: in part ("abc123" of "Bearer abc123"), or with other spaces."""
    for part in {secret, " ".join(secret.split()), *secret.split()}:
        yield from (part, part.replace(" ", "+"), _Decoded.entirely(part))  # one may look like an escape


def _alike(a: str, b: str) -> int:
    """How many characters at the beginning of two short texts are the same."""
    if a == b:
        return len(a)
    return next((at for at, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9" if character else False


class _Decoded:
    """A text with escapes undone.

    Attributes:
        text: the text.
        starts: where each character starts in the original text.
        ends: where it ends.
    """

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str, starts: list[int], ends: list[int]) -> None:
        self.text = text
        self.starts = starts
        self.ends = ends

    @classmethod
    def rounds(cls, text: str) -> Iterator[_Decoded]:
        """The text after each round, until nothing changes."""
        if _ESCAPES.search(text) is None:
            return
        length = len(text)
        decoded = cls(text, list(range(length)), list(range(1, length + 1)))
        for _ in range(_ROUNDS):
            decoded = decoded._once()
            yield decoded
            if _ESCAPES.search(decoded.text) is None:
                return

    @classmethod
    def entirely(cls, text: str) -> str:
        """The text after the last round."""
        for decoded in cls.rounds(text):
            text = decoded.text
        return text

    def _once(self) -> _Decoded:
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for found in _ESCAPES.finditer(self.text):
            start, end = found.span()
            meant = _unescaped(found)
            texts += (self.text[at:start], meant)
            starts += self.starts[at:start] + [self.starts[start]] * len(meant)
            ends += self.ends[at:start] + [self.ends[end - 1]] * len(meant)
            at = end
        texts.append(self.text[at:])
        return _Decoded("".join(texts), starts + self.starts[at:], ends + self.ends[at:])


def _unescaped(found: re.Match[str]) -> str:
    """What an escape stands for."""
    kind = found.lastgroup
    assert kind is not None  # noqa: S101  each alternative is a named group
    text = found[kind]
    match kind:
        case "percent":
            return bytes.fromhex(text.replace("%", "")).decode(errors="replace")
        case "bytes":
            return bytes.fromhex(text.replace("\\x", "")).decode(errors="replace")
        case "unicode":  # characters beyond U+FFFF are two escapes (RFC 8259 §7)
            return bytes.fromhex(text.replace("\\u", "")).decode("utf-16-be", errors="replace")
        case "point" | "hex":
            return _character(int(text, 16))
        case "decimal":
            return _character(int(text))
        case "short":
            return _SHORT_ESCAPES.get(text, text)
        case _:
            return _NAMED_REFERENCES[text]


def _character(point: int) -> str:
    return chr(point) if point <= 0x10FFFF else "�"


def _base64_decoded(run: str) -> bytes:
    """The bytes of a run of base64 (RFC 4648 §4, §5), which may have been cut anywhere."""
    whole = run[: len(run) - 1] if len(run) % 4 == 1 else run
    return binascii.a2b_base64(whole.translate(_FROM_URL_SAFE) + "=" * (-len(whole) % 4))


def _hex_decoded(run: str) -> bytes:
    return bytes.fromhex(run[: len(run) // 2 * 2])
