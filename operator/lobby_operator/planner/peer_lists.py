"""Which lobbies may connect to the origin, and which peers each of them is told. Pure.

With `origin.limits.connections` only so many lobbies, the holders, may be connected. Its law: at any moment, at most that many
processes are or may become connected, whatever is lost or late on the way to them. So a permit counts as taken from the moment
at which it is first sent, and comes back only when its lobby has answered the request that takes it away and has no
connection any more, or when its process is known to have ended. A holder that is cut off keeps its permit.

A lobby host that starts does not know what its predecessor said, and a late request of that one may still arrive. Its lists
have smaller versions, and a lobby that has answered one of ours refuses them; until then, the lobby counts as a holder. Where
terms began anew, because the Lease was deleted, the versions of ours begin after those that lobbies were told before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.settings import PeerListSettings

_LISTED = (Phase.READY, Phase.RECOVERING)
_TOLD = (*_LISTED, Phase.STARTING, Phase.UNRESPONSIVE, Phase.DRAINING, Phase.ENDING)


@dataclass(slots=True)
class _Record:
    """What one lobby was told.

    Attributes:
        created_at: of the lobby: another one of the same name is another process.
        inherited: it existed when this lobby host first looked.
        latest: the latest list; None before the first.
        maybe: a permit may have been sent that no answered request has taken away since.
        confirmed: the latest list that it has answered.
    """

    created_at: float
    inherited: bool
    latest: PeerList | None = None
    maybe: bool = False
    confirmed: Version = field(default_factory=Version)


class PeerLists:
    """The lists of one Lobby's lobbies.

    Args:
        start: greater than the version of any list that was made before; those made here are greater.
        settings: sizes of the lists.
    """

    def __init__(self, start: Version, settings: PeerListSettings | None = None) -> None:
        self._start = self._latest = start
        self._settings = settings or PeerListSettings()
        self._records: dict[str, _Record] = {}
        self._first = True

    @property
    def holders(self) -> frozenset[str]:
        """The lobbies that may connect, according to the latest lists."""
        return frozenset(
            name for name, record in self._records.items() if record.latest is not None and record.latest.connect
        )

    def update(self, spec: PlannerSpec, observed: Observed) -> dict[str, PeerList]:
        """Returns the lists that are to be sent now, by name of the lobby: new ones, and those without an answer.

        Args:
            spec: desired state.
            observed: observed state; a lobby that it does not have is known to have ended.
        """
        lobbies = [lobby for lobby in observed.lobbies if lobby.phase is not Phase.ENDED]
        self._observe(lobbies)
        holders = self._name_holders(spec, lobbies)
        due: dict[str, PeerList] = {}
        for lobby in lobbies:
            if not lobby.address or lobby.phase not in _TOLD or lobby.stream is None:
                continue
            record = self._records[lobby.name]
            connect, peers = lobby.name in holders, self._peers_of(lobby, lobbies, holders if spec.connections else ())
            latest = record.latest
            if latest is None or latest.connect is not connect or latest.peers != peers:
                self._latest = Version(self._latest.term, self._latest.number + 1)
                record.latest = latest = PeerList(version=self._latest, connect=connect, peers=peers)
            record.maybe = record.maybe or connect
            if record.confirmed < latest.version:
                due[lobby.name] = latest
        return due

    def answered(self, name: str, told: PeerList) -> None:
        """A lobby has answered a request with this list."""
        record = self._records.get(name)
        if record is not None:
            record.confirmed = max(record.confirmed, told.version)

    def _observe(self, lobbies: Sequence[LobbyState]) -> None:
        known, self._records = self._records, {}
        for lobby in lobbies:
            record = known.get(lobby.name)
            if record is None or record.created_at != lobby.created_at:
                record = _Record(lobby.created_at, inherited=self._first)
            self._records[lobby.name] = record
        for lobby in lobbies:
            record, stream = self._records[lobby.name], lobby.stream
            if stream is None:
                continue
            told = Version(*stream.told)
            if told > self._latest:
                self._begin_after(told)
            if told > self._start:
                record.confirmed = max(record.confirmed, told)
            if self._answered_latest(record) and told >= record.confirmed and not stream.permit:
                record.maybe = record.latest is None or record.latest.connect
        self._first = False

    def _begin_after(self, told: Version) -> None:
        """An earlier lobby host had a greater term, and perhaps its request came late: all lists are made again, above it."""
        self._start = self._latest = Version(told.term + 1, 0)
        for record in self._records.values():
            record.latest = None

    @staticmethod
    def _answered_latest(record: _Record) -> bool:
        return record.latest is not None and record.confirmed >= record.latest.version

    def _taken(self, lobby: LobbyState) -> bool:
        """Whether a permit may be in its hands."""
        record = self._records[lobby.name]
        if record.maybe:
            return True
        if lobby.stream is None:
            return record.inherited
        # It may have a permit of an earlier lobby host, or, without any list, of a Lobby that had no limit.
        return lobby.stream.permit or record.confirmed <= self._start

    def _name_holders(self, spec: PlannerSpec, lobbies: Sequence[LobbyState]) -> set[str]:
        if not spec.connections:
            return {lobby.name for lobby in lobbies}
        holders = [lobby for lobby in lobbies if self._holds(lobby)]
        fit = [lobby for lobby in lobbies if lobby.phase in _LISTED and lobby.address and lobby.stream is not None]
        named = {lobby.name for lobby in sorted(holders, key=_preference)[: spec.connections]}
        leaving = [lobby for lobby in holders if lobby.name in named and lobby.phase in (Phase.DRAINING, Phase.ENDING)]
        spare = [lobby for lobby in fit if lobby.name not in named]
        for lobby, _ in zip(leaving, spare, strict=False):
            named.discard(lobby.name)  # another one takes over as soon as this one has let go
        taken = {lobby.name for lobby in lobbies if self._taken(lobby)} | named
        others = fit or [
            lobby
            for lobby in lobbies
            if lobby.phase in (Phase.DRAINING, Phase.ENDING) and lobby.address and lobby.stream is not None
        ]
        for lobby in sorted(others, key=_preference):
            if len(named) >= spec.connections or len(taken | {lobby.name}) > spec.connections:
                break
            named.add(lobby.name)
            taken.add(lobby.name)
        return named

    def _holds(self, lobby: LobbyState) -> bool:
        latest = self._records[lobby.name].latest
        if latest is not None:
            return latest.connect
        return lobby.stream is not None and lobby.stream.permit  # as an earlier lobby host decided

    def _peers_of(self, lobby: LobbyState, lobbies: Iterable[LobbyState], holders: Iterable[str]) -> tuple[Peer, ...]:
        """The peers to ask, holders first; the rest begins after the lobby itself, so that not all ask the same ones first."""
        first = frozenset(holders)
        others = [
            each
            for each in lobbies
            if each.name != lobby.name and each.address and each.phase in _LISTED and _same_origin(lobby, each)
        ]
        if len(others) > self._settings.max_peers:
            others.sort(key=lambda each: (each.name not in first, *self._load(each), _turn(lobby, each)))
        else:
            others.sort(key=lambda each: (each.name not in first, _turn(lobby, each)))
        return tuple(Peer(name=each.name, address=each.address) for each in others[: self._settings.max_peers])

    def _load(self, lobby: LobbyState) -> tuple[bool, int]:
        """Whether it has no stream or no room for another lobby, and over how many lobbies its stream comes."""
        stream = lobby.stream
        if stream is None or not stream.flowing or stream.relays >= self._settings.full_relays:
            return True, 0
        return False, len(stream.via)


def _preference(lobby: LobbyState) -> tuple[bool, bool, bool, int, int]:
    """Which of several lobbies should hold a permit: the lowest. The fullest one is the last to be drained."""
    return (
        lobby.phase in (Phase.DRAINING, Phase.ENDING),
        lobby.phase not in _LISTED,
        lobby.outdated,
        -lobby.clients,
        lobby.index,
    )


def _same_origin(lobby: LobbyState, other: LobbyState) -> bool:
    """Whether both get the same stream: not while a rollout replaces one origin by another."""
    return lobby.stream is not None and other.stream is not None and lobby.stream.origin_id == other.stream.origin_id


def _turn(lobby: LobbyState, other: LobbyState) -> tuple[bool, int]:
    return other.index <= lobby.index, other.index
