"""Which open lobby next, for whom, and when to give up: the greeter's side of seats, for one Lobby.

The directory (Lobby.status) says which lobbies are open and in which order to try them; it is always a little old. Laid
over it is what this greeter knows itself: the seats it holds, the claims that are under way, the tickets it handed out,
and the lobbies that refused or did not answer. The lobby itself is the authority: what is reckoned here decides only where
to ask first, and a wrong guess costs one more question.

Claims are for numbers of seats, not for clients: who gets a seat is decided when it is granted, first come first served.
So a client that leaves meanwhile costs nothing but a seat given back, and k clients cost one claim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

C = TypeVar("C")
NEVER = float("inf")


class LobbyId(NamedTuple):
    """One running lobby. A replaced lobby may have its name again, but at another address.

    Attributes:
        name: unique among the lobbies of its Lobby.
        address: `host:port` of its client port.
    """

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class OpenLobby:
    """A lobby that takes new clients, as the directory shows it.

    Attributes:
        id: name and address.
        clients: seats taken, as last observed.
        seats: how many there are.
    """

    id: LobbyId
    clients: int
    seats: int


class Rank(IntEnum):
    """Who is seated first; first come first served within a rank."""

    LOST = 0  # was in, and its lobby is gone
    MOVING = 1  # is in a lobby that drains, and still served there
    NEW = 2


class Refusal(Enum):
    """Why a lobby granted less than was claimed."""

    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTimes:
    """How long things are believed, in seconds.

    Attributes:
        claim: a claim without an answer for so long counts as failed; covers opening the trunk.
        full: a lobby that said it is full is not asked again for so long, unless there are news of it.
        draining: the same for one that drains; by then it has left the directory.
        suspect_min: the same for one that failed; doubled with each failure in a row.
        suspect_max: the most of that. A lobby that failed comes after all others for so long after it failed.
        ticket: a redirected client that is not seen in the directory counts for so long.
        lost: the least that a client whose lobby is gone waits for a new seat.
    """

    claim: float = 1.0
    full: float = 1.0
    draining: float = 10.0
    suspect_min: float = 1.0
    suspect_max: float = 15.0
    ticket: float = 10.0
    lost: float = 30.0


class Waiter(Generic[C]):
    """A client's place in the queue.

    Attributes:
        client: whose place it is.
        rank: see `Rank`.
        deadline: when it is given up.
        leaving: the lobby that it is to leave; it is not seated there again.
    """

    __slots__ = ("client", "deadline", "leaving", "rank")

    def __init__(self, client: C, rank: Rank, deadline: float, leaving: LobbyId | None) -> None:
        self.client = client
        self.rank = rank
        self.deadline = deadline
        self.leaving = leaving


@dataclass(frozen=True, slots=True)
class Claim:
    """Seats to ask a lobby for.

    Attributes:
        number: unique in this greeter and Lobby; comes back with the answer.
        lobby: who is asked.
        seats: how many.
        deadline: when it counts as failed.
    """

    number: int
    lobby: LobbyId
    seats: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Seated(Generic[C]):
    """Who got the seats that a lobby granted.

    Attributes:
        clients: in the order in which they waited.
        surplus: seats to give back: those for whom they were claimed are gone.
    """

    clients: tuple[C, ...]
    surplus: int


class _Known:
    """What is known of one lobby."""

    __slots__ = (
        "claim", "clients", "failed_at", "failures", "full_until", "id", "listed", "news", "own", "own_then",
        "returning", "seats", "skip_until", "tickets",
    )  # fmt: skip

    def __init__(self, lobby: LobbyId) -> None:
        self.id = lobby
        self.listed = False
        self.clients = 0
        self.seats = 0
        self.news: OpenLobby | None = None  # what the directory said last
        self.own = 0  # seats that we hold there
        self.own_then = 0  # the same when `clients` was learned
        self.claim: Claim | None = None
        self.tickets: deque[float] = deque()  # when each of those handed out stops counting, oldest first
        self.full_until = -NEVER
        self.skip_until = -NEVER
        self.failures = 0  # in a row
        self.failed_at = -NEVER
        self.returning = False  # its trunk broke a moment ago: asked first, since only there can clients go on exactly

    def room(self, now: float) -> int:
        """Free seats, as far as known, without those claimed and those that tickets stand for."""
        while self.tickets and self.tickets[0] <= now:
            self.tickets.popleft()
        taken = max(self.clients + self.own - self.own_then, self.own)
        return self.seats - taken - len(self.tickets) - (self.claim.seats if self.claim is not None else 0)

    def may_be_asked(self, now: float) -> bool:
        """It did not refuse or fail a moment ago."""
        return self.skip_until <= now and self.full_until <= now

    @property
    def idle(self) -> bool:
        """Nothing is to be remembered of it once the directory has dropped it."""
        return self.own == 0 and self.claim is None


class Candidates(Generic[C]):
    """The queue of one Lobby's clients that need a seat, and the lobbies that may have one.

    Every method that changes something may change what `claims` and `wake_at` say next.

    Attributes:
        wait_seconds: how long a new client is held, but at least until a lobby can have answered; may be changed at any
            time, for those who come later.
        times: see `CandidateTimes`.
    """

    def __init__(self, *, wait_seconds: float, times: CandidateTimes | None = None) -> None:
        self.wait_seconds = wait_seconds
        self.times = times or CandidateTimes()
        self._known: dict[LobbyId, _Known] = {}
        self._order: list[_Known] = []
        # Dictionaries as ordered sets: whoever leaves the middle of the queue does so in constant time.
        self._queues: dict[Rank, dict[Waiter[C], None]] = {rank: {} for rank in Rank}
        self._last_deadline = dict.fromkeys(Rank, 0.0)
        self._claimed = 0
        self._number = 0

    # The queue

    def __len__(self) -> int:
        """Clients in the queue, moving ones included."""
        return sum(map(len, self._queues.values()))

    @property
    def unseated(self) -> int:
        """Clients without any seat: the new and the lost."""
        return len(self._queues[Rank.LOST]) + len(self._queues[Rank.NEW])

    @property
    def displaced(self) -> bool:
        """Clients wait that were in: lost or moving ones."""
        return bool(self._queues[Rank.LOST] or self._queues[Rank.MOVING])

    @property
    def claimed(self) -> int:
        """Seats that were asked for and not answered yet."""
        return self._claimed

    def wait(self, client: C, rank: Rank, now: float, *, leaving: LobbyId | None = None) -> Waiter[C]:
        """Puts a client at the end of the queue of its rank.

        One that moves has no deadline: it is still served where it is.
        """
        if rank is Rank.MOVING:
            deadline = NEVER
        else:
            least = self.times.claim if rank is Rank.NEW else self.times.lost  # a lobby needs time to answer
            patience = max(self.wait_seconds, least)
            # The queue stays sorted by deadline even when wait_seconds was made shorter.
            deadline = max(now + patience, self._last_deadline[rank] if self._queues[rank] else 0.0)
            self._last_deadline[rank] = deadline
        waiter = Waiter(client, rank, deadline, leaving)
        self._queues[rank][waiter] = None
        return waiter

    def leave(self, waiter: Waiter[C]) -> None:
        """Takes a client out of the queue; nothing happens if it is not in it any more."""
        self._queues[waiter.rank].pop(waiter, None)

    def expired(self, now: float) -> list[Waiter[C]]:
        """Takes out and returns those who waited as long as they may."""
        gone: list[Waiter[C]] = []
        for queue in self._queues.values():
            for waiter in queue:
                if waiter.deadline > now:
                    break
                gone.append(waiter)
        for waiter in gone:
            self.leave(waiter)
        return gone

    def clear(self) -> list[Waiter[C]]:
        """Takes out and returns everyone."""
        gone = list(chain.from_iterable(self._queues.values()))
        for waiter in gone:
            self.leave(waiter)
        return gone

    # The lobbies

    def update(self, lobbies: Sequence[OpenLobby]) -> None:
        """Takes the directory's list, in the order in which lobbies are to be tried."""
        for known in self._order:
            known.listed = False
        self._order = []
        for lobby in lobbies:
            known = self._lobby(lobby.id)
            if not known.listed:  # a list that names a lobby twice counts once
                known.listed = True
                self._order.append(known)
                self._news(known, lobby)
        self._known = {key: known for key, known in self._known.items() if known.listed or not known.idle}

    def observed(self, lobby: LobbyId, seats: int, free: int) -> None:
        """A lobby said itself how many seats it has and would grant now: newer than what the directory says."""
        self._learn(self._lobby(lobby), max(0, seats - free), seats)

    def held(self, lobby: LobbyId) -> int:
        """Seats held in a lobby."""
        known = self._known.get(lobby)
        return known.own if known is not None else 0

    def claims(self, now: float) -> list[Claim]:
        """Claims to be sent now: at most one under way per lobby, never more seats than clients that wait."""
        for known in self._known.values():
            if known.claim is not None and known.claim.deadline <= now:
                self._failed(known, now)
        wanted = len(self) - self._claimed
        claims: list[Claim] = []
        if wanted > 0:
            for known, room in self._offers(now):
                seats = min(wanted, room)
                if known.claim is None:
                    claims.append(self._claim(known, seats, now))
                wanted -= seats  # where a claim is under way, the next one waits for its answer
                if wanted <= 0:
                    break
        return claims

    def granted(self, lobby: LobbyId, number: int, seats: int, refusal: Refusal | None, now: float) -> Seated[C]:
        """A lobby's answer to a claim, also a late one: says who gets the seats."""
        known = self._lobby(lobby)
        if known.claim is not None and known.claim.number == number:
            if seats < known.claim.seats and refusal is None:
                refusal = Refusal.FULL
            self._settle(known)
        known.failures = 0
        known.skip_until = known.full_until = -NEVER
        known.returning = False
        if refusal is Refusal.FULL:
            known.full_until = now + self.times.full
        elif refusal is Refusal.DRAINING:
            known.skip_until = now + self.times.draining
        seated: list[Waiter[C]] = []
        for waiter in chain.from_iterable(self._queues.values()):
            if len(seated) == seats:
                break
            if waiter.leaving != lobby:
                seated.append(waiter)
        for waiter in seated:
            self.leave(waiter)
        known.own += len(seated)
        return Seated(tuple(waiter.client for waiter in seated), seats - len(seated))

    def released(self, lobby: LobbyId, seats: int) -> None:
        """Seats of clients that left, or moved away, were given back."""
        known = self._lobby(lobby)
        known.own = max(0, known.own - seats)
        known.full_until = -NEVER

    def draining(self, lobby: LobbyId, now: float) -> None:
        """A lobby asks its clients to move: it is not asked for seats. Those held there stay held until released."""
        self._lobby(lobby).skip_until = now + self.times.draining

    def failed(self, lobby: LobbyId, now: float, *, come_back: bool = False) -> None:
        """A lobby fell silent, can't be reached, or its trunk ended: its seats and claims are void.

        Args:
            lobby: which one.
            now: seconds.
            come_back: it answered until a moment ago; ask it first, once, for those who were there.
        """
        known = self._lobby(lobby)
        known.own = known.own_then = 0
        if come_back and not known.returning:
            self._settle(known)
            known.returning = True
        else:
            self._failed(known, now)

    # Tickets, for redirected clients

    def tickets(self, now: float) -> list[tuple[C, LobbyId]]:
        """Takes clients that can be redirected now out of the queue, each with the lobby it is sent to."""
        handed: list[tuple[C, LobbyId]] = []
        queue = self._queues[Rank.NEW]
        for known in self._order:
            if not known.may_be_asked(now):
                continue
            for _ in range(min(known.room(now), len(queue))):
                waiter = next(iter(queue))
                del queue[waiter]
                known.tickets.append(now + self.times.ticket)
                handed.append((waiter.client, known.id))
        return handed

    def wake_at(self, now: float) -> float | None:
        """When to call `expired`, and `claims` or `tickets`, if nothing happens before; None: not at all."""
        at = NEVER
        for queue in self._queues.values():
            for waiter in queue:
                at = min(at, waiter.deadline)
                break
        waiting = len(self) > self._claimed
        for known in self._known.values():
            if known.claim is not None:
                at = min(at, known.claim.deadline)
            elif waiting and known.listed:
                if not known.may_be_asked(now):
                    at = min(at, max(known.skip_until, known.full_until))
                elif known.tickets:
                    at = min(at, known.tickets[0])
        return at if at < NEVER else None

    # How it is done

    def _lobby(self, lobby: LobbyId) -> _Known:
        known = self._known.get(lobby)
        if known is None:
            known = self._known[lobby] = _Known(lobby)
        return known

    def _news(self, known: _Known, lobby: OpenLobby) -> None:
        if known.news == lobby:
            return  # said before; what was learned since is newer
        known.news = lobby
        self._learn(known, lobby.clients, lobby.seats)

    def _learn(self, known: _Known, clients: int, seats: int) -> None:
        for _ in range(min(len(known.tickets), clients - known.clients)):
            known.tickets.popleft()  # they arrived
        if clients < seats:
            known.full_until = -NEVER
        known.clients, known.seats = clients, seats
        known.own_then = known.own

    def _offers(self, now: float) -> Iterator[tuple[_Known, int]]:
        """Lobbies to ask, best first, with how many seats; where a claim is under way, how many more may come of it."""
        asked = [known for known in self._order if known.may_be_asked(now)]
        for known in asked:
            if known.returning and known.claim is None:
                yield known, max(1, len(self._queues[Rank.LOST]))
        for known in asked:
            room = known.room(now)
            if room > 0 and not known.returning and not self._suspect(known, now):
                if known.failures:  # one client tries it; the others need not wait for the answer
                    room = 1 if known.claim is None else 0
                yield known, room
        # The directory sees no free seat. It may be behind, or not there at all: the lobbies are asked themselves.
        for known in asked:
            if not known.failures and not known.returning:
                if known.claim is None:
                    yield known, len(self)
                elif known.room(now) < 0:
                    return  # this very question is under way
        for known in asked:
            if self._suspect(known, now) and known.claim is None:
                yield known, 1

    def _suspect(self, known: _Known, now: float) -> bool:
        return known.failures > 0 and now - known.failed_at < self.times.suspect_max

    def _claim(self, known: _Known, seats: int, now: float) -> Claim:
        self._number += 1
        claim = known.claim = Claim(self._number, known.id, seats, now + self.times.claim)
        self._claimed += seats
        return claim

    def _settle(self, known: _Known) -> None:
        if known.claim is not None:
            self._claimed -= known.claim.seats
            known.claim = None

    def _failed(self, known: _Known, now: float) -> None:
        self._settle(known)
        known.returning = False
        pause = min(self.times.suspect_min * 2**known.failures, self.times.suspect_max)
        known.failures += 1
        known.failed_at = now
        known.skip_until = now + pause
