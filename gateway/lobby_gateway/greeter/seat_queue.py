"""Which lobby to ask next, for whom, and when to give up: the greeter's side of seats, for one Lobby.

The directory (Lobby.status) says which lobbies are open and in which order to try them, but it always lags a little. On top of
it comes what this greeter knows itself: the seats it holds (`SeatLedger`), its claims, the tickets it issued, and the lobbies
that refused or did not answer. The lobby is the authority: all of this only decides where to ask first, and a wrong guess
costs one more claim.

Claims are for numbers of seats, not for clients: who gets a seat is decided when it is granted, first come, first served. A
client that leaves meanwhile costs no more than a seat to return, and k clients cost one claim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from lobby_gateway.process.backoff import ceiling
from lobby_gateway.settings import SeatQueueSettings
from lobby_gateway.trunk.consumer import SeatLedger

NEVER = float("inf")
_DEFAULT_SETTINGS = SeatQueueSettings()

C = TypeVar("C")


# Lobbies


class LobbyId(NamedTuple):
    """One running lobby. A lobby that replaces another may reuse its name, but has another address.

    Attributes:
        name: unique among the lobbies of its Lobby.
        address: `host:port` of its client port.
    """

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class OpenLobby:
    """A lobby that takes new clients, as listed in the directory.

    Attributes:
        id: name and address.
        clients: seats taken, as last observed.
        seats: number of seats.
    """

    id: LobbyId
    clients: int
    seats: int


class ClaimRefusal(Enum):
    """Why a lobby granted fewer seats than claimed."""

    FULL = "full"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class SeatClaim:
    """Seats to claim from a lobby.

    Attributes:
        lobby: the lobby.
        seats: how many.
        deadline: when the claim has failed if there is no answer.
    """

    lobby: LobbyId
    seats: int
    deadline: float


class LobbyView:
    """What a greeter believes about one lobby: the directory's news, corrected by the lobby's own answers.

    The seats that the greeter holds there are not part of it: they are in the trunk's `SeatLedger` and passed as `held`.
    """

    __slots__ = (
        "claim", "clients", "failed_at", "failures", "full_until", "held_then", "id", "listed", "news", "returning", "seats",
        "settings", "skip_until", "tickets",
    )  # fmt: skip

    def __init__(self, lobby: LobbyId, settings: SeatQueueSettings) -> None:
        self.id = lobby
        self.settings = settings
        self.listed = False
        self.clients = 0
        self.seats = 0
        self.news: OpenLobby | None = None  # the directory's latest
        self.held_then = 0  # seats held when `clients` was learned
        self.claim: SeatClaim | None = None  # the latest one, until it is answered or has failed
        self.tickets: deque[float] = deque()  # when each one issued stops counting, oldest first
        self.full_until = -NEVER
        self.skip_until = -NEVER
        self.failures = 0  # in a row
        self.failed_at = -NEVER
        # Its trunk broke a moment ago: it is asked first, since clients can continue exactly only there.
        self.returning = False

    def room(self, now: float, held: int) -> int:
        """Free seats as far as known, without those that claims and tickets are for."""
        while self.tickets and self.tickets[0] <= now:
            self.tickets.popleft()
        taken = max(self.clients + held - self.held_then, held)
        return self.seats - taken - len(self.tickets) - (self.claim.seats if self.claim is not None else 0)

    def available(self, now: float) -> bool:
        """It has not refused or failed recently."""
        return self.skip_until <= now and self.full_until <= now

    def suspect(self, now: float) -> bool:
        """It failed recently and has not answered since."""
        return self.failures > 0 and now - self.failed_at < self.settings.max_failed_seconds

    def learn(self, clients: int, seats: int, held: int) -> None:
        """Takes news of its seats."""
        for _ in range(min(len(self.tickets), clients - self.clients)):
            self.tickets.popleft()  # those clients have arrived
        if clients < seats:
            self.full_until = -NEVER
        self.clients, self.seats = clients, seats
        self.held_then = held

    def answered(self, refusal: ClaimRefusal | None, now: float) -> None:
        """It answered a claim, so earlier failures and refusals no longer count."""
        self.failures = 0
        self.skip_until = self.full_until = -NEVER
        self.returning = False
        if refusal is ClaimRefusal.FULL:
            self.full_until = now + self.settings.full_seconds
        elif refusal is ClaimRefusal.DRAINING:
            self.skip_until = now + self.settings.draining_seconds

    def failed(self, now: float) -> None:
        """It did not answer, or cannot be reached."""
        settings = self.settings
        self.claim = None
        self.returning = False
        self.skip_until = now + ceiling(settings.min_failed_seconds, settings.max_failed_seconds, self.failures)
        self.failures += 1
        self.failed_at = now


# Clients


class Rank(IntEnum):
    """The order in which clients get seats; first come, first served within a rank."""

    LOST = 0  # had a seat in a lobby that is gone
    MOVING = 1  # has a seat in a draining lobby, and is still served there
    NEW = 2


class Waiter(Generic[C]):
    """A client's place in the queue.

    Attributes:
        client: the client.
        rank: see `Rank`.
        deadline: when the client is given up.
        leaving: the lobby that it leaves, and where it gets no seat again.
    """

    __slots__ = ("client", "deadline", "leaving", "rank")

    def __init__(self, client: C, rank: Rank, deadline: float, leaving: LobbyId | None) -> None:
        self.client = client
        self.rank = rank
        self.deadline = deadline
        self.leaving = leaving


class MoveSchedule(Generic[C]):
    """Spreads the moves of a draining lobby's clients evenly over the time that the lobby allows.

    The first client is due at once. After each one, the remaining time is divided among the remaining clients: clients that
    join or leave meanwhile change the pace, but not the end.

    Attributes:
        move_by: when the last client is due at the latest.
    """

    __slots__ = ("_interval", "_next_at", "_pause_until", "_waiters", "move_by")

    def __init__(self, move_by: float, interval: float) -> None:
        self.move_by = move_by
        self._interval = interval
        self._waiters: dict[Waiter[C], None] = {}
        self._next_at = -NEVER  # when the next client is due
        self._pause_until = -NEVER

    def __len__(self) -> int:
        """Clients that are not due yet."""
        return len(self._waiters)

    def add(self, waiter: Waiter[C], now: float) -> None:
        """Adds a client after all others."""
        self._waiters[waiter] = None
        self._next_at = min(self._next_at, self._next_after(now))

    def discard(self, waiter: Waiter[C]) -> None:
        """Removes a client if it is not due yet."""
        self._waiters.pop(waiter, None)

    def shorten(self, move_by: float, now: float) -> None:
        """Changes the end to an earlier time; ignores a later one."""
        self.move_by = min(self.move_by, max(now, move_by))
        self._next_at = min(self._next_at, self._next_after(now))

    def due(self, now: float) -> list[Waiter[C]]:
        """Removes and returns the clients whose turn has come."""
        due: list[Waiter[C]] = []
        while self._waiters and self._next_at <= now:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            due.append(waiter)
            self._next_at = self._next_after(self._next_at if self._next_at > -NEVER else now)
        if due:
            self._pause_until = now + self._interval
        return due

    def end(self) -> list[Waiter[C]]:
        """Removes and returns all clients."""
        waiters = list(self._waiters)
        self._waiters.clear()
        return waiters

    def wake_at(self) -> float:
        """When to call `due`."""
        return min(max(self._next_at, self._pause_until), self.move_by) if self._waiters else NEVER

    def _next_after(self, at: float) -> float:
        return at + (self.move_by - at) / (len(self._waiters) + 1)


@dataclass(frozen=True, slots=True)
class Seated(Generic[C]):
    """The clients that get the seats that a lobby granted.

    Attributes:
        clients: in the order in which they waited.
        surplus: seats to return, because the clients they were claimed for have left.
    """

    clients: tuple[C, ...]
    surplus: int


class SeatQueue(Generic[C]):
    """The queue of one Lobby's clients that need a seat, and the lobbies that may have one.

    Every method that changes something may change what `claims` and `wake_at` return next.

    Attributes:
        wait_seconds: how long a new client waits, but at least until a lobby can have answered. May be changed at any time;
            applies to clients that arrive later.
        settings: see `SeatQueueSettings`.
    """

    def __init__(
        self,
        ledger: Callable[[LobbyId], SeatLedger | None],
        *,
        wait_seconds: float,
        settings: SeatQueueSettings = _DEFAULT_SETTINGS,
    ) -> None:
        """Makes an empty queue.

        Args:
            ledger: gives the ledger of the trunk to a lobby, or None if there is no trunk.
            wait_seconds: see the attribute.
            settings: see `SeatQueueSettings`.
        """
        self.wait_seconds = wait_seconds
        self.settings = settings
        self._ledger = ledger
        self._views: dict[LobbyId, LobbyView] = {}
        self._order: list[LobbyView] = []
        # Dictionaries as ordered sets: leaving the middle of the queue takes constant time.
        self._queues: dict[Rank, dict[Waiter[C], None]] = {rank: {} for rank in Rank}
        self._last_deadline = dict.fromkeys(Rank, 0.0)
        self._schedules: dict[LobbyId, MoveSchedule[C]] = {}

    # The queue

    def __len__(self) -> int:
        """Clients that need a seat now, including moving ones."""
        return sum(map(len, self._queues.values()))

    @property
    def unseated(self) -> int:
        """Clients without any seat: new and lost ones."""
        return len(self._queues[Rank.LOST]) + len(self._queues[Rank.NEW])

    @property
    def lost(self) -> int:
        """Clients whose lobby is gone."""
        return len(self._queues[Rank.LOST])

    @property
    def scheduled(self) -> int:
        """Clients of draining lobbies whose turn to move has not come yet."""
        return sum(map(len, self._schedules.values()))

    @property
    def displaced(self) -> bool:
        """Whether lost or moving clients are waiting."""
        return bool(self._queues[Rank.LOST] or self._queues[Rank.MOVING])

    def wait(self, client: C, rank: Rank, now: float, *, leaving: LobbyId | None = None) -> Waiter[C]:
        """Puts a client at the end of the queue of its rank.

        A moving client has no deadline, since it is still served. If its lobby drains over some time, the client enters the
        queue when its turn comes (`start_moves`).
        """
        if rank is Rank.MOVING:
            deadline = NEVER
        else:
            settings = self.settings
            wait = (
                settings.lost_seconds(self.wait_seconds)
                if rank is Rank.LOST
                else max(self.wait_seconds, settings.claim_seconds)
            )
            # The queue stays sorted by deadline even if wait_seconds was shortened.
            earliest = self._last_deadline[rank] if self._queues[rank] else 0.0
            deadline = max(now + wait, earliest)
            self._last_deadline[rank] = deadline
        waiter = Waiter(client, rank, deadline, leaving)
        schedule = self._schedules.get(leaving) if leaving is not None else None
        if schedule is not None:
            schedule.add(waiter, now)
        else:
            self._queues[rank][waiter] = None
        return waiter

    def start_moves(self, now: float) -> list[Waiter[C]]:
        """Puts the clients whose turn to move has come into the queue, and returns them."""
        due = [waiter for schedule in self._schedules.values() for waiter in schedule.due(now)]
        self._queues[Rank.MOVING].update(dict.fromkeys(due))
        return due

    def leave(self, waiter: Waiter[C]) -> None:
        """Removes a client from the queue; does nothing if it is no longer in it."""
        self._queues[waiter.rank].pop(waiter, None)
        if waiter.leaving in self._schedules:
            self._schedules[waiter.leaving].discard(waiter)

    def expired(self, now: float) -> list[Waiter[C]]:
        """Removes and returns the clients that have waited as long as they may."""
        expired: list[Waiter[C]] = []
        for queue in self._queues.values():
            for waiter in queue:
                if waiter.deadline > now:
                    break
                expired.append(waiter)
        for waiter in expired:
            self.leave(waiter)
        return expired

    def clear(self) -> list[Waiter[C]]:
        """Removes and returns all clients."""
        for lobby in list(self._schedules):
            self._end_schedule(lobby)
        waiters = list(chain.from_iterable(self._queues.values()))
        for waiter in waiters:
            self.leave(waiter)
        return waiters

    # The lobbies

    def update(self, lobbies: Sequence[OpenLobby]) -> None:
        """Takes the directory's list, in the order in which to try the lobbies."""
        for view in self._order:
            view.listed = False
        self._order = []
        for lobby in lobbies:
            view = self._view(lobby.id)
            if not view.listed:  # a lobby that is listed twice counts once
                view.listed = True
                self._order.append(view)
                if view.news != lobby:  # otherwise what was learned since is newer
                    view.news = lobby
                    view.learn(lobby.clients, lobby.seats, self._held(lobby.id))
        self._views = {
            lobby: view
            for lobby, view in self._views.items()
            if view.listed or view.claim is not None or self._held(lobby)
        }
        self._schedules = {
            lobby: schedule for lobby, schedule in self._schedules.items() if len(schedule) or lobby in self._views
        }

    def observed(self, lobby: LobbyId, seats: int, free: int) -> None:
        """A lobby reported its seats itself, which is newer than what the directory says."""
        self._view(lobby).learn(max(0, seats - free), seats, self._held(lobby))

    def claims(self, now: float) -> list[SeatClaim]:
        """Claims to send now: at most one at a time per lobby, and never for more seats than clients are waiting."""
        for view in self._views.values():
            if view.claim is not None and view.claim.deadline <= now:
                view.failed(now)
        missing = len(self) - self._claimed
        claims: list[SeatClaim] = []
        if missing > 0:
            for view, room in self._offers(now):
                seats = min(missing, room)
                if view.claim is None:
                    view.claim = SeatClaim(view.id, seats, now + self.settings.claim_seconds)
                    claims.append(view.claim)
                missing -= seats  # if a claim is under way, the next one waits for its answer
                if missing <= 0:
                    break
        return claims

    def granted(self, lobby: LobbyId, seats: int, refusal: ClaimRefusal | None, now: float) -> Seated[C]:
        """A lobby answered a claim, perhaps late; returns who gets the seats. The answer is in the ledger already."""
        view, ledger = self._view(lobby), self._ledger(lobby)
        if view.claim is not None and (ledger is None or not ledger.claims):  # none is left, so it was the latest
            if seats < view.claim.seats and refusal is None:
                refusal = ClaimRefusal.FULL
            view.claim = None
        view.answered(refusal, now)
        seated: list[Waiter[C]] = []
        for waiter in chain.from_iterable(self._queues.values()):
            if len(seated) == seats:
                break
            if waiter.leaving != lobby:
                seated.append(waiter)
        for waiter in seated:
            self.leave(waiter)
        return Seated(tuple(waiter.client for waiter in seated), seats - len(seated))

    def released(self, lobby: LobbyId) -> None:
        """Seats were returned, so the lobby is not full."""
        self._view(lobby).full_until = -NEVER

    def draining(self, lobby: LobbyId, now: float, move_by: float) -> None:
        """A lobby asks for its clients to move, so it is not asked for seats.

        Args:
            lobby: the lobby.
            now: seconds.
            move_by: when its last client starts to move at the latest. If the lobby asks again, the earliest time counts.
        """
        self._view(lobby).skip_until = now + self.settings.draining_seconds
        schedule = self._schedules.get(lobby)
        if schedule is None:
            self._schedules[lobby] = MoveSchedule(move_by, self.settings.move_interval_seconds)
        else:
            schedule.shorten(move_by, now)

    def failed(self, lobby: LobbyId, now: float, *, come_back: bool = False) -> None:
        """A lobby does not respond or cannot be reached, or its trunk ended: its seats and claims are void.

        Args:
            lobby: the lobby.
            now: seconds.
            come_back: it responded until a moment ago; ask it first, once, for the clients that were there.
        """
        self._end_schedule(lobby)
        view = self._view(lobby)
        view.held_then = 0
        if come_back and not view.returning:
            view.claim = None
            view.returning = True
        else:
            view.failed(now)

    # Tickets, for redirected clients

    def tickets(self, now: float) -> list[tuple[C, LobbyId]]:
        """Removes the clients that can be redirected now from the queue; returns each with its lobby."""
        issued: list[tuple[C, LobbyId]] = []
        queue = self._queues[Rank.NEW]
        for view in self._order:
            if not view.available(now):
                continue
            for _ in range(min(self._room(view, now), len(queue))):
                waiter = next(iter(queue))
                del queue[waiter]
                view.tickets.append(now + self.settings.unseen_ticket_seconds)
                issued.append((waiter.client, view.id))
        return issued

    def wake_at(self, now: float) -> float | None:
        """When to call `start_moves`, `expired`, and `claims` or `tickets` if nothing happens before; None: never."""
        at = NEVER
        for queue in self._queues.values():
            for waiter in queue:
                at = min(at, waiter.deadline)
                break
        for schedule in self._schedules.values():
            at = min(at, schedule.wake_at())
        waiting = len(self) > self._claimed
        for view in self._views.values():
            if view.claim is not None:
                at = min(at, view.claim.deadline)
            elif waiting and view.listed:
                if not view.available(now):
                    at = min(at, max(view.skip_until, view.full_until))
                elif view.tickets:
                    at = min(at, view.tickets[0])
        return at if at < NEVER else None

    # Helpers

    @property
    def _claimed(self) -> int:
        """Seats whose claims are under way."""
        return sum(view.claim.seats for view in self._views.values() if view.claim is not None)

    def _held(self, lobby: LobbyId) -> int:
        ledger = self._ledger(lobby)
        return ledger.held if ledger is not None else 0

    def _room(self, view: LobbyView, now: float) -> int:
        return view.room(now, self._held(view.id))

    def _view(self, lobby: LobbyId) -> LobbyView:
        view = self._views.get(lobby)
        if view is None:
            view = self._views[lobby] = LobbyView(lobby, self.settings)
        return view

    def _end_schedule(self, lobby: LobbyId) -> None:
        schedule = self._schedules.pop(lobby, None)
        if schedule is not None:
            self._queues[Rank.MOVING].update(dict.fromkeys(schedule.end()))

    def _offers(self, now: float) -> Iterator[tuple[LobbyView, int]]:
        """Lobbies to ask, best first, with the number of seats to claim, or that a claim under way may still bring."""
        available = [view for view in self._order if view.available(now)]
        for view in available:
            if view.returning and view.claim is None:
                yield view, max(1, len(self._queues[Rank.LOST]))
        for view in available:
            room = self._room(view, now)
            if room > 0 and not view.returning and not view.suspect(now):
                if view.failures:  # one client tries it; the others need not wait for the answer
                    room = 1 if view.claim is None else 0
                yield view, room
        # The directory shows no free seat. It may lag, or be unavailable, so ask the lobbies themselves.
        for view in available:
            if not view.failures and not view.returning:
                if view.claim is None:
                    yield view, len(self)
                elif self._room(view, now) < 0:
                    return  # this very question is under way
        for view in available:
            if view.suspect(now) and view.claim is None:
                yield view, 1
