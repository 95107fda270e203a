from __future__ import annotations

from typing import Any

import pytest

from lobby_gateway.resource.lobby_overview import (
    Item,
    LobbyCounts,
    LobbyOverview,
    item,
    lobby_overviews,
    with_seats,
)
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_gateway.resource.status import LobbyEntry, LobbyStatus


def ready(name: str, clients: int = 0, seats: int = 512) -> LobbyEntry:
    return LobbyEntry(name=name, phase="Ready", clients=clients, seats=seats)


def made(status: LobbyStatus, *lobbies: LobbyOverview, mode: str = "Proxy", **fields: Any) -> Item:
    resource = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": "prices"},
        "spec": {"origin": {"url": "wss://h/stream?key=s3cret"}, "routing": {"mode": mode}},
    }
    lobby = lobby_from_resource(validate_and_default(resource, "test"))
    return item(lobby, status, lobbies, address="/prices", counts=LobbyCounts(), **fields)


def test_a_ready_lobby_is_open_full_or_served_out() -> None:
    one, two, three = ready("p-1", 5), ready("p-2", 512), ready("p-3", 7)
    shown = lobby_overviews(LobbyStatus(lobbies=(one, two, three), open=(one,)))
    assert [each.phase for each in shown.values()] == ["open", "full", "served out"]


def test_any_other_phase_is_said_as_it_was_told() -> None:
    shown = lobby_overviews(LobbyStatus(lobbies=(LobbyEntry(name="p-1", phase="Settling", origin="Waiting"),)))
    assert (shown["p-1"].phase, shown["p-1"].origin) == ("settling", "Waiting")


def test_lobbies_that_only_other_lists_name_are_not_forgotten() -> None:
    shown = lobby_overviews(LobbyStatus(open=(ready("p-2"),), draining=("p-1",)))
    assert {name: each.phase for name, each in shown.items()} == {"p-2": "open", "p-1": "draining"}


@pytest.mark.parametrize(
    ("phase", "clients", "after"),
    [
        ("open", 5, "open"),
        ("open", 8, "full"),
        ("full", 7, "open"),
        ("served out", 8, "served out"),
        ("silent", 8, "silent"),
        ("draining", 2, "draining"),
    ],
)
def test_newer_numbers_fill_and_free_a_lobby_but_do_not_open_one_that_is_closed(
    phase: str, clients: int, after: str
) -> None:
    shown = with_seats(LobbyOverview(name="p-1", phase=phase, clients=1, seats=4), clients, 8)
    assert (shown.phase, shown.clients, shown.seats) == (after, clients, 8)


def test_totals_are_those_of_the_lobbies_and_only_open_ones_have_seats() -> None:
    shown = made(
        LobbyStatus(replicas=3, clients=1, seats=1),
        LobbyOverview(name="p-1", phase="full", clients=512, seats=512),
        LobbyOverview(name="p-2", phase="draining", clients=10, seats=512),
        LobbyOverview(name="p-3", phase="open", clients=20, seats=512),
    )
    assert (shown.clients, shown.free, shown.unnamed) == (542, 492, 0)


def test_totals_are_told_where_there_are_more_lobbies_than_are_named() -> None:
    status = LobbyStatus(replicas=300, clients=100_000, seats=150_000)
    shown = made(status, LobbyOverview(name="p-1", phase="full", clients=512, seats=512))
    assert (shown.clients, shown.free, shown.unnamed) == (100_000, 50_000, 299)


def test_item_says_how_it_is_reached_and_nothing_secret() -> None:
    shown = made(LobbyStatus(latest="p-1"), mode="Redirect", removed=True)
    assert (shown.name, shown.address, shown.origin, shown.latest) == ("prices", "/prices", "wss://h/stream", "p-1")
    assert shown.redirected
    assert shown.removed
