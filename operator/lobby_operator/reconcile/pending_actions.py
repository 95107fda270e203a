"""Actions that are done but not yet observed, and actions that failed and have to be retried. Pure.

A list of pods comes from a watch, which lags behind our own writes. Planned from the list alone, a lobby that was just
created would be created again. So the effect of each action is expected (as in the controllers of Kubernetes) until it is
observed, or until it is overdue. None of this has to survive a restart: names of new lobbies follow from the existing ones,
so nothing is created twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lobby_gateway.process.backoff import ceiling
from lobby_operator.planner.actions import Action, Create, Drain, Preconnect
from lobby_operator.planner.state import LobbyReading
from lobby_operator.planner.timers import earliest
from lobby_operator.settings import ReconcileSettings


@dataclass(frozen=True, slots=True)
class Expected:
    """An action whose effect is not observed yet.

    Attributes:
        action: the action.
        at: when it was done.
        until: when it stops being expected.
    """

    action: Action
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Expectations:
    """Our own actions whose effects are not observed yet, at most one for each lobby.

    Attributes:
        items: in the order in which they were done.
        settings: how long effects are expected.
    """

    items: tuple[Expected, ...] = ()
    settings: ReconcileSettings = field(default_factory=ReconcileSettings)

    def expect(self, actions: Iterable[Action], now: float) -> Expectations:
        """Adds actions. A later action on a lobby replaces an earlier one."""
        new = {action.name: Expected(action, now, now + self._seconds(action)) for action in actions}
        kept = (item for item in self.items if item.action.name not in new)
        return replace(self, items=(*kept, *new.values()))

    def wake_at(self) -> float | None:
        """When the first expectation expires."""
        return earliest(*(item.until for item in self.items))

    def overlay(self, readings: Iterable[LobbyReading], now: float) -> tuple[tuple[LobbyReading, ...], Expectations]:
        """Returns the readings with the expected effects applied, and what is still expected."""
        lobbies = {reading.name: reading for reading in readings}
        kept: list[Expected] = []
        for item in self.items:
            name = item.action.name
            reading = lobbies.get(name)
            if item.until <= now or _observed(item.action, reading):
                continue
            kept.append(item)
            if reading is None:
                lobbies[name] = LobbyReading(name=name, created_at=item.at, expected=True)
            elif isinstance(item.action, Preconnect):
                if reading.report is not None:
                    lobbies[name] = replace(reading, report=replace(reading.report, preconnected=True))
            elif isinstance(item.action, Drain):
                lobbies[name] = replace(reading, draining=True, expected=True)
            else:
                lobbies[name] = replace(reading, ending=True, expected=True)
        return tuple(lobbies.values()), replace(self, items=tuple(kept))

    def _seconds(self, action: Action) -> float:
        requested = isinstance(action, Preconnect | Drain)
        return self.settings.request_expected_seconds if requested else self.settings.expected_seconds


def _observed(action: Action, reading: LobbyReading | None) -> bool:
    """Whether the effect of an action shows in a reading; None: the lobby is not listed."""
    if isinstance(action, Create):
        return reading is not None
    if reading is None:
        return True
    if isinstance(action, Preconnect):
        report = reading.report
        return reading.ending or reading.ended or (report is not None and (report.preconnected or report.draining))
    if isinstance(action, Drain):
        return reading.ending or reading.ended or (reading.report is not None and reading.report.draining)
    return reading.ending


Key = tuple[type[Action], str]


@dataclass(frozen=True, slots=True)
class _Failure:
    count: int
    retry_at: float
    problem: str


class Retries:
    """Actions that failed. Each is retried with its own back-off, so that none delays the others.

    Args:
        min_seconds: wait before the first retry.
        max_seconds: longest wait; each wait is twice the one before.
    """

    def __init__(self, min_seconds: float, max_seconds: float) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._failures: dict[Key, _Failure] = {}

    @property
    def problem(self) -> str:
        """Why they failed, for people; empty if none did."""
        return "; ".join(dict.fromkeys(failure.problem for failure in self._failures.values()))

    def due(self, planned: Iterable[Action], now: float) -> list[Action]:
        """The planned actions that may be tried now. Failures of actions that are no longer planned are forgotten."""
        actions = list(planned)
        keys = {_key(action) for action in actions}
        self._failures = {key: failure for key, failure in self._failures.items() if key in keys}
        return [action for action in actions if self._retry_at(action) <= now]

    def failed(self, action: Action, problem: str, now: float) -> float:
        """Records a failure; returns the seconds until the retry."""
        before = self._failures.get(_key(action))
        count = 0 if before is None else before.count
        wait = ceiling(self._min_seconds, self._max_seconds, count)
        self._failures[_key(action)] = _Failure(count + 1, now + wait, problem)
        return wait

    def done(self, action: Action) -> None:
        """Records a success."""
        self._failures.pop(_key(action), None)

    def wake_at(self) -> float | None:
        """When the next retry is due."""
        return earliest(*(failure.retry_at for failure in self._failures.values()))

    def _retry_at(self, action: Action) -> float:
        failure = self._failures.get(_key(action))
        return failure.retry_at if failure is not None else float("-inf")


def _key(action: Action) -> Key:
    return (type(action), action.name)
