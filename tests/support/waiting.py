"""Waits for a condition, never for a fixed time; every wait has a deadline and reports the last value seen."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.02


class DeadlinePassedError(AssertionError):
    """The condition did not become true in time."""


async def until(
    condition: Callable[[], Any],
    *,
    deadline: float = 30.0,
    describe: str | Callable[[], str] = "",
    every: float = POLL_SECONDS,
) -> Any:
    """Polls a condition until it is true; returns its value.

    Args:
        condition: function or coroutine function to poll.
        deadline: seconds until it fails.
        describe: what is awaited, or a function that describes the current state.
        every: seconds between polls.

    Raises:
        DeadlinePassedError: the condition did not become true.
    """
    end = time.monotonic() + deadline
    while True:
        seen = condition()
        value = await seen if inspect.isawaitable(seen) else seen
        if value:
            return value
        if time.monotonic() >= end:
            text = describe() if callable(describe) else describe
            raise DeadlinePassedError(f"after {deadline:g} s: {text or condition}; last seen: {value!r}")
        await asyncio.sleep(every)


async def stays(
    condition: Callable[[], bool],
    *,
    seconds: float,
    describe: str | Callable[[], str] = "",
    every: float = POLL_SECONDS,
) -> None:
    """Asserts that a condition stays true for `seconds`: for things that must not happen, which have no event to wait for.

    Raises:
        AssertionError: the condition became false.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise AssertionError(describe() if callable(describe) else describe or str(condition))
        await asyncio.sleep(every)
