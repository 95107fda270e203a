"""What a greeter can show of the world: what it was told, and over it what it sees itself, which is newer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lobby_gateway import __version__
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.greeter.lobby_service import LobbyService
from lobby_gateway.greeter.trunks import Trunk
from lobby_gateway.process.reports import OriginState
from lobby_gateway.resource.overview import (
    Item,
    LobbyCounts,
    LobbyShown,
    Overview,
    item,
    told_lobbies,
    with_seats,
)
from lobby_gateway.resource.status import LobbyStatus

AWAY = "Away"
"""An origin that was connected when the lobby host told, and is not any more, as a trunk says, which knows no more."""


def overview(
    name: str,
    directory: Directory,
    services: Mapping[str, LobbyService],
    *,
    problem: str,
    started_at: float,
    now: float,
) -> Overview:
    """All Lobbies, as this greeter knows them.

    Args:
        name: of the greeter.
        directory: what it was told.
        services: its own part in each Lobby.
        problem: why it takes no client; empty: it does.
        started_at: when it was started, in seconds.
        now: in the same seconds.
    """
    return Overview(
        kind="greeter",
        name=name,
        version=__version__,
        seconds=now - started_at,
        problem=problem,
        items=tuple(_item(service, directory.status(key), now) for key, service in sorted(services.items())),
    )


def _item(service: LobbyService, told: LobbyStatus | None, now: float) -> Item:
    status = told or LobbyStatus()
    lobbies = told_lobbies(status)
    for trunk in service.trunks:
        lobbies[trunk.id.name] = _seen(lobbies.get(trunk.id.name), trunk, now)
    stats = service.bus_stats
    return item(
        service.lobby,
        status,
        tuple(lobbies.values()),
        address=service.lobby.spec.path,
        removed=told is None,
        counts=LobbyCounts(
            clients=len(service.clients),
            waiting=service.waiting,
            deliveries=stats.deliveries,
            dropped=stats.dropped,
            moves_exact=service.moves["exact"],
            moves_live=service.moves["live"],
            at=now,
        ),
    )


def _seen(told: LobbyShown | None, trunk: Trunk, now: float) -> LobbyShown:
    """A lobby to which there is a trunk."""
    lobby = trunk.lobby
    if lobby is None:
        return told or LobbyShown(name=trunk.id.name, phase="starting")
    shown = told or LobbyShown(name=trunk.id.name, phase="open", clients=trunk.seats)
    connected = OriginState.CONNECTED.value
    if lobby.origin_connected:
        shown = replace(shown, origin=connected)
    elif shown.origin == connected:
        shown = replace(shown, origin=AWAY)
    shown = replace(shown, messages=trunk.messages, at=now)
    if lobby.moving or shown.phase == "draining":
        # What it would grant says nothing of its clients then: ours are known, those of others as they were told since.
        others = shown.clients if shown.phase == "draining" else 0
        return replace(shown, phase="draining", clients=max(trunk.seats, others), seats=lobby.seats)
    return with_seats(shown, lobby.seats - lobby.free, lobby.seats)
