"""`origin.limits.connections` under lost and late requests, slow closes, killed lobbies, and changes of the lobby host.

The laws: never are more lobbies connected, or free to connect, than the origin allows; and once everything answers again, one
that clients can reach is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.operator.lobbies import lobby_state

from lobby_gateway.process.peer_list import PeerList, Version
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase, StreamState


@dataclass(eq=False)
class SimLobby:
    """A lobby as it really is."""

    index: int
    phase: Phase = Phase.READY
    version: Version = field(default_factory=Version)
    permitted: bool = False
    connected: bool = False
    clients: int = 0
    cut_off: bool = False
    report: StreamState | None = None  # the latest that the present lobby host knows

    @property
    def name(self) -> str:
        return f"prices-{self.index}"

    @property
    def holds(self) -> bool:
        return self.permitted or self.connected

    def take(self, told: PeerList) -> bool:
        if told.version < self.version:
            return False
        self.version, self.permitted = told.version, told.connect
        return True

    def state(self) -> LobbyState:
        phase = Phase.UNRESPONSIVE if self.cut_off and self.report is not None else self.phase
        if self.report is None:
            phase = Phase.UNRESPONSIVE if self.cut_off else Phase.STARTING
        return lobby_state(self.index, self.clients, phase, stream=self.report)


@dataclass(eq=False)
class Request:
    host: PeerLists
    lobby: SimLobby
    told: PeerList
    accepted: bool | None = None  # None: it has not arrived


class Budget(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 2))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.spec = PlannerSpec(lobby="prices", connections=limit)
        self.lobbies: list[SimLobby] = []
        self.created = 0
        self.requests: list[Request] = []
        self.term = 0
        self.host: PeerLists
        self.host_is_replaced()
        for _ in range(3):
            self.lobby_starts()

    @rule()
    def host_is_replaced(self) -> None:
        """The new one has seen nothing; requests of the old one are still under way."""
        self.term += 1
        self.host = PeerLists(Version(self.term, 0))
        for lobby in self.lobbies:
            lobby.report = None
            if not lobby.cut_off:
                self.poll(lobby)

    @rule()
    def terms_begin_anew(self) -> None:
        """Someone deleted the Lease, or installed the release again; by then no request of the old one is under way."""
        self.requests.clear()
        self.term = 0
        self.host_is_replaced()

    @rule()
    def host_process_is_replaced_in_the_same_term(self) -> None:
        self.host = PeerLists(Version(self.term, 1000 * (self.host._latest.number // 1000 + 1)))
        for lobby in self.lobbies:
            lobby.report = None
            if not lobby.cut_off:
                self.poll(lobby)

    @precondition(lambda self: len(self.lobbies) < 5)
    @rule()
    def lobby_starts(self) -> None:
        self.created += 1
        self.lobbies.append(SimLobby(self.created))

    def some(self, data: st.DataObject) -> SimLobby:
        return data.draw(st.sampled_from(self.lobbies))

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data())
    def lobby_is_killed(self, data: st.DataObject) -> None:
        self.lobbies.remove(self.some(data))

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data(), phase=st.sampled_from([Phase.DRAINING, Phase.ENDING]))
    def lobby_drains(self, data: st.DataObject, phase: Phase) -> None:
        self.some(data).phase = phase

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data(), clients=st.integers(0, 3))
    def clients_come_and_go(self, data: st.DataObject, clients: int) -> None:
        self.some(data).clients = clients

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data(), cut_off=st.booleans())
    def network_changes(self, data: st.DataObject, cut_off: bool) -> None:
        self.some(data).cut_off = cut_off

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data())
    def lobby_connects_or_closes(self, data: st.DataObject) -> None:
        lobby = self.some(data)
        lobby.connected = lobby.permitted

    @precondition(lambda self: self.lobbies)
    @rule(data=st.data())
    def is_polled(self, data: st.DataObject) -> None:
        lobby = self.some(data)
        if not lobby.cut_off:
            self.poll(lobby)

    @rule()
    def plans(self) -> None:
        observed = Observed(lobbies=tuple(lobby.state() for lobby in self.lobbies))
        by_name = {lobby.name: lobby for lobby in self.lobbies}
        for name, told in self.host.update(self.spec, observed).items():
            if not any(each.lobby.name == name and each.host is self.host for each in self.requests):
                self.requests.append(Request(self.host, by_name[name], told))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def request_arrives(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        if request.accepted is None:
            request.accepted = request.lobby.take(request.told)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), duplicated=st.booleans())
    def answer_arrives_or_is_lost(self, data: st.DataObject, duplicated: bool) -> None:
        """Without an answer, the lobby host believes that the request was lost; it may still arrive later."""
        request = data.draw(st.sampled_from(self.requests))
        self.requests.remove(request)
        if request.accepted:
            request.host.answered(request.lobby.name, request.told)
        elif request.accepted is None and duplicated:
            self.requests.append(Request(PeerLists(Version()), request.lobby, request.told))

    def poll(self, lobby: SimLobby) -> None:
        version = (lobby.version.term, lobby.version.number)
        lobby.report = StreamState(permit=lobby.holds, told=version, flowing=lobby.connected)

    @invariant()
    def no_more_are_connected_than_the_origin_allows(self) -> None:
        if hasattr(self, "limit"):
            holding = [lobby.name for lobby in self.lobbies if lobby.holds]
            assert len(holding) <= self.limit, holding

    def teardown(self) -> None:
        """Everything answers again: as many as possible are connected, and only such that are not about to end."""
        if not hasattr(self, "limit"):
            return
        for lobby in self.lobbies:
            lobby.cut_off = False
        self.lobby_starts()
        for _ in range(8):
            for lobby in self.lobbies:
                lobby.connected = lobby.permitted
                self.poll(lobby)
            self.plans()
            self.no_more_are_connected_than_the_origin_allows()
            for request in list(self.requests):
                self.requests.remove(request)
                if request.lobby.take(request.told):
                    request.host.answered(request.lobby.name, request.told)
                self.no_more_are_connected_than_the_origin_allows()
        ready = [lobby for lobby in self.lobbies if lobby.phase is Phase.READY]
        connected = [lobby for lobby in self.lobbies if lobby.connected]
        assert len(connected) == min(self.limit, len(self.lobbies)) or connected == ready
        assert any(lobby.phase is Phase.READY for lobby in connected)


TestBudget = Budget.TestCase
