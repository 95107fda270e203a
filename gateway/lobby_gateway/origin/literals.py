"""The search for the literals of rules (`contains`) in the bytes of a read: all that a message without a hit costs.

It exists twice: compiled (`_literals.c`) and in Python, which takes several times as long (see `process/compiled.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lobby_gateway.process.compiled import if_compiled

ContainsAny = Callable[[bytes, tuple[bytes, ...]], bool]
"""Whether any literal is in some data; an empty one is in any."""


def contains_any_in_python(data: bytes, literals: tuple[bytes, ...]) -> bool:
    """See `ContainsAny`."""
    for literal in literals:  # noqa: SIM110  a generator costs more than the search
        if literal in data:
            return True
    return False


def _load() -> ContainsAny:
    from lobby_gateway.origin._literals import contains_any  # noqa: PLC0415  optional

    return contains_any


contains_any_compiled: Final = if_compiled(_load)
contains_any: Final[ContainsAny] = contains_any_compiled or contains_any_in_python
