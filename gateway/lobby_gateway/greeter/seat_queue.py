"""Which open lobby next, for whom, and when to give up: the greeter's side of seats, for one Lobby.

The directory (Lobby.status) says which lobbies are open and in which order to try them; it is always a little old. Laid
over it is what this greeter knows itself: the seats it holds, the claims that are under way, the tickets it handed out,
and the lobbies that refused or did not answer. The lobby itself is the authority: what is reckoned here decides only where
to ask first, and a wrong guess costs one more question.

Claims are for numbers of seats, not for clients: who gets a seat is decided when it is granted, first come first served.
So a client that leaves meanwhile costs nothing but a seat given back, and k clients cost one claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import Generic, TypeVar

from lobby_gateway.greeter.lobby_view import (
    NEVER,
    ClaimRefusal,
    LobbyId,
    LobbyView,
    OpenLobby,
    SeatClaim,
    SeatQueueTimes,
)

C = TypeVar("C")


class Rank(IntEnum):
    """Who is seated first; first come first served within a rank."""

    LOST = 0  # was in, and its lobby is gone
    MOVING = 1  # is in a lobby that drains, and still served there
    NEW = 2


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


class MoveSchedule(Generic[C]):
    """Spreads the moves of a draining lobby's clients evenly over the time that the lobby gives them.

    The first client is due at once. After each one, the time left is divided among those that remain: clients that join or
    leave meanwhile change the pace, not the end.

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
        """Adds a client behind all others."""
        self._waiters[waiter] = None
        self._next_at = min(self._next_at, self._next_after(now))

    def discard(self, waiter: Waiter[C]) -> None:
        """Removes a client if it is not due yet."""
        self._waiters.pop(waiter, None)

    def shorten(self, move_by: float, now: float) -> None:
        """Takes another end if it is an earlier one."""
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
    """Who got the seats that a lobby granted.

    Attributes:
        clients: in the order in which they waited.
        surplus: seats to give back: those for whom they were claimed are gone.
    """

    clients: tuple[C, ...]
    surplus: int


class SeatQueue(Generic[C]):
    """The queue of one Lobby's clients that need a seat, and the lobbies that may have one.

    Every method that changes something may change what `claims` and `wake_at` say next.

    Attributes:
        wait_seconds: how long a new client is held, but at least until a lobby can have answered; may be changed at any
            time, for those who come later.
        times: see `SeatQueueTimes`.
    """

    def __init__(self, *, wait_seconds: float, times: SeatQueueTimes | None = None) -> None:
        self.wait_seconds = wait_seconds
        self.times = times or SeatQueueTimes()
        self._known: dict[LobbyId, LobbyView] = {}
        self._order: list[LobbyView] = []
        # Dictionaries as ordered sets: whoever leaves the middle of the queue does so in constant time.
        self._queues: dict[Rank, dict[Waiter[C], None]] = {rank: {} for rank in Rank}
        self._last_deadline = dict.fromkeys(Rank, 0.0)
        self._schedules: dict[LobbyId, MoveSchedule[C]] = {}
        self._claimed = 0
        self._number = 0

    # The queue

    def __len__(self) -> int:
        """Clients that need a seat now, moving ones included."""
        return sum(map(len, self._queues.values()))

    @property
    def unseated(self) -> int:
        """Clients without any seat: the new and the lost."""
        return len(self._queues[Rank.LOST]) + len(self._queues[Rank.NEW])

    @property
    def scheduled(self) -> int:
        """Clients of draining lobbies whose turn to move has not come yet."""
        return sum(map(len, self._schedules.values()))

    @property
    def displaced(self) -> bool:
        """Clients wait that were in: lost or moving ones."""
        return bool(self._queues[Rank.LOST] or self._queues[Rank.MOVING])

    def wait(self, client: C, rank: Rank, now: float, *, leaving: LobbyId | None = None) -> Waiter[C]:
        """Puts a client at the end of the queue of its rank.

        One that moves has no deadline: it is still served where it is. If its lobby drains over some time, it enters the
        queue when its turn comes (`start_moves`).
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
        """Takes a client out of the queue; nothing happens if it is not in it any more."""
        self._queues[waiter.rank].pop(waiter, None)
        if waiter.leaving in self._schedules:
            self._schedules[waiter.leaving].discard(waiter)

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
        for lobby in list(self._schedules):
            self._end_schedule(lobby)
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
        self._schedules = {key: each for key, each in self._schedules.items() if len(each) or key in self._known}

    def observed(self, lobby: LobbyId, seats: int, free: int) -> None:
        """A lobby said itself how many seats it has and would grant now: newer than what the directory says."""
        self._lobby(lobby).learn(max(0, seats - free), seats)

    def held(self, lobby: LobbyId) -> int:
        """Seats held in a lobby."""
        known = self._known.get(lobby)
        return known.own if known is not None else 0

    def claims(self, now: float) -> list[SeatClaim]:
        """Claims to be sent now: at most one under way per lobby, never more seats than clients that wait."""
        for known in self._known.values():
            if known.claim is not None and known.claim.deadline <= now:
                self._failed(known, now)
        wanted = len(self) - self._claimed
        claims: list[SeatClaim] = []
        if wanted > 0:
            for known, room in self._offers(now):
                seats = min(wanted, room)
                if known.claim is None:
                    claims.append(self._claim(known, seats, now))
                wanted -= seats  # where a claim is under way, the next one waits for its answer
                if wanted <= 0:
                    break
        return claims

    def granted(self, lobby: LobbyId, number: int, seats: int, refusal: ClaimRefusal | None, now: float) -> Seated[C]:
        """A lobby's answer to a claim, also a late one: says who gets the seats."""
        known = self._lobby(lobby)
        if known.claim is not None and known.claim.number == number:
            if seats < known.claim.seats and refusal is None:
                refusal = ClaimRefusal.FULL
            self._settle(known)
        known.answered(refusal, now, self.times)
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

    def draining(self, lobby: LobbyId, now: float, move_by: float) -> None:
        """A lobby asks its clients to move: it is not asked for seats. Those held there stay held until released.

        Args:
            lobby: which one.
            now: seconds.
            move_by: its clients start to move one after the other until then. Of several times, the earliest counts.
        """
        self._lobby(lobby).skip_until = now + self.times.draining
        schedule = self._schedules.get(lobby)
        if schedule is None:
            self._schedules[lobby] = MoveSchedule(move_by, self.times.move_interval)
        else:
            schedule.shorten(move_by, now)

    def failed(self, lobby: LobbyId, now: float, *, come_back: bool = False) -> None:
        """A lobby fell silent, can't be reached, or its trunk ended: its seats and claims are void.

        Args:
            lobby: which one.
            now: seconds.
            come_back: it answered until a moment ago; ask it first, once, for those who were there.
        """
        known = self._lobby(lobby)
        known.own = known.own_then = 0
        self._end_schedule(lobby)
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
        """When to call `start_moves`, `expired`, and `claims` or `tickets`, if nothing happens before; None: not at all."""
        at = NEVER
        for queue in self._queues.values():
            for waiter in queue:
                at = min(at, waiter.deadline)
                break
        for schedule in self._schedules.values():
            at = min(at, schedule.wake_at())
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

    def _end_schedule(self, lobby: LobbyId) -> None:
        schedule = self._schedules.pop(lobby, None)
        if schedule is not None:
            self._queues[Rank.MOVING].update(dict.fromkeys(schedule.end()))

    def _lobby(self, lobby: LobbyId) -> LobbyView:
        known = self._known.get(lobby)
        if known is None:
            known = self._known[lobby] = LobbyView(lobby)
        return known

    def _news(self, known: LobbyView, lobby: OpenLobby) -> None:
        if known.news == lobby:
            return  # said before; what was learned since is newer
        known.news = lobby
        known.learn(lobby.clients, lobby.seats)

    def _offers(self, now: float) -> Iterator[tuple[LobbyView, int]]:
        """Lobbies to ask, best first, with how many seats; where a claim is under way, how many more may come of it."""
        asked = [known for known in self._order if known.may_be_asked(now)]
        for known in asked:
            if known.returning and known.claim is None:
                yield known, max(1, len(self._queues[Rank.LOST]))
        for known in asked:
            room = known.room(now)
            if room > 0 and not known.returning and not known.suspect(now, self.times):
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
            if known.suspect(now, self.times) and known.claim is None:
                yield known, 1

    def _claim(self, known: LobbyView, seats: int, now: float) -> SeatClaim:
        self._number += 1
        claim = known.claim = SeatClaim(self._number, known.id, seats, now + self.times.claim)
        self._claimed += seats
        return claim

    def _settle(self, known: LobbyView) -> None:
        if known.claim is not None:
            self._claimed -= known.claim.seats
            known.claim = None

    def _failed(self, known: LobbyView, now: float) -> None:
        self._settle(known)
        known.failed(now, self.times)
