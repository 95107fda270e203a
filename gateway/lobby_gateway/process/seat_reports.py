"""The reports of a lobby on `/seats` and of a greeter on `/waiting`, as JSON types. The lobby host reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class OriginState(StrEnum):
    """State of a lobby's origin connection, as people and metrics see it."""

    IDLE = "Idle"  # OnDemand without a client, or not started yet
    CONNECTING = "Connecting"  # TCP, TLS, handshake, or the onConnect script
    CONNECTED = "Connected"
    WAITING = "Waiting"  # lost or refused; the next attempt is scheduled
    REFUSED = "Refused"  # 401 or 403: retried, but rarely
    CLOSING = "Closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginReport:
    """A lobby's origin connection.

    Attributes:
        state: see `OriginState`.
        reason: why it is not connected or, if it is, why its renewal fails, in one line for people; otherwise empty. Never
            contains a secret.
        connections: origin connections opened since the process started.
        retry_in_seconds: seconds until the next attempt to connect; 0 if none is scheduled.
    """

    state: OriginState = OriginState.IDLE
    reason: str = ""
    connections: int = 0
    retry_in_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyReport:
    """A lobby's response on `/seats`. Totals are since the start of the process.

    Attributes:
        name: name of the lobby, unique among those of its Lobby.
        lobby: name of its Lobby.
        draining: whether it accepts no new clients.
        seats: number of seats.
        clients: seats taken, by direct clients and through greeters.
        direct: clients connected directly; included in `clients`.
        origin: its origin connection.
        preconnected: it keeps that connection without clients, because the lobby host asked for it; False when half of the
            time is over, so that the request should be repeated.
        permit: whether it may connect to the origin, or is still connected to it.
        told: term and number of the latest list of peers (`peer_list.Version`).
        flowing: whether messages can be expected, from the origin or over another lobby.
        via: the lobbies that its stream comes over, the nearest first; empty: it comes from its own connection.
        relays: lobbies that take their stream from this one.
        origin_id: hash of what decides which stream its origin sends: equal for lobbies that get the same one.
        connects: attempts to connect to the origin.
        recent_connects: those that `origin.limits.connects` still counts.
        wants_connect: it needs a permit for an attempt, now or soon.
        position: epoch and offset of the stream, as text.
        messages: messages received from the origin.
        bytes: bytes of their frames.
        dropped: messages dropped from the mailboxes of direct clients.
        dropped_by: the same by reason: `slow`, `old`, `memory`.
        deliveries: messages handed to direct clients.
    """

    name: str
    lobby: str
    draining: bool = False
    seats: int = 0
    clients: int = 0
    direct: int = 0
    origin: OriginReport = field(default_factory=OriginReport)
    preconnected: bool = False
    permit: bool = True
    told: list[int] = field(default_factory=lambda: [0, 0])
    flowing: bool = False
    via: list[str] = field(default_factory=list)
    relays: int = 0
    origin_id: str = ""
    connects: int = 0
    recent_connects: int = 0
    wants_connect: bool = False
    position: str = ""
    messages: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_by: dict[str, int] = field(default_factory=dict)
    deliveries: int = 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LobbyReport:
        """Reads what `to_json` returned; unknown keys, from a newer lobby, are ignored.

        Raises:
            TypeError, ValueError, KeyError: the data is not a report.
        """
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        origin = {k: v for k, v in known.pop("origin").items() if k in OriginReport.__dataclass_fields__}
        origin["state"] = OriginState(origin["state"])
        return cls(origin=OriginReport(**origin), **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class GreeterReport:
    """A greeter's response on `/waiting`: counts by key of the Lobby (`Lobby.key`).

    Attributes:
        clients: connected clients.
        waiting: clients without a seat.
        lost: those of them that had a seat in a lobby that is gone; they are closed unless they get another in time.
        dropped: messages dropped from mailboxes since the start.
        dropped_by: the same by reason: `slow`, `old`, `memory`.
        deliveries: messages handed to clients since the start.
        moves_exact: clients moved without a gap or duplicate since the start.
        moves_live: clients moved to the live end of another lobby's stream since the start.
    """

    clients: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    dropped_by: dict[str, dict[str, int]] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    moves_exact: dict[str, int] = field(default_factory=dict)
    moves_live: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GreeterReport:
        """Reads what `to_json` returned; unknown keys, from a newer greeter, are ignored.

        Raises:
            TypeError, ValueError: the data is not a report.
        """
        return cls(**{key: value for key, value in data.items() if key in cls.__dataclass_fields__})


def dropped_by(lobby: str, lobbies: Iterable[LobbyReport], greeters: Iterable[GreeterReport]) -> dict[str, int]:
    """Messages of a Lobby that were dropped, by reason.

    Args:
        lobby: its key.
        lobbies: reports of its lobbies.
        greeters: reports of the greeters.
    """
    total: Counter[str] = Counter()
    for counts in (
        *(report.dropped_by for report in lobbies),
        *(report.dropped_by.get(lobby, {}) for report in greeters),
    ):
        total.update(counts)
    return dict(total)
