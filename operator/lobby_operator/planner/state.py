"""What was observed of a Lobby, as frozen dataclasses.

`LobbyReading` is what a runtime (child processes, pods) knows at one moment. `tracker.observe_fold` folds raw readings into
`Observed`, which also knows since when things are as they are. Only `Observed` is planned from; it is lost when the
operator ends, and then all clocks start anew, which delays but does not harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from lobby_gateway.process.reports import GreeterReport, LobbyReport, OriginReport
from lobby_operator.planner.stabilization_window import Window

R = TypeVar("R", LobbyReport, GreeterReport)


class Phase(StrEnum):
    """Where in its life a lobby is, as the operator sees it."""

    STARTING = "Starting"  # has not answered yet
    READY = "Ready"  # answers and takes clients
    UNRESPONSIVE = "Silent"  # does not answer; takes no new clients
    RECOVERING = "Settling"  # answers again after a silence; takes clients when it goes on to do so
    DRAINING = "Draining"  # takes no clients, its own go elsewhere
    ENDING = "Ending"  # was told to end
    ENDED = "Ended"  # its process is over, its remains (a finished pod) are still there


@dataclass(frozen=True, slots=True)
class PollResult(Generic[R]):
    """What polling a lobby or a greeter has shown.

    Attributes:
        report: its latest report; None before the first.
        at: when that arrived.
        unresponsive_since: when the first poll started that has failed since then; None if the latest succeeded.
        problem: why the latest poll failed, for people.
    """

    report: R | None = None
    at: float = 0.0
    unresponsive_since: float | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for the admin port."""
        report = self.report.to_json() if self.report is not None else None
        return {"report": report, "answers": self.unresponsive_since is None, "problem": self.problem}


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyReading:
    """A lobby at one moment, as its runtime knows it. That it is listed means that it exists.

    Attributes:
        name: `<lobby>-<n>`.
        created_at: when it was created, in seconds of the same clock as `now`.
        address: `ip:port` for trunks and clients; empty until it is known.
        report: its latest answer on `/seats`, also while it is silent; None: it never gave one.
        silent_since: since when it does not answer; None: it does, or was not asked yet.
        alive: what the platform says of a lobby that does not answer us (the readiness that a kubelet found). True: the
            fault is on our side, the latest report is believed. False or None (nobody says): the lobby is silent.
        was_up: it had started, says the platform, before this process knew it. One that never answered us starts no more then.
        draining: it is marked as draining, whatever it says itself; lasts over a restart of the operator.
        ending: it was told to end.
        ended: its process is over. A runtime whose lobbies disappear when they end never says so, and need not.
        expected: not observed but expected, or not yet observed as it is expected to be; see `expectations.py`.
        revision: what it was made from; empty where nobody compares (local mode).
    """

    name: str
    created_at: float
    address: str = ""
    report: LobbyReport | None = None
    unresponsive_since: float | None = None
    alive: bool | None = None
    was_up: bool = False
    draining: bool = False
    ending: bool = False
    ended: bool = False
    expected: bool = False
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyState:
    """A lobby, and since when it is as it is. Times are seconds of the monotonic clock.

    Attributes:
        name: `<lobby>-<n>`.
        index: the n; grows with each lobby that is created while others exist.
        phase: see `Phase`.
        created_at: when it was created.
        address: `ip:port` for trunks and clients.
        seats: that it says it has; those of the spec until it says something.
        clients: seats taken; of a silent lobby, as it said last.
        origin: its origin connection; None until it says something.
        ready_at: its first answer (of one that was up before us: when it was created); None: it never gave one.
        silent_since: since when it does not answer; None: it does, or never did and has time left.
        settled_at: when it takes, or took, clients again after its latest silence.
        unheard_since: since when it does not answer, though the platform says that it serves; how full it is is what it
            said last. None: it answers, or is silent.
        silences: how many there were, each soon after the one before.
        empty_since: since when it has no client; None: it has, or does not answer.
        draining_since: since when it drains.
        refusing: it said itself that it drains: it certainly takes no client any more.
        told_to_end: it was told to end; of an ended one nothing remains to be done.
        expected: not, or not so, observed: own actions that do not show yet. No more are taken until they do.
        outdated: it was made from something else than a lobby that is made now.
    """

    name: str
    index: int
    phase: Phase
    created_at: float
    address: str = ""
    seats: int = 0
    clients: int = 0
    origin: OriginReport | None = None
    ready_at: float | None = None
    unresponsive_since: float | None = None
    recovered_at: float | None = None
    unheard_since: float | None = None
    silences: int = 0
    empty_since: float | None = None
    draining_since: float | None = None
    refusing: bool = False
    told_to_end: bool = False
    expected: bool = False
    outdated: bool = False

    @property
    def free(self) -> int:
        """Seats that are not taken. Seats may have been lowered below what is taken."""
        return max(0, self.seats - self.clients)


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed starts in a row.

    Attributes:
        count: how many; 0 as soon as a lobby that started after them lasts.
        last_at: when the last one was noticed.
    """

    count: int = 0
    last_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that is known of a Lobby's lobbies.

    Attributes:
        lobbies: in order of their index.
        waiting: clients that greeters hold without a seat anywhere. One that still has its seat in a draining lobby is not
            among them.
        at: when this was observed.
        generation: of the spec that it was folded with.
        revision: likewise.
        complete: every lobby was asked at least once. Before that nothing is decided.
        failures: failed starts.
        surplus: how many empty lobbies were not needed, lately.
        sparse: how many lobbies could have been spared by moving their clients, lately; empty ones included.
    """

    lobbies: tuple[LobbyState, ...] = ()
    waiting: int = 0
    at: float = 0.0
    generation: int = 0
    revision: str = ""
    complete: bool = True
    failures: Failures = field(default_factory=Failures)
    surplus: Window = ()
    sparse: Window = ()

    def in_phase(self, *phases: Phase) -> list[LobbyState]:
        """The lobbies in any of these phases, in order."""
        return [lobby for lobby in self.lobbies if lobby.phase in phases]


def lobby_name(lobby: str, index: int) -> str:
    """Name of the n-th lobby of a Lobby."""
    return f"{lobby}-{index}"


def lobby_index(name: str) -> int:
    """The n of a lobby's name; 0 for a name that is none of ours."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
