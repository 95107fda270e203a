"""The search for the literals of rules (`contains`) in the bytes of a read: all that a message without a hit costs.

It exists twice, with the same behavior: compiled (`_literals.c`) if a C compiler was available at installation, and in Python,
which takes several times as long. `LOBBY_PURE_PYTHON=1` in the environment selects the one in Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

ContainsAny = Callable[[bytes, tuple[bytes, ...]], bool]
"""Whether any literal is in some data; an empty one is in any."""


def contains_any_in_python(data: bytes, literals: tuple[bytes, ...]) -> bool:
    """See `ContainsAny`."""
    for literal in literals:  # noqa: SIM110  a generator costs more than the search
        if literal in data:
            return True
    return False


def _compiled() -> ContainsAny | None:
    if os.environ.get("LOBBY_PURE_PYTHON"):
        return None
    try:
        from lobby_gateway.origin._literals import contains_any  # noqa: PLC0415  optional
    except ImportError:
        return None
    return contains_any


contains_any_compiled: Final = _compiled()
contains_any: Final[ContainsAny] = contains_any_compiled or contains_any_in_python
