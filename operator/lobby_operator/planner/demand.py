"""How many clients wait for a seat, according to the greeters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lobby_gateway.process.seat_reports import GreeterReport
from lobby_operator.planner.state import PollResult
from lobby_operator.settings import PlannerSettings


@dataclass(frozen=True, slots=True)
class Demand:
    """Clients of a Lobby without a seat.

    Attributes:
        waiting: all of them.
        lost: those that had a seat in a lobby that is gone. They are connected, and closed if they wait too long.
    """

    waiting: int = 0
    lost: int = 0


def measure_demand(
    greeters: Mapping[str, PollResult[GreeterReport]],
    lobby: str,
    taken: int,
    now: float,
    settings: PlannerSettings | None = None,
) -> Demand:
    """Counts the clients of a Lobby that wait for a seat, at all greeters.

    Greeters and lobbies are polled at different moments. In a burst, a client that waited a moment ago has a seat by now, and
    would count twice: as waiting and as a taken seat. One greeter's report is consistent in itself, though, so no more clients
    can wait than greeters hold (with or without a seat) beyond the seats that are taken.

    A greeter that misses a poll (it may be busy because a lobby has just ended) still has its clients. Those that lost their
    seat wait; or they were disconnected with the greeter, and reconnect through another.

    Args:
        greeters: latest poll of each greeter.
        lobby: key of the Lobby.
        taken: seats that lobbies report as taken through greeters.
        now: the time, on the clock of the polls.
        settings: settings of the planner.
    """
    patience = (settings or PlannerSettings()).greeter_report_seconds
    reported = lost = held = unconfirmed = 0
    incomplete = False
    for result in greeters.values():
        report, since = result.report, result.unresponsive_since
        if report is None or (since is not None and now >= since + patience):
            incomplete = True
            continue
        clients, waiting = report.clients.get(lobby, 0), report.waiting.get(lobby, 0)
        held += clients + waiting
        if since is None:
            reported += waiting
            lost += report.lost.get(lobby, 0)
        else:
            unconfirmed += clients + waiting
    seatless = max(0, held - taken)
    # The taken seats include those of greeters without a valid report; they must not hide a client that is known to wait.
    waiting = max(reported if incomplete else 0, min(reported + unconfirmed, seatless))
    return Demand(waiting, min(waiting, lost + unconfirmed))
