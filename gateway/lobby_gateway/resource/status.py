"""What a Lobby's status tells: the part of it that greeters read and people are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a Lobby; see `crds/lobbies.yaml`.

    Attributes:
        type: which one.
        status: `True`, `False` or `Unknown`.
        reason: why, as one word.
        message: why, for a person.
    """

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyEntry:
    """A lobby, as the lobby host told last.

    Attributes:
        name: of the lobby.
        phase: where in its life it is, as in `status.lobbies`.
        clients: seats taken.
        seats: how many there are; 0 where that was not told.
        origin: state of its origin connection; empty where that was not told.
    """

    name: str
    phase: str
    clients: int = 0
    seats: int = 0
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyStatus:
    """A Lobby's status.

    Attributes:
        lobbies: its lobbies, the oldest first.
        open: those that take clients, in the order in which they are tried.
        draining: names of those that drain.
        latest: the lobby that new clients are sent to; empty where there is none.
        conditions: why it is as it is.
        replicas: how many lobbies there are; more than are named, where there are very many.
        clients: seats taken in all of them.
        seats: seats of those that take clients.
    """

    lobbies: tuple[LobbyEntry, ...] = ()
    open: tuple[LobbyEntry, ...] = ()
    draining: tuple[str, ...] = ()
    latest: str = ""
    conditions: tuple[Condition, ...] = ()
    replicas: int = 0
    clients: int = 0
    seats: int = 0

    @classmethod
    def from_json(cls, status: Mapping[str, Any]) -> LobbyStatus:
        """Reads the status of a resource; what is not there was not told.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no such status.
        """
        return cls(
            lobbies=tuple(_lobby(each, str(each["phase"])) for each in status.get("lobbies") or ()),
            open=tuple(_lobby(each, "Ready") for each in status.get("open") or ()),
            draining=tuple(map(str, status.get("draining") or ())),
            latest=str((status.get("latest") or {}).get("name", "")),
            conditions=tuple(
                Condition(*(str(each.get(key, "")) for key in ("type", "status", "reason", "message")))
                for each in status.get("conditions") or ()
            ),
            replicas=int(status.get("replicas", 0)),
            clients=int(status.get("clients", 0)),
            seats=int(status.get("seats", 0)),
        )


def _lobby(data: Mapping[str, Any], phase: str) -> LobbyEntry:
    return LobbyEntry(
        name=str(data["name"]),
        phase=phase,
        clients=int(data.get("clients", 0)),
        seats=int(data.get("seats", 0)),
        origin=str(data.get("origin", "")),
    )
