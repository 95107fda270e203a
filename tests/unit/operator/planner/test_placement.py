from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.unit.operator.lobbies import SPEC, lobby_state, observed

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.placement import measure_capacity, open_lobbies
from lobby_operator.planner.state import LobbyState, Phase

LATEST = replace(SPEC, placement=Placement.LATEST)


def indexes(lobbies: Iterable[LobbyState]) -> list[int]:
    return [lobby.index for lobby in lobbies]


def test_packed_is_fullest_first_and_among_equals_the_oldest() -> None:
    capacity = measure_capacity(
        SPEC,
        observed(lobby_state(1, 5), lobby_state(2, 300), lobby_state(3, 5), lobby_state(4, 0), lobby_state(5, 400)),
    )
    assert indexes(open_lobbies(capacity)) == [5, 2, 1, 3, 4]


def test_full_lobbies_are_not_open() -> None:
    capacity = measure_capacity(SPEC, observed(lobby_state(1, 512), lobby_state(2, 511), lobby_state(3, 600)))
    assert indexes(open_lobbies(capacity)) == [2]
    assert capacity.free == 1


def test_only_ready_lobbies_are_open() -> None:
    others = [lobby_state(index, 5, phase) for index, phase in enumerate(Phase, 2) if phase is not Phase.READY]
    assert indexes(open_lobbies(measure_capacity(SPEC, observed(lobby_state(1), *others)))) == [1]
    assert indexes(open_lobbies(measure_capacity(LATEST, observed(lobby_state(1), *others)))) == [1]


def test_leaving_lobbies_are_not_open() -> None:
    capacity = measure_capacity(SPEC, observed(lobby_state(1, 5), lobby_state(2, 3)))
    assert indexes(open_lobbies(capacity, frozenset({"prices-1"}))) == [2]


def test_latest_is_the_newest_with_clients_then_newer_empty_ones() -> None:
    capacity = measure_capacity(
        LATEST,
        observed(lobby_state(1, 500), lobby_state(2, 0), lobby_state(3, 7), lobby_state(4, 0), lobby_state(5, 0)),
    )
    assert indexes(open_lobbies(capacity)) == [3, 4, 5]
    assert indexes(capacity.superseded) == [2, 1]
    assert capacity.free == 505 + 512 + 512


def test_latest_orders_lobbies_by_when_they_were_ready() -> None:
    capacity = measure_capacity(LATEST, observed(lobby_state(1, 9, ready_at=8.0), lobby_state(2, 9, ready_at=7.0)))
    assert indexes(open_lobbies(capacity)) == [1]


def test_latest_without_clients_opens_all_oldest_first() -> None:
    assert indexes(open_lobbies(measure_capacity(LATEST, observed(lobby_state(1), lobby_state(2))))) == [1, 2]


def test_latest_falls_back_to_older_lobbies_newest_first() -> None:
    capacity = measure_capacity(
        LATEST, observed(lobby_state(1, 500), lobby_state(2, 400), lobby_state(3, 512), lobby_state(4, 512))
    )
    assert indexes(open_lobbies(capacity)) == [2, 1]
    assert capacity.free == 0  # so another lobby is created nevertheless


def test_seats_are_needed_for_waiting_and_moving_clients_and_to_spare() -> None:
    lobbies = [
        lobby_state(1, 500),
        lobby_state(2, 25, Phase.DRAINING),
        lobby_state(3, 7, Phase.ENDING),
        lobby_state(4, 99, Phase.UNRESPONSIVE),
        lobby_state(5, 0, Phase.STARTING),
        lobby_state(6, 50, Phase.RECOVERING),
    ]
    capacity = measure_capacity(SPEC, observed(*lobbies, waiting=3))
    assert (capacity.waiting, capacity.moving, capacity.starting) == (3, 32, 1)
    assert capacity.needed == 3 + 32 + 64
    assert capacity.free == 12
