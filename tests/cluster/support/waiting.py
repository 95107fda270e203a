"""Waiting for a state of the cluster: every wait has a deadline, and says what it saw when that passes."""

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
    """Looks again and again until what it sees is true; returns that. A look that the API server does not answer is none.

    Args:
        look: what to look at.
        deadline: seconds after which it is a failure.
        what: what is waited for, or a function that tells what there is instead.
        every: seconds from one look to the next.

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
    """Looks for `seconds` that something remains true: for what must not happen, where there is no event to wait for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert look(), what() if callable(what) else what
        time.sleep(LOOK_EVERY)
