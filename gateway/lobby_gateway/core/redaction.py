"""Text that came from elsewhere, made fit for a report: one short line that holds no secret of ours."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, quote_plus

LONGEST = 200
_SHORTEST_SECRET = 4  # what is shorter can't be secret, and would make holes in words
_HIDDEN = "***"


class Redactor:
    """Knows the secrets that an origin was sent, and so may send back."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # An origin may name a part ("abc123" of "Bearer abc123"), or a value as it stood in the URL.
        parts = {part for each in secrets for part in (each, *each.split())}
        forms = {form for part in parts for form in (part, quote(part, safe=""), quote_plus(part))}
        # The longest first: one secret may stand inside another.
        self._secrets = tuple(sorted((each for each in forms if len(each) >= _SHORTEST_SECRET), key=len, reverse=True))

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} texts>"

    def line(self, text: str) -> str:
        """`text` as one line of at most `LONGEST` printable characters, with each secret replaced."""
        for each in self._secrets:
            text = text.replace(each, _HIDDEN)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        # Once more: taking out what can't be printed may have put a secret together.
        for each in self._secrets:
            text = text.replace(each, _HIDDEN)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
