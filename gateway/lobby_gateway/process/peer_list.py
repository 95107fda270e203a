"""What the lobby host tells a lobby on `/peers`, as JSON types: the other lobbies of its Lobby, and whether it may connect."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MAX_PEERS = 64
"""Most peers that a lobby accepts in one list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another lobby of the same Lobby.

    Attributes:
        name: its name.
        address: `ip:port` for trunks.
    """

    name: str
    address: str


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Which of two lists is newer: the greater one.

    Attributes:
        term: of the lobby host; a later host has a greater one.
        number: of the list among those of this host.
    """

    term: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerList:
    """What a lobby is told.

    Attributes:
        version: an older list than the latest one is refused, so that a late request changes nothing.
        connect: whether it may connect to the origin (`origin.limits.connections`).
        peers: the lobbies to ask for the stream, in this order.
        connects: attempts to connect that it may have made since it started (`origin.limits.connects`); None: any number.
    """

    version: Version
    connect: bool
    peers: tuple[Peer, ...] = ()
    connects: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> PeerList:  # noqa: ANN401  # any JSON value
        """Reads what `to_json` returned; unknown keys, from a newer lobby host, are ignored.

        Raises:
            ValueError, TypeError, KeyError: the data is not a list.
        """
        version, peers, connect = data["version"], data["peers"], data["connect"]
        connects = data.get("connects")
        if not isinstance(connect, bool):
            raise TypeError(f"connect: {connect!r} is not a boolean")
        if len(peers) > MAX_PEERS:
            raise ValueError(f"peers: {len(peers)} is too many; accepted: at most {MAX_PEERS}")
        return cls(
            version=Version(int(version["term"]), int(version["number"])),
            connect=connect,
            peers=tuple(Peer(name=str(peer["name"]), address=str(peer["address"])) for peer in peers),
            connects=None if connects is None else int(connects),
        )
