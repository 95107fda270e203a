"""What the lobby host of local mode can show: what it decided, and what each process said of itself last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lobby_gateway.process.reports import GreeterReport, LobbyReport
from lobby_gateway.resource.overview import Item, LobbyCounts, LobbyShown, item, told_lobbies, with_seats
from lobby_gateway.resource.spec import Lobby
from lobby_gateway.resource.status import LobbyStatus
from lobby_operator.reconcile.poller import PollResult


def shown_item(
    lobby: Lobby,
    status: Mapping[str, Any],
    readings: Mapping[str, PollResult[LobbyReport]],
    greeters: Iterable[PollResult[GreeterReport]],
    *,
    address: str,
    now: float,
) -> Item:
    """A Lobby, with what its lobbies and the greeters say.

    Args:
        lobby: the Lobby.
        status: as the lobby host made it.
        readings: of its lobbies, by name.
        greeters: readings of the greeters.
        address: where clients connect.
        now: in seconds.
    """
    told = LobbyStatus.from_json(status)
    lobbies = [_seen(each, readings.get(each.name), now) for each in told_lobbies(told).values()]
    greeters = tuple(greeters)
    reports = [reading.report for reading in greeters if reading.report is not None]
    own = [reading.report for reading in readings.values() if reading.report is not None]
    direct = sum(report.direct for report in own)
    return item(
        lobby,
        told,
        tuple(lobbies),
        address=address,
        counts=LobbyCounts(
            clients=direct + sum(report.clients.get(lobby.key, 0) for report in reports),
            waiting=sum(report.waiting.get(lobby.key, 0) for report in reports),
            deliveries=sum(each.deliveries for each in own)
            + sum(report.deliveries.get(lobby.key, 0) for report in reports),
            dropped=sum(each.dropped for each in own) + sum(report.dropped.get(lobby.key, 0) for report in reports),
            moves_exact=sum(report.moves_exact.get(lobby.key, 0) for report in reports),
            moves_live=sum(report.moves_live.get(lobby.key, 0) for report in reports),
            at=max([*(each.at for each in readings.values()), *(each.at for each in greeters)], default=now),
        ),
    )


def _seen(shown: LobbyShown, reading: PollResult[LobbyReport] | None, now: float) -> LobbyShown:
    if reading is None or reading.report is None:
        return shown
    report = reading.report
    seen = replace(
        shown,
        origin=report.origin.state.value,
        problem=report.origin.reason,
        retry_in_seconds=max(0.0, report.origin.retry_in_seconds - (now - reading.at)),
        messages=report.messages,
        at=reading.at,
    )
    return with_seats(seen, report.clients, report.seats)
