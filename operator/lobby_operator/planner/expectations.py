"""What we did and do not see yet, laid over what we see.

A list of pods comes from a watch that lags behind our own writes. Planned from as it is, a lobby that was just created would
be created once more. So each action is expected until it shows, or until it evidently came to nothing. Nothing here survives
a restart, nor need it: names of new lobbies follow from those that exist, so what was made can't be made twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lobby_operator.planner.actions import Action, Create, Delete, Drain
from lobby_operator.planner.state import LobbyReading
from lobby_operator.planner.timers import due, earliest

EXPECTED_SECONDS: Mapping[type[Action], float] = {
    Create: 30.0,  # a watch that is later than that is broken
    Delete: 30.0,
    Drain: 5.0,  # the lobby answers to us, at the next question; told twice, it stays as it is
}
"""How long an action that does not show is expected. Then it is planned anew."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An action that does not show yet.

    Attributes:
        action: what was done.
        at: when.
    """

    action: Action
    at: float

    @property
    def until(self) -> float:
        """When it is no longer expected."""
        return self.at + EXPECTED_SECONDS[type(self.action)]


@dataclass(frozen=True, slots=True)
class Expectations:
    """Own actions that do not show yet, at most one for a lobby.

    Attributes:
        items: in the order in which they were done.
    """

    items: tuple[Expected, ...] = ()

    def expect(self, actions: Iterable[Action], now: float) -> Expectations:
        """Also expects these. A later action on a lobby takes the place of an earlier one."""
        new = {action.name: Expected(action, now) for action in actions}
        kept = (item for item in self.items if item.action.name not in new)
        return Expectations((*kept, *new.values()))

    def forget(self, name: str) -> Expectations:
        """Expects nothing of a lobby: the action failed, and is to be planned anew."""
        return Expectations(tuple(item for item in self.items if item.action.name != name))

    def wake_at(self) -> float | None:
        """When the first expectation ends, if it is not met before."""
        return earliest(*(item.until for item in self.items))

    def lay_over(self, raw: Iterable[LobbyReading], now: float) -> tuple[tuple[LobbyReading, ...], Expectations]:
        """What is seen as it should be, and what remains to be expected."""
        lobbies = {lobby.name: lobby for lobby in raw}
        kept: list[Expected] = []
        for item in self.items:
            name = item.action.name
            lobby = lobbies.get(name)
            if due(item.at, EXPECTED_SECONDS[type(item.action)], now) or _shows(item.action, lobby):
                continue
            kept.append(item)
            if lobby is None:
                lobbies[name] = LobbyReading(name=name, created_at=item.at, expected=True)
            elif isinstance(item.action, Drain):
                lobbies[name] = replace(lobby, draining=True, expected=True)
            else:
                lobbies[name] = replace(lobby, ending=True, expected=True)
        return tuple(lobbies.values()), Expectations(tuple(kept))


def _shows(action: Action, lobby: LobbyReading | None) -> bool:
    if isinstance(action, Create):
        return lobby is not None
    if lobby is None:
        return True
    if isinstance(action, Drain):
        return lobby.ending or lobby.ended or (lobby.report is not None and lobby.report.draining)
    return lobby.ending
