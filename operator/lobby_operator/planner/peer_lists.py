"""Which lobbies may connect to the origin, and which peers each of them is told. Pure.

With `origin.limits.connections` only so many lobbies, the holders, may be connected. Its law: at any moment, at most that many
processes are or may become connected, whatever is lost or late on the way to them. So a permit counts as taken from the moment
at which it is first sent, and comes back only when its lobby has answered the request that takes it away and has no
connection any more, or when its process is known to have ended. A holder that is cut off keeps its permit.

A lobby host that starts does not know what its predecessor said, and a late request of that one may still arrive. Its lists
have smaller versions, and a lobby that has answered one of ours refuses them; until then, the lobby counts as a holder. Where
terms began anew, because the Lease was deleted, the versions of ours begin after those that lobbies were told before.

With `origin.limits.connects` a list also says how many attempts to connect its lobby may make (see `connect_permits.py`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_gateway.process.seat_reports import OriginState
from lobby_operator.planner.connect_permits import ConnectPermits, EarlierConnects
from lobby_operator.planner.spec import ConnectLimit, PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.settings import PeerListSettings

_LISTED = (Phase.READY, Phase.RECOVERING)
_TOLD = (*_LISTED, Phase.STARTING, Phase.UNRESPONSIVE, Phase.DRAINING, Phase.ENDING)

_Rank = tuple[bool, bool, int]
"""How good a peer is; the lowest is to be asked first."""
_Ranks = tuple[str, tuple[_Rank, ...]]
"""The origin of a stream, and the ranks of the best peers that have it."""


@dataclass(slots=True)
class _Record:
    """What one lobby was told.

    Attributes:
        created_at: of the lobby: another one of the same name is another process.
        inherited: it existed when this lobby host first looked.
        latest: the latest list; None before the first.
        maybe: a permit may have been sent that no answered request has taken away since.
        confirmed: the latest list that it has answered.
        heard: its state when this record was last brought up to date; None: the record has changed since.
        judged: the pass in which the peers of its latest list were last found to be as good as any.
        ranks: their ranks in that pass.
        names: their names.
    """

    created_at: float
    inherited: bool
    latest: PeerList | None = None
    maybe: bool = False
    confirmed: Version = field(default_factory=Version)
    heard: LobbyState | None = None
    judged: int = 0
    ranks: _Ranks | None = None
    names: frozenset[str] = frozenset()

    @property
    def answered_latest(self) -> bool:
        """Whether the lobby has answered its latest list."""
        latest = self.latest
        return latest is not None and (self.confirmed is latest.version or self.confirmed >= latest.version)


class PeerLists:
    """The lists of one Lobby's lobbies.

    Args:
        start: greater than the version of any list that was made before; those made here are greater.
        settings: sizes of the lists.
        earlier: what is known of attempts to connect before this lobby host began.
    """

    def __init__(
        self, start: Version, settings: PeerListSettings | None = None, *, earlier: EarlierConnects | None = None
    ) -> None:
        self._start = self._latest = start
        self._settings = settings or PeerListSettings()
        self._records: dict[str, _Record] = {}
        earlier = earlier or EarlierConnects()
        self._permits = ConnectPermits(earlier)
        self._refused_until = earlier.until  # whatever limit an earlier lobby host had
        self._refused_revision: str | None = None  # None: that of any
        self._first = True
        self._passes = 0
        self._listed = _Listed((), (), self._settings, {})

    @property
    def untold_connects_until(self) -> float:
        """Until when attempts to connect of lobbies that are gone count (see `EarlierConnects`)."""
        return self._permits.untold_until

    @property
    def holders(self) -> frozenset[str]:
        """The lobbies that may connect, according to the latest lists."""
        return frozenset(
            name for name, record in self._records.items() if record.latest is not None and record.latest.connect
        )

    def update(
        self, spec: PlannerSpec, observed: Observed, *, recorded: Collection[str] | None = None
    ) -> dict[str, PeerList]:
        """Returns the lists that are to be sent now, by name of the lobby: new ones, and those without an answer.

        Args:
            spec: desired state.
            observed: observed state; a lobby that it does not have is known to have ended.
            recorded: lobbies of which a later lobby host will know (see `EarlierConnects`); None: all.
        """
        lobbies = [lobby for lobby in observed.lobbies if lobby.phase is not Phase.ENDED]
        self._passes += 1
        self._observe(lobbies)
        holders = self._name_holders(spec, lobbies)
        self._listed = _Listed(lobbies, holders if spec.connections else (), self._settings, self._listed.by_origin)
        told = [each for each in lobbies if each.address and each.phase in _TOLD and each.stream is not None]
        permitted = holders if recorded is None else holders.intersection(recorded)
        allowed = self._allow(spec, lobbies, told, permitted, observed.at)
        due: dict[str, PeerList] = {}
        for lobby in told:
            record = self._records[lobby.name]
            latest = record.latest
            connect, peers, connects = lobby.name in holders, self._peers_of(lobby, record), allowed[lobby.name]
            if latest is None or (latest.connect, latest.connects) != (connect, connects) or latest.peers != peers:
                self._latest = Version(self._latest.term, self._latest.number + 1)
                record.latest = latest = PeerList(version=self._latest, connect=connect, peers=peers, connects=connects)
                record.heard = None
                self._permits.listed(lobby.name)
            record.maybe = record.maybe or connect
            if not record.answered_latest:
                due[lobby.name] = latest
        return due

    def _allow(
        self,
        spec: PlannerSpec,
        lobbies: Sequence[LobbyState],
        told: Sequence[LobbyState],
        permitted: AbstractSet[str],
        now: float,
    ) -> Mapping[str, int | None]:
        limits = self._limits(spec, lobbies, now)
        if not limits:  # who is preferred, and who knows its permits, makes no difference
            return self._permits.update((), lobbies, (), (), now)
        connecting = sorted((each for each in told if each.name in permitted), key=_preference)
        return self._permits.update(limits, lobbies, connecting, self._reporting_latest(told), now)

    def _peers_of(self, lobby: LobbyState, record: _Record) -> tuple[Peer, ...]:
        """The peers to ask, in this order; those of its latest list, as long as no others are better."""
        ranked = self._listed.ranked(lobby)
        if ranked is None:
            return ()
        latest, ranks = record.latest, ranked.best(lobby)
        judged, record.judged = record.judged == self._passes - 1, self._passes
        if latest is not None:
            # Of thousands of lists, nearly all are as good as in the pass before.
            if judged and record.ranks == ranks and ranked.changed.isdisjoint(record.names):
                return latest.peers
            if ranked.are_as_good(latest.peers, ranks):
                record.ranks = ranks
                return latest.peers
        peers = tuple(Peer(name=each.name, address=each.address) for each in ranked.first(lobby))
        record.ranks, record.names = ranks, frozenset(peer.name for peer in peers)
        return peers

    def answered(self, name: str, told: PeerList) -> None:
        """A lobby has answered a request with this list."""
        record = self._records.get(name)
        if record is not None:
            record.confirmed = max(record.confirmed, told.version)
            record.heard = None

    def _observe(self, lobbies: Sequence[LobbyState]) -> None:
        known, self._records = self._records, {}
        for lobby in lobbies:
            record = known.get(lobby.name)
            if record is None or record.created_at != lobby.created_at:
                record = _Record(lobby.created_at, inherited=self._first)
            self._records[lobby.name] = record
        for lobby in lobbies:
            record, stream = self._records[lobby.name], lobby.stream
            if stream is None or record.heard is lobby:
                continue
            record.heard = lobby
            told = Version(*stream.told)
            if told > self._latest:
                self._begin_after(told)
            if told > self._start:
                record.confirmed = max(record.confirmed, told)
            if record.answered_latest and told >= record.confirmed and not stream.permit:
                record.maybe = record.latest is None or record.latest.connect
        self._first = False

    def _begin_after(self, told: Version) -> None:
        """An earlier lobby host had a greater term, and perhaps its request came late: all lists are made again, above it."""
        self._start = self._latest = Version(told.term + 1, 0)
        for record in self._records.values():
            record.latest = record.heard = None

    def _limits(self, spec: PlannerSpec, lobbies: Iterable[LobbyState], now: float) -> list[ConnectLimit]:
        """Limits of attempts to connect: that of the Lobby, and one while the origin refuses its lobbies, or a moment ago.

        The lobby that was refused may be gone. The origin counts attempts as they arrive, some of them late.
        """
        limits = [] if spec.connects is None else [spec.connects]
        states = {each.origin.state for each in lobbies if each.origin is not None and not each.outdated}
        if OriginState.REFUSED in states:
            self._refused_until, self._refused_revision = now + self._settings.refused_seconds, spec.revision
        elif OriginState.CONNECTED in states or self._refused_revision not in (None, spec.revision):
            self._refused_until = now  # another key, or the origin has changed its mind
        if now < self._refused_until:
            limits.append(ConnectLimit(1, self._settings.refused_seconds))
        return [ConnectLimit(each.count, each.seconds + self._settings.late_seconds) for each in limits]

    def _reporting_latest(self, lobbies: Iterable[LobbyState]) -> set[str]:
        """Names of the lobbies whose reports say that they have the latest list."""
        return {
            lobby.name
            for lobby in lobbies
            if (latest := self._records[lobby.name].latest) is not None
            and lobby.stream is not None
            and Version(*lobby.stream.told) >= latest.version
        }

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


class _Listed:
    """The lobbies that others may be told, by the origin of their stream.

    Thousands of lobbies are told in each pass, so nothing here takes a step per pair of lobbies.

    Attributes:
        by_origin: the lobbies by the origin of their stream.
    """

    def __init__(
        self,
        lobbies: Iterable[LobbyState],
        holders: Iterable[str],
        settings: PeerListSettings,
        before: Mapping[str, _Ranked],
    ) -> None:
        """Prepares the lists.

        Args:
            lobbies: all lobbies of the Lobby.
            holders: those to be asked first.
            settings: sizes of the lists.
            before: `by_origin` of the pass before.
        """
        by_origin: dict[str, list[LobbyState]] = {}
        for each in lobbies:
            if each.address and each.phase in _LISTED and each.stream is not None:
                by_origin.setdefault(each.stream.origin_id, []).append(each)
        first = frozenset(holders)
        self.by_origin: dict[str, _Ranked] = {
            origin: _Ranked(origin, peers, first, settings, before.get(origin)) for origin, peers in by_origin.items()
        }

    def ranked(self, lobby: LobbyState) -> _Ranked | None:
        """The lobbies that have the same stream as a lobby; None: there are none."""
        return self.by_origin.get(lobby.stream.origin_id) if lobby.stream is not None else None


class _Ranked:
    """Lobbies with the same stream, in groups from those that should be asked first to those that should be asked last.

    Attributes:
        ranks: rank and address of each lobby, by name.
        changed: names of lobbies that are gone since the pass before, or whose rank or address has changed.
    """

    def __init__(
        self,
        origin: str,
        peers: Sequence[LobbyState],
        holders: frozenset[str],
        settings: PeerListSettings,
        before: _Ranked | None,
    ) -> None:
        self._origin = origin
        self._most = settings.max_peers
        many = len(peers) > settings.max_peers + 1
        groups: dict[_Rank, list[LobbyState]] = {}
        self.ranks: dict[str, tuple[_Rank, str]] = {}
        for each in sorted(peers, key=_index):
            rank = (each.name not in holders, *(_load(each, settings) if many else (False, 0)))
            groups.setdefault(rank, []).append(each)
            self.ranks[each.name] = rank, each.address
        self._groups = [(rank, groups[rank]) for rank in sorted(groups)]
        self._best: dict[_Rank | None, _Ranks] = {}
        known = before.ranks if before is not None else {}
        self.changed = frozenset(name for name, known_as in known.items() if self.ranks.get(name) != known_as)

    def best(self, lobby: LobbyState) -> _Ranks:
        """The ranks of the best peers of a lobby."""
        known = self.ranks.get(lobby.name)
        own = known[0] if known is not None else None
        ranks = self._best.get(own)
        if ranks is None:
            found: list[_Rank] = []
            for rank, group in self._groups:
                found += [rank] * min(len(group) - (rank == own), self._most - len(found))
            ranks = self._best[own] = self._origin, tuple(found)
        return ranks

    def first(self, lobby: LobbyState) -> list[LobbyState]:
        """The best peers of a lobby. Each group begins after it, so that not all lobbies ask the same ones first."""
        found: list[LobbyState] = []
        for _, group in self._groups:
            start = bisect_right(group, lobby.index, key=_index)
            for at in range(start, start + min(len(group), self._most + 1)):
                each = group[at % len(group)]
                if each.name != lobby.name:
                    found.append(each)
                if len(found) == self._most:
                    return found
        return found

    def are_as_good(self, told: Sequence[Peer], ranks: _Ranks) -> bool:
        """Whether peers that a lobby was told are still there, and no worse than others."""
        known = [self.ranks.get(each.name) for each in told]
        return len(told) == len(ranks[1]) and all(
            found is not None and found == (rank, each.address)
            for found, rank, each in zip(known, ranks[1], told, strict=True)
        )


def _load(lobby: LobbyState, settings: PeerListSettings) -> tuple[bool, int]:
    """Whether it has no stream or no room for another lobby, and over how many lobbies its stream comes."""
    stream = lobby.stream
    if stream is None or not stream.flowing or stream.relays >= settings.full_relays:
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


def _index(lobby: LobbyState) -> int:
    return lobby.index
