"""What is observed of a Lobby, as frozen dataclasses.

A `LobbyReading` is what a runtime (child processes, pods) knows about a lobby at one moment. `history.observe` combines
readings into `Observed`, which also says how long each state has lasted. The planner reads nothing else. `Observed` is lost
when the operator exits; then all timers start over, which delays decisions but does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginReport
from lobby_operator.planner.stabilization_window import Window

R = TypeVar("R", LobbyReport, GreeterReport)


class Phase(StrEnum):
    """The phase of a lobby's life, as the operator sees it."""

    STARTING = "Starting"  # has not answered yet, even if the platform already considers it healthy
    READY = "Ready"  # answers and takes clients
    UNRESPONSIVE = "Silent"  # does not answer; takes no new clients
    RECOVERING = "Settling"  # answers again; takes clients after it has done so for a while
    DRAINING = "Draining"  # takes no new clients; its clients move elsewhere
    ENDING = "Ending"  # its deletion was requested
    ENDED = "Ended"  # its process has ended; the finished pod still exists


class Hold(StrEnum):
    """What keeps the platform from starting a lobby's process, where another lobby would fare no better."""

    UNSCHEDULABLE = "Unschedulable"  # no node has room; the scheduler or an autoscaler finds one
    SECRET_MISSING = "SecretMissing"  # noqa: S105  # a Secret or one of its keys does not exist
    VOLUME_UNAVAILABLE = "VolumeUnavailable"  # another volume can't be mounted
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # it can't be pulled
    CONTAINER_NOT_CREATED = "ContainerNotCreated"  # its configuration is refused on the node
    IMAGE_PULL = "PullingImage"  # nothing is wrong; it takes a while


@dataclass(frozen=True, slots=True)
class Held:
    """Why a lobby does not start.

    Attributes:
        hold: what keeps it.
        problem: the same in one line for people.
        missing: names of Secrets and ConfigMaps that it waits for, if that is the reason.
    """

    hold: Hold
    problem: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PollResult(Generic[R]):
    """The outcome of polling a lobby or a greeter.

    Attributes:
        report: its latest report; None before the first.
        at: when that arrived.
        unresponsive_since: when the first of the latest failed polls started; None if the latest poll succeeded.
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
    """A lobby at one moment, as its runtime knows it. A lobby that is listed exists.

    Attributes:
        name: `<lobby>-<n>`.
        created_at: when it was created, on the same clock as `now`.
        address: `ip:port` for trunks and clients; empty until known.
        report: its latest answer on `/seats`, kept while it is unresponsive; None if it has never answered.
        unresponsive_since: when it stopped answering; None if it answers, or has not been polled yet.
        alive: whether the platform considers it healthy (the kubelet's readiness probe; in local mode, that it is busy) while
            it does not answer us. True: the latest report remains valid; without a report, it counts as starting. False, or
            None if unknown: it is unresponsive.
        was_up: it had already started, according to the platform, when this process first saw it. If it has never answered
            us, it was lost later; it is not starting.
        held: what keeps its process from being started; None: nothing that is known.
        running: its process was started, as far as the platform tells.
        draining: it is marked as draining, whatever it reports; the mark survives a restart of the operator.
        draining_since: when it was marked, on the same clock as `now`; None: not known.
        ending: its deletion was requested.
        ended: its process has ended. Never set by a runtime whose lobbies disappear when they end.
        expected: the lobby, or its state, is expected but not observed yet; see `reconcile/pending_actions.py`.
        revision: revision that it was created from; empty if it is not known yet.
    """

    name: str
    created_at: float
    address: str = ""
    report: LobbyReport | None = None
    unresponsive_since: float | None = None
    alive: bool | None = None
    was_up: bool = False
    held: Held | None = None
    running: bool = False
    draining: bool = False
    draining_since: float | None = None
    ending: bool = False
    ended: bool = False
    expected: bool = False
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Where a lobby's stream comes from, as it reports it (see `LobbyReport`).

    Attributes:
        flowing: whether messages can be expected.
        via: the lobbies that it comes over, the nearest first; empty: it comes from its own origin connection.
        relays: lobbies that take their stream from it.
        permit: whether it may connect to the origin, or is still connected.
        told: term and number of the latest list of peers that it was told.
        origin_id: equal for lobbies that get the same stream from their origin.
        connects: attempts to connect since its process started.
        recent_connects: those that its own `origin.limits.connects` still counts.
        wants_connect: it needs a permit for an attempt now or soon.
    """

    flowing: bool = False
    via: tuple[str, ...] = ()
    relays: int = 0
    permit: bool = True
    told: tuple[int, int] = (0, 0)
    origin_id: str = ""
    connects: int = 0
    recent_connects: int = 0
    wants_connect: bool = False

    @property
    def relayed(self) -> bool:
        """Whether it has a stream, over another lobby."""
        return self.flowing and bool(self.via)

    def is_of(self, report: LobbyReport) -> bool:
        """Whether it equals this part of a report, without making it: that is done for thousands of lobbies in a pass."""
        return (
            self.flowing == report.flowing
            and self.relays == report.relays
            and self.permit == report.permit
            and self.connects == report.connects
            and self.recent_connects == report.recent_connects
            and self.wants_connect == report.wants_connect
            and self.origin_id == report.origin_id
            and [*self.told] == report.told
            and [*self.via] == report.via
        )

    @classmethod
    def of(cls, report: LobbyReport) -> StreamState:
        """This part of a report."""
        term, number = report.told
        return cls(
            flowing=report.flowing,
            via=tuple(report.via),
            relays=report.relays,
            permit=report.permit,
            told=(term, number),
            origin_id=report.origin_id,
            connects=report.connects,
            recent_connects=report.recent_connects,
            wants_connect=report.wants_connect,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyState:
    """A lobby, and the times at which its state changed, in seconds of the monotonic clock.

    Attributes:
        name: `<lobby>-<n>`.
        index: the n; each lobby that is created while others exist gets a higher one.
        phase: see `Phase`.
        created_at: when it was created.
        starting_since: since when `startSeconds` have counted: when it was created, nothing held it any more, or its process
            was started, whichever was last. None while it is held.
        held: what keeps its process from being started.
        running: its process was started.
        address: `ip:port` for trunks and clients.
        seats: number of seats that it reports; before its first report, those of the spec.
        clients: seats taken; while it is unresponsive, as in its latest report.
        origin: its origin connection; None before its first report.
        stream: where its stream comes from, as in its latest report; None before its first.
        ready_at: when it first answered (or was created, if it was up before this process); None if it never has.
        unresponsive_since: when it stopped answering; None if it answers, or still has time for its first answer.
        recovered_at: when it takes, or took, clients again after its latest outage.
        unreachable_since: when it stopped answering us although the platform considers it healthy; its numbers are those
            of its latest report. None if it answers, or is unresponsive.
        unheard_since: since when the platform has considered it healthy although it has never answered us; None if it has
            answered, or is not healthy. It may be ready a moment before its first answer, be broken, or out of our reach.
        outages: number of outages in quick succession (`flap_seconds`).
        stream_lost_at: when it lost its origin connection; None if it has one, needs none, or has had none yet.
        preconnected: it keeps its origin connected without clients, as asked, for some time to come.
        empty_since: when it became empty; None if it has clients, or does not answer.
        draining_since: when it began to drain.
        drain_confirmed: its own report says that it drains, so it certainly takes no more clients.
        delete_requested: its deletion was requested; once it has ended, nothing is left to do.
        expected: the state after our own action, which is not observed yet.
        revision: revision that it was created from; empty where it is not known yet.
        outdated: that is another than the one of new lobbies.
    """

    name: str
    index: int
    phase: Phase
    created_at: float
    starting_since: float | None = None
    held: Held | None = None
    running: bool = False
    address: str = ""
    seats: int = 0
    clients: int = 0
    origin: OriginReport | None = None
    stream: StreamState | None = None
    ready_at: float | None = None
    unresponsive_since: float | None = None
    recovered_at: float | None = None
    unreachable_since: float | None = None
    unheard_since: float | None = None
    outages: int = 0
    stream_lost_at: float | None = None
    preconnected: bool = False
    empty_since: float | None = None
    draining_since: float | None = None
    drain_confirmed: bool = False
    delete_requested: bool = False
    expected: bool = False
    revision: str = ""
    outdated: bool = False

    @property
    def free(self) -> int:
        """Seats that are not taken; never negative, even if seats were lowered below the number of clients."""
        return max(0, self.seats - self.clients)


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed starts in a row.

    Attributes:
        count: number of them; 0 again once a lobby created after them has lasted.
        last_at: when the latest was noticed.
    """

    count: int = 0
    last_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything known about a Lobby's lobbies.

    Attributes:
        lobbies: in order of their index.
        waiting: clients that greeters hold without any seat. A client that still has its seat in a draining lobby does not
            count.
        lost: those of them that had a seat in a lobby that is gone.
        at: when this was observed.
        generation: generation of the spec at that time.
        revision: revision of new lobbies at that time.
        complete: every lobby has been polled at least once. Nothing is planned before.
        taken: the n of names that others have, so that no lobby can have them.
        heard_since: since when there has always been a lobby that answers, so that we are not cut off from all; None if
            none answers.
        failures: failed starts.
        moved_at: when clients were last on their way to another lobby because theirs drained or ended, or had none because
            theirs was gone; None if that has never been.
        surplus: number of empty lobbies that were not needed, over the last `emptySeconds`.
        sparse: number of lobbies, empty ones included, that could have been removed by moving their clients, over the last
            `stabilizationSeconds`.
    """

    lobbies: tuple[LobbyState, ...] = ()
    waiting: int = 0
    lost: int = 0
    at: float = 0.0
    generation: int = 0
    revision: str = ""
    complete: bool = True
    taken: frozenset[int] = frozenset()
    heard_since: float | None = None
    failures: Failures = field(default_factory=Failures)
    moved_at: float | None = None
    surplus: Window = ()
    sparse: Window = ()

    def in_phase(self, *phases: Phase) -> list[LobbyState]:
        """The lobbies in any of these phases, in order."""
        return [lobby for lobby in self.lobbies if lobby.phase in phases]


def lobby_name(lobby: str, index: int) -> str:
    """Name of the n-th lobby of a Lobby."""
    return f"{lobby}-{index}"


def lobby_index(name: str) -> int:
    """The n of a lobby's name; 0 for a name that is not one of ours."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0
