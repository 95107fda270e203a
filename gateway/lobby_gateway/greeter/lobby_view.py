"""What a greeter knows of one lobby: what the directory says, and over it what came of asking."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

NEVER = float("inf")
_MOST_DOUBLINGS = 16  # beyond that every pause is the longest anyway, and the number would grow without end


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


class ClaimRefusal(Enum):
    """Why a lobby granted less than was claimed."""

    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatQueueTimes:
    """How long things are believed, in seconds.

    Attributes:
        claim: a claim without an answer for so long counts as failed; covers opening the trunk.
        full: a lobby that said it is full is not asked again for so long, unless there are news of it.
        draining: the same for one that drains; by then it has left the directory.
        suspect_min: the same for one that failed; doubled with each failure in a row.
        suspect_max: the most of that. A lobby that failed comes after all others for so long after it failed.
        ticket: a redirected client that is not seen in the directory counts for so long.
        lost: the least that a client whose lobby is gone waits for a new seat.
        move_interval: a draining lobby's clients start to move in batches at least this far apart. Those of a batch share
            one claim and one RESUME, and 512 clients that move within 10 s cost 100 of them instead of 512.
    """

    claim: float = 1.0
    full: float = 1.0
    draining: float = 10.0
    suspect_min: float = 1.0
    suspect_max: float = 15.0
    ticket: float = 10.0
    lost: float = 30.0
    move_interval: float = 0.1


@dataclass(frozen=True, slots=True)
class SeatClaim:
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


class LobbyView:
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
        self.claim: SeatClaim | None = None
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

    def suspect(self, now: float, times: SeatQueueTimes) -> bool:
        """It failed lately, and has not answered since."""
        return self.failures > 0 and now - self.failed_at < times.suspect_max

    def learn(self, clients: int, seats: int) -> None:
        """Takes news of its seats."""
        for _ in range(min(len(self.tickets), clients - self.clients)):
            self.tickets.popleft()  # they arrived
        if clients < seats:
            self.full_until = -NEVER
        self.clients, self.seats = clients, seats
        self.own_then = self.own

    def answered(self, refusal: ClaimRefusal | None, now: float, times: SeatQueueTimes) -> None:
        """It answered a claim: what was held against it is over."""
        self.failures = 0
        self.skip_until = self.full_until = -NEVER
        self.returning = False
        if refusal is ClaimRefusal.FULL:
            self.full_until = now + times.full
        elif refusal is ClaimRefusal.DRAINING:
            self.skip_until = now + times.draining

    def failed(self, now: float, times: SeatQueueTimes) -> None:
        """It did not answer, or can't be reached."""
        self.returning = False
        doublings = min(self.failures, _MOST_DOUBLINGS)
        self.skip_until = now + min(times.suspect_min * 2**doublings, times.suspect_max)
        self.failures += 1
        self.failed_at = now

    @property
    def idle(self) -> bool:
        """Nothing is to be remembered of it once the directory has dropped it."""
        return self.own == 0 and self.claim is None
