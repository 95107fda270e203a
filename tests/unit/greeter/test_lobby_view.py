from __future__ import annotations

import pytest

from lobby_gateway.greeter.lobby_view import ClaimRefusal, LobbyId, LobbyView, SeatClaim, SeatQueueTimes

TIMES = SeatQueueTimes(full=1, draining=10, suspect_min=1, suspect_max=8)


def known(*, clients: int = 0, seats: int = 10) -> LobbyView:
    made = LobbyView(LobbyId("prices-1", "h:1"))
    made.learn(clients, seats)
    return made


def test_seats_taken_since_the_news_are_counted_on_top() -> None:
    made = known(clients=3)
    made.own = 2
    assert made.room(0) == 5
    made.learn(5, 10)
    assert made.room(0) == 5
    made.own = 0
    assert made.room(0) == 7


def test_own_seats_are_taken_whatever_the_news_say() -> None:
    made = known()
    made.own = 4
    made.learn(0, 10)
    assert made.room(0) == 6


def test_claims_and_tickets_take_room() -> None:
    made = known()
    made.claim = SeatClaim(1, made.id, 3, 1.0)
    made.tickets.extend([5.0, 7.0])
    assert made.room(4) == 5
    assert made.room(5) == 6
    made.learn(1, 10)  # one of them arrived
    assert made.room(5) == 6


def test_a_refusal_is_believed_for_a_while() -> None:
    made = known()
    made.answered(ClaimRefusal.FULL, 0, TIMES)
    assert not made.may_be_asked(0.9)
    assert made.may_be_asked(1)
    made.answered(ClaimRefusal.DRAINING, 0, TIMES)
    made.learn(0, 10)  # free seats of a lobby that drains mean nothing
    assert not made.may_be_asked(9)
    made.answered(None, 9, TIMES)
    assert made.may_be_asked(9)


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)])
def test_pauses_after_failures_grow_and_are_bounded(failures: int, pause: float) -> None:
    made = known()
    for _ in range(failures):
        made.failed(100, TIMES)
    assert not made.may_be_asked(100 + pause - 0.1)
    assert made.may_be_asked(100 + pause)
    assert made.suspect(107, TIMES)
    assert not made.suspect(108, TIMES)
    made.answered(None, 101, TIMES)
    assert not made.suspect(101, TIMES)


@pytest.mark.parametrize(("own", "claimed", "idle"), [(0, False, True), (1, False, False), (0, True, False)])
def test_it_is_forgotten_only_when_nothing_of_ours_is_there(own: int, claimed: bool, idle: bool) -> None:
    made = known()
    made.own = own
    made.claim = SeatClaim(1, made.id, 1, 1.0) if claimed else None
    assert made.idle is idle
