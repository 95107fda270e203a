"""Waiting for a state of the cluster: every wait has a deadline, and an error shows what was last seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.cluster.support.api import ApiError
from tests.support.waiting import DeadlinePassedError

T = TypeVar("T")
LOOK_EVERY = 0.1


def eventually(
    look: Callable[[], T],
    *,
    deadline: float = 30.0,
    what: str | Callable[[], str] = "",
    every: float = LOOK_EVERY,
) -> T:
    """Calls a function until its result is true, and returns that. Ignores calls that the API server does not answer.

    Args:
        look: the function.
        deadline: seconds after which it fails.
        what: what it waits for, or a function that describes the actual state.
        every: seconds between two calls.

    Raises:
        DeadlinePassedError: it did not become true.
    """
    end = time.monotonic() + deadline
    while True:
        seen: object = None
        try:
            value = look()
            seen = value
            if value:
                return value
        except (ApiError, OSError) as error:
            seen = error
        if time.monotonic() >= end:
            text = what() if callable(what) else what
            raise DeadlinePassedError(f"after {deadline:g} s: {text or look}; last seen: {str(seen)[:2000]}")
        time.sleep(every)


def stays(look: Callable[[], bool], *, seconds: float, what: str | Callable[[], str] = "") -> None:
    """Checks for `seconds` that something remains true: for what must not happen, if there is no event to wait for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert look(), what() if callable(what) else what
        time.sleep(LOOK_EVERY)
