"""What a simulation counts, and the report of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from lobby_operator.simulate.fleet import Past


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment.

    Attributes:
        at: seconds from the start.
        clients: clients with a seat.
        waiting: clients that wait for one.
        lobbies: lobbies that exist, in any phase.
        needed: fewest lobbies that have seats for all clients and the spare seats.
        moves: moves so far.
        refusals: refusals so far.
    """

    at: float
    clients: int
    waiting: int
    lobbies: int
    needed: int
    moves: int
    refusals: int


@dataclass(slots=True)
class Tally:
    """Counts while a simulation runs.

    Attributes:
        joined: clients that there have been.
        refusals: clients refused with 503 because they waited for `waitSeconds`, each time.
        closed: clients closed because their lobby was gone and they got no other seat in time.
        created: lobbies created.
        removed: lobbies that have ended.
        moves: moves by cause: `compaction`, `rollout`, `lost`.
        left: how often the clients that are gone had been moved.
        shortest_stay: fewest seconds between two moves of one client; None if none was moved twice.
        shortest_compaction_stay: the same, where the second move was a compaction.
        waits: how many clients had waited for how many seconds (rounded to a tenth) when they got their first seat.
        samples: the state over time.
        lobby_seconds: seconds that lobbies existed, added up.
        needed_seconds: the same of the lobbies that were needed.
    """

    joined: int = 0
    refusals: int = 0
    closed: int = 0
    created: int = 0
    removed: int = 0
    moves: Counter[str] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)
    shortest_stay: float | None = None
    shortest_compaction_stay: float | None = None
    waits: Counter[float] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    lobby_seconds: float = 0.0
    needed_seconds: float = 0.0

    def moved(self, past: Past, count: int, cause: str, now: float) -> Past:
        """Counts a move; returns the new past of these clients."""
        self.moves[cause] += count
        if past.moved_at is not None:
            stay = now - past.moved_at
            self.shortest_stay = min(stay, self.shortest_stay if self.shortest_stay is not None else stay)
            if cause == COMPACTION:
                before = self.shortest_compaction_stay
                self.shortest_compaction_stay = min(stay, before if before is not None else stay)
        return Past(past.moves + 1, now)


COMPACTION, ROLLOUT, LOST = "compaction", "rollout", "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a simulation; `to_json` is what `lobby simulate --json` prints.

    Attributes:
        scenario: its name.
        clients: number of clients asked for.
        seed: the seed.
        seconds: simulated seconds.
        joined: clients that there have been.
        lobbies_most: most lobbies at a time.
        lobbies_needed_most: most lobbies that were needed at a time.
        lobbies_used_over_needed: lobbies over the whole time, divided by those that were needed.
        refusals: answers with 503.
        closed: clients closed because their lobby was gone and they got no other seat in time.
        waited: clients that had to wait for their first seat.
        wait_seconds: how long those waited: p50, p99 and max; None if none did.
        moves: moves, by cause.
        moves_per_client: moves divided by clients that there have been.
        clients_by_moves: number of clients that were moved so often.
        shortest_seconds_between_moves: of one client; None if none was moved twice.
        shortest_seconds_before_compaction: from any move of a client to one by compaction; None if that never happened.
        created: lobbies created.
        removed: lobbies that have ended.
        samples: the state over time.
    """

    scenario: str
    clients: int
    seed: int
    seconds: float
    joined: int
    lobbies_most: int
    lobbies_needed_most: int
    lobbies_used_over_needed: float
    refusals: int
    closed: int
    waited: int
    wait_seconds: dict[str, float] | None
    moves: dict[str, int]
    moves_per_client: float
    clients_by_moves: dict[int, int]
    shortest_seconds_between_moves: float | None
    shortest_seconds_before_compaction: float | None
    created: int
    removed: int
    samples: tuple[Sample, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON types."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Title and value of each line for people."""
        waits = self.wait_seconds
        shortest = self.shortest_seconds_between_moves
        by_moves = ", ".join(f"{count:,} {_times(moves)}" for moves, count in self.clients_by_moves.items())
        causes = ", ".join(f"{count:,} by {_CAUSES[cause]}" for cause, count in self.moves.items())
        over = f"{self.lobbies_used_over_needed:.2f} times as many as needed"
        return [
            ("clients", f"{self.joined:,} in {self.seconds:,.0f} simulated seconds"),
            (
                "lobbies",
                f"{self.lobbies_most:,} at most, {self.lobbies_needed_most:,} needed at most; over the whole time {over}",
            ),
            ("churn", f"{self.created:,} lobbies created, {self.removed:,} removed"),
            ("refusals", f"{self.refusals:,} (503), {self.closed:,} clients closed"),
            (
                "waits",
                f"{self.waited:,} clients"
                + (f": p50 {waits['p50']:g} s, p99 {waits['p99']:g} s, max {waits['max']:g} s" if waits else ""),
            ),
            ("moves", f"{self.moves_per_client:.3f} per client" + (f": {causes}" if causes else "")),
            ("", f"clients moved: {by_moves}"),
            *([("", f"shortest time between two moves of a client: {shortest:.1f} s")] if shortest is not None else []),
        ]


_CAUSES = {COMPACTION: "compaction", ROLLOUT: "rollout", LOST: "loss of their lobby"}


def _times(moves: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(moves, f"{moves} times")


def quantiles(counts: Counter[float]) -> dict[str, float] | None:
    """p50, p99 and max of values that are counted; None if there are none."""
    total = counts.total()
    if not total:
        return None
    result, seen = {}, 0
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    for value in sorted(counts):
        seen += counts[value]
        for name, share in shares.items():
            if name not in result and seen >= share * total:
                result[name] = value
    return result
