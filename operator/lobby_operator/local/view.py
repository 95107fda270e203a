"""What the terminal of `lobby up` shows, made from the state of its Lobbies. No I/O; the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from lobby_gateway.process.seat_reports import GreeterReport, LobbyReport, OriginState
from lobby_operator.planner.state import LobbyState, Observed, Phase, PollResult
from lobby_operator.settings import LOCAL_MODE

_PHASE_WORDS = {Phase.UNRESPONSIVE: "unresponsive", Phase.RECOVERING: "recovering"}
"""Words for phases whose values in status and metrics, `Silent` and `Settling`, are part of the API."""

_ANNOUNCED_PHASES = frozenset({"open", "draining", "unresponsive"})
"""Phases that get a line when a lobby enters them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyRow:
    """One lobby in the table.

    Attributes:
        name: name of the lobby.
        phase: `starting`, `open`, `full`, `unresponsive`, `recovering`, `draining` or `ending`.
        latest: whether new clients are sent to it.
        clients: seats taken.
        seats: number of its seats.
        origin: state of its origin connection, in a word.
        problem: why the origin is not connected; empty if it is.
        rate: origin messages per second.
    """

    name: str
    phase: str
    latest: bool = False
    clients: int = 0
    seats: int = 0
    origin: str = ""
    problem: str = ""
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbySummary:
    """One Lobby.

    Attributes:
        name: name of the Lobby.
        url: where its clients connect.
        lobbies: its lobbies.
        waiting: clients without a seat.
        dropped: messages dropped from mailboxes of clients.
        problem: what is wrong, for people; empty if nothing is.
    """

    name: str
    url: str
    lobbies: tuple[LobbyRow, ...] = ()
    waiting: int = 0
    dropped: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """Everything on the terminal.

    Attributes:
        lobbies: the Lobbies.
        admin: URL of the admin port.
        greeters: number of greeters that respond, and how many there should be.
        seconds: time since the start.
        stopping: whether `lobby up` is ending.
    """

    lobbies: tuple[LobbySummary, ...]
    admin: str
    greeters: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    stopping: bool = False


class Rates:
    """Messages per second, from counts taken now and then.

    Args:
        window: period over which a rate is averaged, in seconds.
    """

    def __init__(self, window: float = LOCAL_MODE.rate_window_seconds) -> None:
        self._window = window
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def rate(self, name: str, at: float, count: int) -> float:
        """Records a count and returns the rate.

        Args:
            name: what is counted.
            at: when it was counted, in seconds.
            count: total since the counted process started.
        """
        samples = self._samples.setdefault(name, deque())
        if samples and count < samples[-1][1]:
            samples.clear()  # the process was restarted
        if not samples or at > samples[-1][0]:
            samples.append((at, count))
        while len(samples) > 2 and samples[1][0] <= at - self._window:
            samples.popleft()
        seconds = samples[-1][0] - samples[0][0]
        return (samples[-1][1] - samples[0][1]) / seconds if seconds > 0 else 0.0

    def keep(self, names: set[str]) -> None:
        """Forgets all other names."""
        for name in self._samples.keys() - names:
            del self._samples[name]


def phase(lobby: LobbyState) -> str:
    """The state of a lobby in one word."""
    if lobby.phase is Phase.READY:
        return "open" if lobby.free else "full"
    return _PHASE_WORDS.get(lobby.phase, lobby.phase.value.lower())


def lobby_summary(
    name: str,
    url: str,
    observed: Observed,
    lobby_polls: Mapping[str, PollResult[LobbyReport]],
    greeter_polls: Mapping[str, PollResult[GreeterReport]],
    *,
    latest: str,
    rates: Rates,
) -> LobbySummary:
    """Summarizes a Lobby.

    Args:
        name: name of the Lobby.
        url: where its clients connect.
        observed: its lobbies.
        lobby_polls: latest poll result of each lobby.
        greeter_polls: latest poll result of each greeter.
        latest: name of the lobby that new clients are sent to.
        rates: rates of the lobbies' origin messages; gets the new counts.
    """
    rates.keep({lobby.name for lobby in observed.lobbies})
    rows = tuple(_row(lobby, lobby_polls.get(lobby.name), latest, rates) for lobby in observed.lobbies)
    dropped = sum(result.report.dropped for result in lobby_polls.values() if result.report is not None)
    dropped += sum(result.report.dropped.get(name, 0) for result in greeter_polls.values() if result.report is not None)
    failing = [row for row in rows if row.problem]
    return LobbySummary(
        name=name,
        url=url,
        lobbies=rows,
        waiting=observed.waiting,
        dropped=dropped,
        problem=f"origin of {failing[0].name}: {failing[0].problem}" if failing else "",
    )


def _row(lobby: LobbyState, result: PollResult[LobbyReport] | None, latest: str, rates: Rates) -> LobbyRow:
    report = result.report if result is not None else None
    rate = rates.rate(lobby.name, result.at, report.messages) if result is not None and report is not None else 0.0
    origin = lobby.origin
    wait = f" {origin.retry_in_seconds:.0f} s" if origin is not None and origin.retry_in_seconds >= 1 else ""
    return LobbyRow(
        name=lobby.name,
        phase=phase(lobby),
        latest=lobby.name == latest,
        clients=lobby.clients,
        seats=lobby.seats,
        origin=f"{origin.state.value}{wait}" if origin is not None else "",
        problem=origin.reason if origin is not None else "",
        rate=rate,
    )


def changes(before: LobbySummary | None, now: LobbySummary) -> list[str]:
    """Lines for people about what changed in a Lobby. Starts and exits of lobbies are reported by the runtime.

    Args:
        before: the previous summary; None: there was none.
        now: the current summary.
    """
    was = {row.name: row for row in before.lobbies} if before is not None else {}
    lines = []
    for row in now.lobbies:
        old = was.get(row.name)
        old_phase = old.phase if old is not None else "starting"
        if row.phase != old_phase and row.phase in _ANNOUNCED_PHASES and (old_phase, row.phase) != ("full", "open"):
            lines.append(f"{row.name}: {_phase_change(old_phase, row)}")
        lines += _origin_changes(old, row)
    return lines


def _phase_change(old_phase: str, row: LobbyRow) -> str:
    if row.phase == "unresponsive":
        return "unresponsive"
    if row.phase == "draining":
        return f"draining {row.clients} {'client' if row.clients == 1 else 'clients'}"
    if old_phase in _PHASE_WORDS.values():
        return "responds again"
    return f"open, with {row.seats} {'seat' if row.seats == 1 else 'seats'}"


_CONNECTED = OriginState.CONNECTED.value
_LOST = tuple(state.value for state in (OriginState.WAITING, OriginState.REFUSED))


def _origin_changes(old: LobbyRow | None, row: LobbyRow) -> list[str]:
    """Lines about the origin. Failed attempts get one line until their reason changes."""
    was = old.origin if old is not None else ""
    is_new = old is None or was == _CONNECTED or old.problem != row.problem
    if row.origin.startswith(_LOST) and (is_new or not was):
        return [f"{row.name}: no origin connection: {row.problem or 'no reason given'}"]
    if row.origin == _CONNECTED and was != _CONNECTED:
        return [f"{row.name}: origin connected"]
    return []
