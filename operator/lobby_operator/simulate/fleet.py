"""The lobbies of a simulation, and their clients: groups of clients with the same past, so that a million are a few thousand.

Every client's moves are counted exactly: clients of a lobby that were moved equally often, and last at the same moment, are
one group, and whoever leaves or is moved is drawn from the groups at random.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple


class Past(NamedTuple):
    """How often clients were moved, and when they were last; None: never."""

    moves: int = 0
    moved_at: float | None = None


Group = tuple[Past, int]
"""A number of clients with the same past."""

NEW, NEVER = Past(), float("-inf")


@dataclass(eq=False, slots=True)
class SimulatedLobby:
    """A lobby as it really is.

    Attributes:
        name: its name.
        created_at: when it was created.
        answers_at: when it has started.
        seats: its seats.
        revision: its revision.
        groups: its clients.
        clients: number of them.
        draining: it takes no more clients.
        lost: it is on a node that is lost.
        gone: its process has ended.
        origin_back_at: when it has its origin connection again.
        preconnected_at: when it was last asked to connect to its origin without a client.
        place: its place among the open lobbies.
    """

    name: str
    created_at: float
    answers_at: float
    seats: int
    revision: str
    groups: Counter[Past] = field(default_factory=Counter)
    clients: int = 0
    draining: bool = False
    lost: bool = False
    gone: bool = False
    origin_back_at: float = 0.0
    preconnected_at: float = NEVER
    place: int = 0

    def free(self, now: float) -> int:
        """Seats that it grants now."""
        if self.draining or self.lost or self.gone or self.answers_at > now:
            return 0
        return max(0, self.seats - self.clients)

    def add(self, past: Past, count: int) -> None:
        """Seats clients."""
        self.groups[past] += count
        self.clients += count

    def take(self, count: int, rng: random.Random) -> list[Group]:
        """Removes clients, drawn at random; at most all."""
        count = min(count, self.clients)
        taken = [(past, drawn) for past, drawn in draw(self.groups, count, rng).items() if drawn]
        for past, drawn in taken:
            self.groups[past] -= drawn
            if not self.groups[past]:
                del self.groups[past]
        self.clients -= count
        return taken


def draw(groups: Counter[Past], count: int, rng: random.Random) -> Counter[Past]:
    """How many of each group are among `count` clients that are drawn at random, without replacement."""
    if count == groups.total():
        return Counter(groups)
    if len(groups) == 1:
        return Counter(dict.fromkeys(groups, count))
    pasts, left = list(groups), Counter(groups)
    drawn: Counter[Past] = Counter()
    for _ in range(count):
        (past,) = rng.choices(pasts, [left[each] for each in pasts])
        left[past] -= 1
        drawn[past] += 1
    return drawn


def spread(lobbies: list[SimulatedLobby], count: int, rng: random.Random) -> list[tuple[SimulatedLobby, int]]:
    """How many of `count` clients that leave are in each lobby: every client is as likely as any other."""
    left = min(count, sum(lobby.clients for lobby in lobbies))
    leaving: Counter[int] = Counter()
    while left:
        rest = [lobby.clients - leaving[place] for place, lobby in enumerate(lobbies)]
        for place in rng.choices(range(len(lobbies)), cum_weights=list(accumulate(rest)), k=left):
            if leaving[place] < lobbies[place].clients:  # else it is drawn again
                leaving[place] += 1
                left -= 1
    return [(lobbies[place], number) for place, number in leaving.items()]
