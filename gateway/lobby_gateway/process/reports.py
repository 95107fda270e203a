"""What a lobby says of itself on `/seats`, and a greeter on `/waiting`: JSON types, read by the lobby host."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class OriginState(StrEnum):
    """State of a lobby's origin connection, as people and metrics see it."""

    IDLE = "Idle"  # OnDemand and no client, or not yet asked for
    CONNECTING = "Connecting"  # TCP, TLS, handshake, onConnect script
    CONNECTED = "Connected"
    WAITING = "Waiting"  # lost or refused; the next try is planned
    REFUSED = "Refused"  # 401 or 403: tried again, but rarely
    CLOSING = "Closing"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginReport:
    """A lobby's origin connection.

    Attributes:
        state: see `OriginState`.
        reason: one line for a person on why it is not connected; empty when all is well. Never holds a secret.
        connections: origin connections made since the process started.
        retry_in_seconds: until the next try, 0 when none is planned.
    """

    state: OriginState = OriginState.IDLE
    reason: str = ""
    connections: int = 0
    retry_in_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyReport:
    """A lobby's answer on `/seats`. Totals count from the start of the process.

    Attributes:
        name: of the lobby, unique among those of its Lobby.
        lobby: name of the Lobby it belongs to.
        draining: it takes no new clients.
        seats: how many there are.
        clients: seats taken, direct and by greeters.
        direct: of `clients`, those connected directly.
        origin: its origin connection.
        position: epoch and offset of the stream, as text.
        messages: origin messages received.
        bytes: payload bytes of those.
        dropped: messages dropped from the mailboxes of direct clients.
        deliveries: messages handed to direct clients.
    """

    name: str
    lobby: str
    draining: bool = False
    seats: int = 0
    clients: int = 0
    direct: int = 0
    origin: OriginReport = field(default_factory=OriginReport)
    position: str = ""
    messages: int = 0
    bytes: int = 0
    dropped: int = 0
    deliveries: int = 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LobbyReport:
        """Reads `to_json` back; keys that a newer lobby adds are left out.

        Raises:
            TypeError, ValueError, KeyError: the data is not such a report.
        """
        known = {key: value for key, value in data.items() if key in cls.__dataclass_fields__}
        origin = {k: v for k, v in known.pop("origin").items() if k in OriginReport.__dataclass_fields__}
        origin["state"] = OriginState(origin["state"])
        return cls(origin=OriginReport(**origin), **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class GreeterReport:
    """A greeter's answer on `/waiting`, each by key of the Lobby (`Lobby.key`).

    Attributes:
        clients: clients it holds.
        waiting: clients for whom it has no seat yet.
        dropped: messages dropped from mailboxes since the start.
        deliveries: messages handed to clients since the start.
        moves_exact: clients moved without a gap or duplicate since the start.
        moves_live: clients moved to the live end of another lobby's stream since the start.
    """

    clients: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    deliveries: dict[str, int] = field(default_factory=dict)
    moves_exact: dict[str, int] = field(default_factory=dict)
    moves_live: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GreeterReport:
        """Reads `to_json` back; keys that a newer greeter adds are left out.

        Raises:
            TypeError, ValueError: the data is not such a report.
        """
        return cls(**{key: value for key, value in data.items() if key in cls.__dataclass_fields__})
