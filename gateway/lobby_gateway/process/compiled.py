"""Loops that exist twice, with the same behavior: compiled if a C compiler was available at installation, and in Python.

`LOBBY_PURE_PYTHON=1` in the environment selects those in Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def if_compiled(load: Callable[[], _T]) -> _T | None:
    """What `load` imports of a compiled module; None if there is none, or it is not to be used."""
    if os.environ.get("LOBBY_PURE_PYTHON"):
        return None
    try:
        return load()
    except ImportError:
        return None
