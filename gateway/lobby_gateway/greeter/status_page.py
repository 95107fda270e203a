"""What a greeter's status page shows: the directory, updated with what its trunks report, which is newer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lobby_gateway import __version__
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.greeter.lobby_service import LobbyService
from lobby_gateway.greeter.trunks import Trunk
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.resource.lobby_overview import (
    Item,
    LobbyCounts,
    LobbyOverview,
    Overview,
    item,
    lobby_overviews,
    with_seats,
)
from lobby_gateway.resource.status import LobbyStatus

AWAY = "Away"
"""The origin was connected in the directory, but the trunk reports that it no longer is. A trunk does not know why."""


def overview(
    name: str,
    directory: Directory,
    services: Mapping[str, LobbyService],
    *,
    problem: str,
    started_at: float,
    now: float,
) -> Overview:
    """All Lobbies, as this greeter sees them.

    Args:
        name: of the greeter.
        directory: the Lobbies and their status.
        services: the clients and trunks of each Lobby.
        problem: why it accepts no clients; empty if it does.
        started_at: when it started, in seconds.
        now: on the same clock.
    """
    return Overview(
        kind="greeter",
        name=name,
        version=__version__,
        seconds=now - started_at,
        problem=problem,
        items=tuple(_item(service, directory.status(key), now) for key, service in sorted(services.items())),
    )


def _item(service: LobbyService, listed: LobbyStatus | None, now: float) -> Item:
    status = listed or LobbyStatus()
    lobbies = lobby_overviews(status)
    for trunk in service.trunks:
        lobbies[trunk.id.name] = _merged(lobbies.get(trunk.id.name), trunk, now)
    stats = service.bus_stats
    return item(
        service.lobby,
        status,
        tuple(lobbies.values()),
        address=service.lobby.spec.path,
        removed=listed is None,
        counts=LobbyCounts(
            clients=len(service.clients),
            waiting=service.waiting,
            deliveries=stats.deliveries,
            dropped=stats.dropped,
            dropped_by=stats.dropped_by,
            moves_exact=service.moves["exact"],
            moves_live=service.moves["live"],
            at=now,
        ),
    )


def _merged(listed: LobbyOverview | None, trunk: Trunk, now: float) -> LobbyOverview:
    """A lobby with a trunk, from the trunk and from the directory (`listed`)."""
    lobby = trunk.lobby
    if lobby is None:
        return listed or LobbyOverview(name=trunk.id.name, phase="starting")
    merged = listed or LobbyOverview(name=trunk.id.name, phase="open", clients=trunk.seats)
    connected = OriginState.CONNECTED.value
    if lobby.origin_connected:
        merged = replace(merged, origin=connected)
    elif merged.origin == connected:
        merged = replace(merged, origin=AWAY)
    merged = replace(merged, messages=trunk.messages, at=now)
    if lobby.moving or merged.phase == "draining":
        # It grants no seats then, so `free` says nothing about its clients: we know ours; others only from the directory.
        others = merged.clients if merged.phase == "draining" else 0
        return replace(merged, phase="draining", clients=max(trunk.seats, others), seats=lobby.seats)
    return with_seats(merged, lobby.seats - lobby.free, lobby.seats)
