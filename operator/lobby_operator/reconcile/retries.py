"""When an action that failed is tried again: later each time, and each on its own, so that none holds the others up. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lobby_operator.planner.actions import Action
from lobby_operator.planner.timers import earliest

Key = tuple[type[Action], str]


@dataclass(frozen=True, slots=True)
class _Failed:
    pause: float
    again_at: float
    problem: str


class Retries:
    """Actions that failed and are still to be done.

    Args:
        least: seconds before the second try.
        most: before any further one; each wait is twice the one before.
    """

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self._failed: dict[Key, _Failed] = {}

    @property
    def problem(self) -> str:
        """Why they failed, for a person; empty: none did."""
        return "; ".join(dict.fromkeys(failed.problem for failed in self._failed.values()))

    def due(self, actions: Iterable[Action], now: float) -> list[Action]:
        """Those that may be tried now, of all that are to be done. What is no longer among them is forgotten."""
        wanted = list(actions)
        keys = {_key(action) for action in wanted}
        self._failed = {key: failed for key, failed in self._failed.items() if key in keys}
        return [action for action in wanted if self._again_at(action) <= now]

    def failed(self, action: Action, problem: str, now: float) -> float:
        """It failed; returns after how many seconds it is tried again."""
        before = self._failed.get(_key(action))
        pause = self._least if before is None else min(2 * before.pause, self._most)
        self._failed[_key(action)] = _Failed(pause, now + pause, problem)
        return pause

    def done(self, action: Action) -> None:
        """It was done."""
        self._failed.pop(_key(action), None)

    def wake_at(self) -> float | None:
        """When the next one may be tried."""
        return earliest(*(failed.again_at for failed in self._failed.values()))

    def _again_at(self, action: Action) -> float:
        failed = self._failed.get(_key(action))
        return failed.again_at if failed is not None else float("-inf")


def _key(action: Action) -> Key:
    return (type(action), action.name)
