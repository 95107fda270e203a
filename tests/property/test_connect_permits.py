"""`origin.limits.connects` under lost and late requests and writes of the status, killed lobbies, and new lobby hosts.

The laws: in no time of `seconds` do all lobbies together make more attempts than `count`; and once everything answers again,
a lobby that needs a permit gets one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.operator.lobbies import lobby_state

from lobby_gateway.origin.connect_allowance import ConnectAllowance
from lobby_gateway.process.peer_list import PeerList, Version
from lobby_operator.planner.connect_permits import EarlierConnects
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.planner.spec import ConnectLimit, PlannerSpec
from lobby_operator.planner.state import LobbyState, Observed, Phase, StreamState

SECONDS = 10.0
ACTIONS = [
    *["works"] * 4, *["time"] * 3, *["tries"] * 4, *["wants"] * 2, "writes", "plans", "poll", "arrives", "answers", "host",
    "node", "terms", "kill", "start", "drain", "cut off",
]  # fmt: skip


@dataclass(eq=False)
class SimLobby:
    """A lobby as it really is."""

    index: int
    allowance: ConnectAllowance
    created_at: float
    phase: Phase = Phase.READY
    version: Version = field(default_factory=Version)
    wants: bool = False
    cut_off: bool = False
    report: StreamState | None = None  # the latest that the present lobby host knows

    @property
    def name(self) -> str:
        return f"prices-{self.index}"

    def take(self, told: PeerList) -> bool:
        if told.version < self.version:
            return False
        self.version = told.version
        self.allowance.allowed = told.connects
        return True

    def state(self) -> LobbyState:
        phase = Phase.UNRESPONSIVE if self.cut_off and self.report is not None else self.phase
        if self.report is None:
            phase = Phase.UNRESPONSIVE if self.cut_off else Phase.STARTING
        return lobby_state(self.index, 0, phase, stream=self.report, created_at=self.created_at)


@dataclass(eq=False)
class Request:
    host: PeerLists
    lobby: SimLobby
    told: PeerList
    accepted: bool | None = None  # None: it has not arrived


Status = tuple[frozenset[str], float]
"""What the status of the Lobby says: the names of its lobbies, and until when attempts of others count."""


class Connects(RuleBasedStateMachine):
    @initialize(count=st.integers(1, 4), connections=st.sampled_from([0, 0, 1]))
    def begin(self, count: int, connections: int) -> None:
        self.now = 1000.0
        self.count = count
        self.spec = PlannerSpec(lobby="prices", connections=connections, connects=ConnectLimit(count, SECONDS))
        self.lobbies: list[SimLobby] = []
        self.created = self.started = 0
        self.requests: list[Request] = []
        self.attempts: list[float] = []
        self.stored: Status = (frozenset(), 0.0)
        self.planned: Status = (frozenset(), 0.0)  # is written some time later, or never
        self.term = 0
        self.host: PeerLists
        self.host_is_replaced(status_known=True)
        for _ in range(3):
            self.lobby_starts()
            self.lobbies[-1].wants = True

    @rule(action=st.sampled_from(ACTIONS), which=st.integers(0, 4), data=st.data())
    def act(self, action: str, which: int, data: st.DataObject) -> None:
        """A single rule: of several, Hypothesis disables some in most runs, and few runs get far."""
        lobby = self.lobbies[which % len(self.lobbies)] if self.lobbies else None
        request = self.requests[which % len(self.requests)] if self.requests else None
        match action:
            case "works":
                self.all_works(writes=data.draw(st.booleans()))
            case "time":
                self.now += data.draw(st.sampled_from([0.125, 1.0, SECONDS / 2, SECONDS]))
            case "host":
                self.host_is_replaced(status_known=data.draw(st.booleans()))
            case "node" if lobby is not None:
                self.lobbies.remove(lobby)
                self.host_is_replaced(status_known=True)
            case "terms":
                self.terms_begin_anew()
            case "start" if len(self.lobbies) < 5:
                self.lobby_starts()
            case "plans":
                self.plans()
            case "writes":
                self.stored = self.planned
            case "arrives" if request is not None:
                self.arrives(request)
            case "answers" if request is not None:
                self.answer_arrives_or_is_lost(request, duplicated=data.draw(st.booleans()))
            case _ if lobby is not None:
                self.act_on(lobby, action)

    def act_on(self, lobby: SimLobby, action: str) -> None:
        match action:
            case "kill":
                self.lobbies.remove(lobby)
            case "drain":
                lobby.phase = Phase.DRAINING
            case "cut off":
                lobby.cut_off = not lobby.cut_off
            case "wants":
                lobby.wants = not lobby.wants
            case "tries":
                self.tries(lobby)
            case "poll" if not lobby.cut_off:
                self.poll(lobby)

    def host_is_replaced(self, *, status_known: bool) -> None:
        """The new one has seen nothing; requests of the old one are still under way."""
        self.term += 1
        names, until = self.stored
        earlier = EarlierConnects(names if status_known else None, until)
        self.host = PeerLists(Version(self.term, 0), earlier=earlier)
        for lobby in self.lobbies:
            lobby.report = None
            if not lobby.cut_off:
                self.poll(lobby)

    def terms_begin_anew(self) -> None:
        """Someone deleted the Lease, or installed the release again; by then no request of the old one is under way."""
        self.requests.clear()
        self.term = 0
        self.host_is_replaced(status_known=True)

    def lobby_starts(self) -> None:
        """Its name may be that of an earlier one, if there is no other now."""
        self.created = self.created + 1 if self.lobbies else 1
        allowance = ConnectAllowance(0, count=self.count, seconds=SECONDS)
        self.started += 1
        self.lobbies.append(SimLobby(self.created, allowance, self.now + self.started * 1e-6))

    def tries(self, lobby: SimLobby) -> None:
        if lobby.allowance.take(self.now):
            self.attempts.append(self.now)

    def plans(self) -> None:
        observed = Observed(lobbies=tuple(lobby.state() for lobby in self.lobbies), at=self.now)
        by_name = {lobby.name: lobby for lobby in self.lobbies}
        lists = self.host.update(self.spec, observed, recorded=self.stored[0])
        self.planned = frozenset(by_name), self.host.untold_connects_until
        for name, told in lists.items():
            if not any(each.lobby.name == name and each.host is self.host for each in self.requests):
                self.requests.append(Request(self.host, by_name[name], told))

    def arrives(self, request: Request) -> None:
        if request.accepted is None:
            request.accepted = request.lobby.take(request.told)

    def answer_arrives_or_is_lost(self, request: Request, *, duplicated: bool) -> None:
        """Without an answer, the lobby host believes that the request was lost; it may still arrive later."""
        self.requests.remove(request)
        if request.accepted:
            request.host.answered(request.lobby.name, request.told)
        elif request.accepted is None and duplicated:
            self.requests.append(Request(PeerLists(Version()), request.lobby, request.told))

    def all_works(self, *, writes: bool = True) -> None:
        """What usually happens between two faults: reports, lists and answers arrive, and lobbies try what they may."""
        for _ in range(2):
            for lobby in self.lobbies:
                if not lobby.cut_off:
                    self.poll(lobby)
            self.plans()
            if writes:
                self.stored = self.planned
            for request in list(self.requests):
                if request.lobby not in self.lobbies:
                    self.requests.remove(request)  # its process has ended
                elif not request.lobby.cut_off:
                    self.arrives(request)
                    self.answer_arrives_or_is_lost(request, duplicated=False)
            for lobby in self.lobbies:
                if lobby.wants:
                    self.tries(lobby)

    def poll(self, lobby: SimLobby) -> None:
        version = (lobby.version.term, lobby.version.number)
        lobby.report = StreamState(
            told=version,
            connects=lobby.allowance.made,
            recent_connects=lobby.allowance.recent(self.now),
            wants_connect=lobby.wants and lobby.allowance.exhausted,
        )

    @invariant()
    def no_time_has_more_attempts_than_allowed(self) -> None:
        if hasattr(self, "count"):
            late = zip(self.attempts, self.attempts[self.count :], strict=False)
            assert all(after - before >= SECONDS for before, after in late), self.attempts

    def teardown(self) -> None:
        """Everything answers again: whoever needs a permit gets one, as soon as one is free."""
        if not hasattr(self, "count"):
            return
        for lobby in self.lobbies:
            lobby.cut_off, lobby.wants = False, False
        self.lobby_starts()
        wanting = self.lobbies[-1]
        if self.spec.connections:
            self.lobbies = [wanting]
        wanting.wants = True
        for _ in range(40):
            self.now += 1.0
            self.all_works()
            self.no_time_has_more_attempts_than_allowed()
        mine = [at for at in self.attempts if at > self.now - 25.0]
        assert len(mine) >= self.count, "the limit is not used"


Connects.TestCase.settings = settings(max_examples=max(160, settings().max_examples), stateful_step_count=40)
TestConnects = Connects.TestCase
