"""From what is known of Lobbies and lobbies to what a person is shown of them. No I/O; the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from lobby_gateway.process.reports import GreeterReport, LobbyReport, OriginState
from lobby_operator.local.terminal import LobbyPanel, LobbyRow
from lobby_operator.planner.state import LobbyState, Observed, Phase
from lobby_operator.reconcile.poller import PollResult

RATE_SECONDS = 5.0
"""A rate is that of so many seconds: less would flicker with an origin that sends once a second."""


class Rates:
    """Messages a second, from counts that come now and then."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def rate(self, name: str, at: float, count: int) -> float:
        """Takes a count and gives the rate.

        Args:
            name: of what is counted.
            at: when it was counted, in seconds.
            count: since the start of what is counted.
        """
        samples = self._samples.setdefault(name, deque())
        if samples and count < samples[-1][1]:
            samples.clear()  # it began anew
        if not samples or at > samples[-1][0]:
            samples.append((at, count))
        while len(samples) > 2 and samples[1][0] <= at - RATE_SECONDS:
            samples.popleft()
        seconds = samples[-1][0] - samples[0][0]
        return (samples[-1][1] - samples[0][1]) / seconds if seconds > 0 else 0.0

    def keep(self, names: set[str]) -> None:
        """Forgets all others."""
        for name in self._samples.keys() - names:
            del self._samples[name]


def phase(lobby: LobbyState) -> str:
    """The state of a lobby in a word."""
    if lobby.phase is Phase.READY:
        return "open" if lobby.free else "full"
    return lobby.phase.value.lower()


def lobby_view(
    name: str,
    url: str,
    observed: Observed,
    readings: Mapping[str, PollResult[LobbyReport]],
    greeters: Mapping[str, PollResult[GreeterReport]],
    *,
    latest: str,
    rates: Rates,
) -> LobbyPanel:
    """A Lobby, as shown.

    Args:
        name: of the Lobby.
        url: where its clients connect.
        observed: its lobbies.
        readings: what each of them said of itself last.
        greeters: what the greeters said of themselves last.
        latest: name of the lobby that new clients are sent to.
        rates: of the lobbies' origin messages; is told the counts.
    """
    rates.keep({lobby.name for lobby in observed.lobbies})
    reports = [reading.report for reading in greeters.values() if reading.report is not None]
    rows = tuple(_row(lobby, readings.get(lobby.name), latest, rates) for lobby in observed.lobbies)
    dropped = sum(reading.report.dropped for reading in readings.values() if reading.report is not None)
    troubled = [row for row in rows if row.problem]
    return LobbyPanel(
        name=name,
        url=url,
        lobbies=rows,
        waiting=observed.waiting,
        dropped=dropped + sum(report.dropped.get(name, 0) for report in reports),
        problem=f"origin of {troubled[0].name}: {troubled[0].problem}" if troubled else "",
    )


def _row(lobby: LobbyState, reading: PollResult[LobbyReport] | None, latest: str, rates: Rates) -> LobbyRow:
    report = reading.report if reading is not None else None
    rate = rates.rate(lobby.name, reading.at, report.messages) if reading is not None and report is not None else 0.0
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


_SPOKEN_OF = frozenset({"open", "draining", "silent"})


def events(before: LobbyPanel | None, now: LobbyPanel) -> list[str]:
    """Lines for people on what has changed in a Lobby. That a lobby starts or is gone, its runtime says, with the reason.

    Args:
        before: as it was shown last.
        now: as it is.
    """
    was = {row.name: row for row in before.lobbies} if before is not None else {}
    lines = []
    for row in now.lobbies:
        old = was.get(row.name)
        old_phase = old.phase if old is not None else "starting"
        if row.phase != old_phase and row.phase in _SPOKEN_OF and not (row.phase == "open" and old_phase == "full"):
            lines.append(f"{row.name}: {_spoken(row, old_phase)}")
        lines += _origin_events(old, row)
    return lines


def _spoken(row: LobbyRow, old_phase: str) -> str:
    if row.phase == "silent":
        return "silent: it does not answer"
    if row.phase == "draining":
        return f"draining, with {row.clients} clients"
    return "answers again" if old_phase in {"silent", "settling"} else f"open, with {row.seats} seats"


_CONNECTED = OriginState.CONNECTED.value
_LOST = tuple(state.value for state in (OriginState.WAITING, OriginState.REFUSED))


def _origin_events(old: LobbyRow | None, row: LobbyRow) -> list[str]:
    """Words on the origin: one that is tried again and again is lost only once, until the reason changes."""
    was = old.origin if old is not None else ""
    news = old is None or was == _CONNECTED or old.problem != row.problem
    if row.origin.startswith(_LOST) and (news or not was):
        return [f"{row.name}: origin lost: {row.problem or 'no reason is known'}"]
    if row.origin == _CONNECTED and was != _CONNECTED:
        return [f"{row.name}: origin connected"]
    return []
