from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.unit.operator.lobbies import SPEC, observed, seen

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.placement import balance, open_lobbies
from lobby_operator.planner.state import LobbyState, Phase

LATEST = replace(SPEC, placement=Placement.LATEST)


def indexes(lobbies: Iterable[LobbyState]) -> list[int]:
    return [lobby.index for lobby in lobbies]


def test_packed_is_fullest_first_and_of_equals_the_oldest() -> None:
    balanced = balance(SPEC, observed(seen(1, 5), seen(2, 300), seen(3, 5), seen(4, 0), seen(5, 400)))
    assert indexes(open_lobbies(balanced)) == [5, 2, 1, 3, 4]


def test_full_lobbies_are_not_open() -> None:
    balanced = balance(SPEC, observed(seen(1, 512), seen(2, 511), seen(3, 600)))
    assert indexes(open_lobbies(balanced)) == [2]
    assert balanced.free == 1


def test_only_ready_lobbies_are_open() -> None:
    others = [seen(index, 5, phase) for index, phase in enumerate(Phase, 2) if phase is not Phase.READY]
    assert indexes(open_lobbies(balance(SPEC, observed(seen(1), *others)))) == [1]
    assert indexes(open_lobbies(balance(LATEST, observed(seen(1), *others)))) == [1]


def test_lobbies_that_are_about_to_go_are_not_open() -> None:
    balanced = balance(SPEC, observed(seen(1, 5), seen(2, 3)))
    assert indexes(open_lobbies(balanced, frozenset({"prices-1"}))) == [2]


def test_latest_is_the_newest_that_has_clients_then_the_empty_ones_that_are_newer() -> None:
    balanced = balance(LATEST, observed(seen(1, 500), seen(2, 0), seen(3, 7), seen(4, 0), seen(5, 0)))
    assert indexes(open_lobbies(balanced)) == [3, 4, 5]
    assert indexes(balanced.served_out) == [2, 1]
    assert balanced.free == 505 + 512 + 512


def test_latest_goes_by_when_lobbies_were_up_not_by_when_they_were_made() -> None:
    balanced = balance(LATEST, observed(seen(1, 9, ready_at=8.0), seen(2, 9, ready_at=7.0)))
    assert indexes(open_lobbies(balanced)) == [1]


def test_latest_without_clients_opens_all_oldest_first() -> None:
    assert indexes(open_lobbies(balance(LATEST, observed(seen(1), seen(2))))) == [1, 2]


def test_latest_falls_back_to_older_seats_newest_first_when_there_are_no_others() -> None:
    balanced = balance(LATEST, observed(seen(1, 500), seen(2, 400), seen(3, 512), seen(4, 512)))
    assert indexes(open_lobbies(balanced)) == [2, 1]
    assert balanced.free == 0  # they are no reason not to make a new one


def test_seats_are_needed_for_those_who_wait_and_move_and_to_spare() -> None:
    lobbies = [
        seen(1, 500),
        seen(2, 25, Phase.DRAINING),
        seen(3, 7, Phase.ENDING),
        seen(4, 99, Phase.UNRESPONSIVE),
        seen(5, 0, Phase.STARTING),
        seen(6, 50, Phase.RECOVERING),
    ]
    balanced = balance(SPEC, observed(*lobbies, waiting=3))
    assert (balanced.waiting, balanced.moving, balanced.starting) == (3, 32, 1)
    assert balanced.needed == 3 + 32 + 64
    assert balanced.free == 12
