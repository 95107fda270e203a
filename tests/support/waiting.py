"""Waiting for a state, never for a time: every wait has a deadline, and says what it saw when that passes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

LOOK_EVERY = 0.02


class DeadlinePassedError(AssertionError):
    """What was waited for did not come."""


async def until(
    look: Callable[[], Any],
    *,
    deadline: float = 10.0,
    describe: str | Callable[[], str] = "",
    every: float = LOOK_EVERY,
) -> Any:
    """Looks again and again until what it sees is true; returns that.

    Args:
        look: what to look at; a coroutine function, too.
        deadline: seconds after which it is a failure.
        describe: what is waited for, or a function that tells what there is instead.
        every: seconds from one look to the next.

    Raises:
        DeadlinePassedError: it did not become true.
    """
    end = time.monotonic() + deadline
    while True:
        seen = look()
        value = await seen if inspect.isawaitable(seen) else seen
        if value:
            return value
        if time.monotonic() >= end:
            text = describe() if callable(describe) else describe
            raise DeadlinePassedError(f"after {deadline:g} s: {text or look}; last seen: {value!r}")
        await asyncio.sleep(every)


async def stays(
    look: Callable[[], bool], *, seconds: float, describe: str | Callable[[], str] = "", every: float = LOOK_EVERY
) -> None:
    """Looks for `seconds` that something remains true: for what must not happen, where there is no event to wait for.

    Raises:
        AssertionError: it did not.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not look():
            raise AssertionError(describe() if callable(describe) else describe or str(look))
        await asyncio.sleep(every)
