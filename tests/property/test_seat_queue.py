"""The laws of the queue for seats, against lobbies that grant, refuse, drain, fail and answer late."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lobby_gateway.greeter.seat_queue import NEVER, ClaimRefusal, LobbyId, OpenLobby, Rank, SeatQueue, Waiter
from lobby_gateway.settings import SeatQueueSettings
from lobby_gateway.trunk.consumer import SeatLedger

SETTINGS = SeatQueueSettings()
WAIT = 15.0
MOST_WITHIN = 10.0
DELAYS = st.sampled_from([0.0, 0.001, 0.3, 1.0, 2.5, 20.0])


@dataclass
class Lobby:
    """The real lobby, the authority on its seats."""

    id: LobbyId
    seats: int
    taken: int = 0
    draining: bool = False
    unanswered: list[tuple[int, int]] = field(default_factory=list)  # id and seats of claims
    occupants: set[int] = field(default_factory=set)  # our clients


class SeatQueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.ledgers: dict[LobbyId, SeatLedger] = {}
        self.queue: SeatQueue[int] = SeatQueue(self.ledgers.get, wait_seconds=WAIT, settings=SETTINGS)
        self.lobbies: dict[LobbyId, Lobby] = {}
        self.waiting: dict[int, Waiter[int]] = {}  # in the order in which they came
        self.scheduled: dict[int, Waiter[int]] = {}  # those of `waiting` that may not move yet
        self.move_by: dict[LobbyId, float] = {}
        self.since: dict[int, float] = {}
        self.outcomes: Counter[str] = Counter()
        self.arrived = 0
        self.made = 0

    @initialize(count=st.integers(1, 4), seats=st.integers(1, 6))
    def start(self, count: int, seats: int) -> None:
        for _ in range(count):
            self.new_lobby(seats)

    # Events

    @precondition(lambda self: len(self.lobbies) < 6)
    @rule(seats=st.integers(1, 6))
    def new_lobby(self, seats: int) -> None:
        self.made += 1
        lobby = Lobby(LobbyId(f"x-{self.made}", f"h:{self.made}"), seats)
        self.lobbies[lobby.id] = lobby

    @rule(old=st.booleans())
    def directory(self, old: bool) -> None:
        """A directory update, sometimes so old that all lobbies look empty."""
        lobbies = self.lobbies.values()
        self.queue.update([OpenLobby(b.id, 0 if old else b.taken, b.seats) for b in lobbies if not b.draining])

    @rule(count=st.integers(1, 8))
    def arrive(self, count: int) -> None:
        for _ in range(count):
            self.arrived += 1
            self.enter(self.arrived, Rank.NEW)

    @rule(data=st.data())
    def leave_the_queue(self, data: st.DataObject) -> None:
        if self.waiting:
            client = data.draw(st.sampled_from(list(self.waiting)))
            waiter = self.waiting.pop(client)
            self.scheduled.pop(client, None)
            self.queue.leave(waiter)
            if waiter.rank is Rank.MOVING:
                self.give_back(client)
            self.outcomes["left"] += 1

    @rule(data=st.data())
    def leave_a_seat(self, data: st.DataObject) -> None:
        seated = [c for b in self.lobbies.values() for c in b.occupants if c not in self.waiting]
        if seated:
            self.give_back(data.draw(st.sampled_from(seated)))
            self.outcomes["left"] += 1

    @rule(data=st.data())
    def others_take_seats(self, data: st.DataObject) -> None:
        lobby = self.draw_lobby(data)
        lobby.taken += data.draw(st.integers(0, max(0, lobby.seats - lobby.taken)))

    @rule(data=st.data(), most=st.integers(0, 6))
    def answer(self, data: st.DataObject, most: int) -> None:
        """A lobby answers a claim, perhaps too late, perhaps with less than it could."""
        asked = [b for b in self.lobbies.values() if b.unanswered]
        if asked:
            self.grant(data.draw(st.sampled_from(asked)), most)

    @rule(data=st.data(), come_back=st.booleans())
    def trunk_ends(self, data: st.DataObject, come_back: bool) -> None:
        lobby = self.draw_lobby(data)
        lobby.unanswered.clear()
        lobby.taken -= len(lobby.occupants)
        self.ledgers.pop(lobby.id, None)
        self.queue.failed(lobby.id, self.now, come_back=come_back)
        lost, lobby.occupants = sorted(lobby.occupants), set()
        for client in lost:
            moving = self.waiting.pop(client, None)
            self.scheduled.pop(client, None)
            if moving is not None:
                self.queue.leave(moving)
            self.enter(client, Rank.LOST)

    @rule(data=st.data(), within=st.sampled_from([0.0, 0.5, MOST_WITHIN]))
    def drain(self, data: st.DataObject, within: float) -> None:
        """A lobby asks its clients to move; perhaps it asks again, with less time or more."""
        lobby = self.draw_lobby(data)
        self.move_by[lobby.id] = min(self.move_by.get(lobby.id, NEVER), self.now + within)
        self.queue.draining(lobby.id, self.now, self.now + within)
        if not lobby.draining:
            lobby.draining = True
            for client in sorted(lobby.occupants):
                self.move(client, lobby)

    @rule()
    def empty_lobbies_go(self) -> None:
        for lobby in [b for b in self.lobbies.values() if b.draining and not b.occupants and not b.unanswered]:
            del self.lobbies[lobby.id]
        self.directory(old=False)

    @rule(seconds=DELAYS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.start_moves()
        for waiter in self.queue.expired(self.now):
            assert self.now - self.since[waiter.client] >= WAIT
            assert waiter.rank is not Rank.MOVING
            assert self.waiting.pop(waiter.client) is waiter
            self.outcomes["expired"] += 1

    @rule()
    def claim(self) -> None:
        self.start_moves()
        claims = self.queue.claims(self.now)
        assert sum(claim.seats for claim in claims) <= len(self.waiting)
        assert len({claim.lobby for claim in claims}) == len(claims)
        for claim in claims:
            assert claim.seats > 0
            if claim.lobby in self.lobbies:
                number = self.ledgers.setdefault(claim.lobby, SeatLedger()).claim(claim.seats)
                self.lobbies[claim.lobby].unanswered.append((number, claim.seats))
            else:
                self.queue.failed(claim.lobby, self.now)  # refused: the lobby no longer listens

    # Helpers

    def draw_lobby(self, data: st.DataObject) -> Lobby:
        if not self.lobbies:
            self.new_lobby(3)
        return self.lobbies[data.draw(st.sampled_from(list(self.lobbies)))]

    def enter(self, client: int, rank: Rank, leaving: LobbyId | None = None) -> None:
        self.waiting[client] = self.queue.wait(client, rank, self.now, leaving=leaving)
        self.since[client] = self.now

    def move(self, client: int, lobby: Lobby) -> None:
        self.enter(client, Rank.MOVING, lobby.id)
        self.scheduled[client] = self.waiting[client]

    def start_moves(self) -> None:
        for waiter in self.queue.start_moves(self.now):
            assert self.scheduled.pop(waiter.client) is waiter
            self.waiting[waiter.client] = self.waiting.pop(waiter.client)  # after those that could move before
        for waiter in self.scheduled.values():
            assert waiter.leaving is not None
            assert self.now < self.move_by[waiter.leaving], "it should have moved by now"

    def give_back(self, client: int) -> None:
        [lobby] = [b for b in self.lobbies.values() if client in b.occupants]
        lobby.occupants.remove(client)
        lobby.taken -= 1
        self.ledgers[lobby.id].release(1)
        self.queue.released(lobby.id)

    def grant(self, lobby: Lobby, most: int = 99) -> None:
        number, claimed = lobby.unanswered.pop(0)
        free = 0 if lobby.draining else max(0, lobby.seats - lobby.taken)
        seats = min(claimed, free, most)
        refusal = None if seats == claimed else ClaimRefusal.DRAINING if lobby.draining else ClaimRefusal.FULL
        lobby.taken += seats
        self.ledgers[lobby.id].grant(number, seats)
        seated = self.queue.granted(lobby.id, seats, refusal, self.now)
        self.ledgers[lobby.id].release(seated.surplus)
        assert len(seated.clients) + seated.surplus == seats
        lobby.taken -= seated.surplus
        queued = [waiter for client, waiter in self.waiting.items() if client not in self.scheduled]
        eligible = [w for rank in Rank for w in queued if w.rank is rank and w.leaving != lobby.id]
        assert list(seated.clients) == [waiter.client for waiter in eligible[:seats]], "first come, first served"
        for client in seated.clients:
            if self.waiting.pop(client).rank is Rank.MOVING:
                self.give_back(client)
            lobby.occupants.add(client)
            if lobby.draining:  # the claim was granted before
                self.move(client, lobby)

    # The laws

    @invariant()
    def no_client_is_lost_or_seated_twice(self) -> None:
        seats = Counter(client for lobby in self.lobbies.values() for client in lobby.occupants)
        assert not seats or max(seats.values()) == 1
        moving = {client for client, waiter in self.waiting.items() if waiter.rank is Rank.MOVING}
        assert moving <= set(seats)
        assert not (set(self.waiting) - moving) & set(seats)
        assert len(set(self.waiting) | set(seats)) + self.outcomes.total() == self.arrived

    @invariant()
    def the_queue_lists_the_waiting_clients(self) -> None:
        assert (len(self.queue), self.queue.scheduled) == (len(self.waiting) - len(self.scheduled), len(self.scheduled))
        assert self.queue.unseated == sum(waiter.rank is not Rank.MOVING for waiter in self.waiting.values())
        assert self.queue.lost == sum(waiter.rank is Rank.LOST for waiter in self.waiting.values())

    @invariant()
    def the_ledger_agrees_with_what_lobbies_granted(self) -> None:
        for lobby in self.lobbies.values():
            ledger = self.ledgers.get(lobby.id, SeatLedger())
            assert ledger.held == len(lobby.occupants)
            assert list(ledger.claims.items()) == lobby.unanswered
            assert lobby.taken <= lobby.seats

    @invariant()
    def waiting_clients_without_a_claim_are_woken(self) -> None:
        if self.queue.unseated:
            wake = self.queue.wake_at(self.now)
            assert wake is not None
            assert wake <= max(w.deadline for w in self.waiting.values() if w.deadline < NEVER)

    @invariant()
    def moving_clients_are_woken_in_time(self) -> None:
        wake = self.queue.wake_at(self.now)
        for waiter in self.scheduled.values():
            assert waiter.leaving is not None
            assert wake is not None
            assert wake <= max(self.now, self.move_by[waiter.leaving])

    def teardown(self) -> None:
        """From any state: given room and responsive lobbies, every waiting client gets a seat before the deadline."""
        for lobby in self.lobbies.values():
            while lobby.unanswered:
                self.grant(lobby, 0)
        self.new_lobby(self.arrived + 1)
        self.directory(old=False)
        limit = self.now + MOST_WITHIN + 2 * SETTINGS.claim_seconds + 2 * SETTINGS.max_failed_seconds
        waiting = set(self.waiting)
        for _ in range(500):
            self.claim()
            for lobby in self.lobbies.values():
                while lobby.unanswered:
                    self.grant(lobby)
            if not self.waiting:
                break
            wake = self.queue.wake_at(self.now)
            if wake is None:
                break
            self.now = max(wake, self.now)
            self.time_passes(0)
        assert not self.waiting
        assert self.now <= limit, waiting


SeatQueueMachine.TestCase.settings = settings(max_examples=settings().max_examples * 3 // 2, stateful_step_count=40)
TestSeatQueue = SeatQueueMachine.TestCase
