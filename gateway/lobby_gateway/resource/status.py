"""The status of a Lobby: the part that greeters read and people see."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_IP_AND_PORT: Final = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]):([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a Lobby; see `crds/lobbies.yaml`.

    Attributes:
        type: type of the condition.
        status: `True`, `False` or `Unknown`.
        reason: why, in one CamelCase word.
        message: why, for people.
    """

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyEntry:
    """A lobby in the status of its Lobby, as last written by the lobby host.

    Attributes:
        name: name of the lobby.
        phase: its phase, as in `status.lobbies`.
        clients: seats taken.
        seats: number of seats; 0 if not given.
        origin: state of its origin connection; empty if not given.
        via: the lobbies that its stream comes over, the nearest first; empty: it comes from its own connection.
    """

    name: str
    phase: str
    clients: int = 0
    seats: int = 0
    origin: str = ""
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyStatus:
    """A Lobby's status.

    Attributes:
        lobbies: its lobbies, oldest first.
        open: the lobbies that take clients, in the order in which they are tried.
        draining: names of draining lobbies.
        latest: the lobby that new clients are sent to; empty if there is none.
        conditions: its conditions.
        replicas: number of lobbies; if there are very many, only some of them are listed.
        clients: seats taken in all lobbies.
        seats: seats of the lobbies that take clients.
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
        """Reads the status of a resource; missing fields have their defaults.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not the status of a Lobby.
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


@lru_cache(maxsize=16384)  # a greeter asks again with each change of a status
def is_ip_and_port(text: str) -> bool:
    """Whether a text is an address as `status.open` has it: an IP address, in brackets if it is IPv6, and a port."""
    found = _IP_AND_PORT.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        return False
    try:
        return ipaddress.ip_address(found[1] or found[2]).version == (4 if found[1] else 6)
    except ValueError:
        return False


def is_not_served(status: Mapping[str, Any]) -> bool:
    """Whether the lobby host serves no Lobbies of this one's namespace.

    Raises:
        KeyError, TypeError: it is not the status of a Lobby.
    """
    return any(
        each["type"] == "PathAccepted" and each["reason"] == "NotServed" for each in status.get("conditions") or ()
    )


def last_valid_spec(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The spec that is in force while the stored one is invalid; None: the stored one is.

    Raises:
        AttributeError: it is not the status of a Lobby.
    """
    return status.get("lastValidSpec")


def _lobby(data: Mapping[str, Any], phase: str) -> LobbyEntry:
    return LobbyEntry(
        name=str(data["name"]),
        phase=phase,
        clients=int(data.get("clients", 0)),
        seats=int(data.get("seats", 0)),
        origin=str(data.get("origin", "")),
        via=tuple(map(str, data.get("via") or ())),
    )
