from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest

from lobby_gateway.greeter.seat_queue import (
    ClaimRefusal,
    LobbyId,
    LobbyView,
    OpenLobby,
    Rank,
    SeatClaim,
    Seated,
    SeatQueue,
)
from lobby_gateway.settings import SeatQueueSettings
from lobby_gateway.trunk.consumer import SeatLedger

A, B, D = (LobbyId(f"prices-{n}", f"127.0.0.1:{4000 + n}") for n in (1, 2, 3))
SETTINGS = SeatQueueSettings(
    claim_seconds=1,
    full_seconds=1,
    draining_seconds=10,
    min_failed_seconds=1,
    max_failed_seconds=16,
    unseen_ticket_seconds=10,
    min_lost_seconds=30,
    move_interval_seconds=0,
)


class Queue(SeatQueue[str]):
    """A queue with the trunks that it would have: their ledgers, and the answers of their lobbies.

    Attributes:
        ledgers: by lobby; claims are recorded when they are made, as by a trunk.
    """

    def __init__(self, *, wait_seconds: float = 15, settings: SeatQueueSettings = SETTINGS) -> None:
        self.ledgers: dict[LobbyId, SeatLedger] = {}
        super().__init__(self.ledgers.get, wait_seconds=wait_seconds, settings=settings)

    def claims(self, now: float) -> list[SeatClaim]:
        claims = super().claims(now)
        for claim in claims:
            self.ledgers.setdefault(claim.lobby, SeatLedger()).claim(claim.seats)
        return claims

    def answer(self, lobby: LobbyId, seats: int, refusal: ClaimRefusal | None, now: float) -> Seated[str]:
        """A lobby answers its oldest claim."""
        ledger = self.ledgers[lobby]
        ledger.grant(min(ledger.claims), seats)
        seated = self.granted(lobby, seats, refusal, now)
        ledger.release(seated.surplus)
        return seated

    def give_back(self, lobby: LobbyId) -> None:
        self.ledgers[lobby].release(1)
        self.released(lobby)

    def fail(self, lobby: LobbyId, now: float, *, come_back: bool = False) -> None:
        self.ledgers.pop(lobby, None)
        self.failed(lobby, now, come_back=come_back)

    def held(self, lobby: LobbyId) -> int:
        return self.ledgers[lobby].held


def queue(*lobbies: OpenLobby, wait_seconds: float = 15) -> Queue:
    made = Queue(wait_seconds=wait_seconds)
    made.update(lobbies)
    return made


def arrive(made: Queue, names: Iterable[str], now: float = 0.0) -> None:
    for name in names:
        made.wait(name, Rank.NEW, now)


def asked(claims: list[SeatClaim]) -> list[tuple[LobbyId, int]]:
    return [(claim.lobby, claim.seats) for claim in claims]


def grant(made: Queue, claim: SeatClaim, seats: int | None = None, now: float = 0.0) -> list[str]:
    return list(made.answer(claim.lobby, claim.seats if seats is None else seats, None, now).clients)


def test_many_waiting_clients_cost_one_claim() -> None:
    made = queue(OpenLobby(A, 0, 512))
    arrive(made, "abc")
    [claim] = made.claims(0)
    assert (claim.lobby, claim.seats) == (A, 3)
    assert made.claims(0) == []
    assert grant(made, claim) == ["a", "b", "c"]
    assert (len(made), made.held(A)) == (0, 3)


def test_lobbies_are_filled_in_directory_order() -> None:
    made = queue(OpenLobby(A, 510, 512), OpenLobby(B, 500, 512), OpenLobby(D, 0, 512))
    arrive(made, map(str, range(20)))
    assert asked(made.claims(0)) == [(A, 2), (B, 12), (D, 6)]


def test_later_clients_wait_for_the_answer_of_the_lobby_with_room_for_them() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    arrive(made, "a")
    [first] = made.claims(0)
    arrive(made, "bc")
    assert made.claims(0) == []
    assert grant(made, first) == ["a"]
    assert asked(made.claims(0)) == [(A, 2)]


def test_later_clients_do_not_wait_when_the_claim_takes_all_the_room() -> None:
    made = queue(OpenLobby(A, 0, 1), OpenLobby(B, 0, 10))
    arrive(made, "a")
    assert asked(made.claims(0)) == [(A, 1)]
    arrive(made, "b")
    assert asked(made.claims(0)) == [(B, 1)]


def test_after_a_refusal_the_next_lobby_is_asked_and_the_first_one_not_for_a_while() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    arrive(made, "ab")
    assert len(made.claims(0)) == 1
    assert made.answer(A, 0, ClaimRefusal.FULL, 0).clients == ()
    assert asked(made.claims(0)) == [(B, 2)]
    assert made.claims(0.9) == []
    assert asked(made.claims(1.1)) == [(A, 2)], "B did not answer in time; it is a while ago that A was full"


def test_a_partial_grant_counts_as_full() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    arrive(made, "abc")
    [claim] = made.claims(0)
    assert grant(made, claim, 2) == ["a", "b"]
    assert asked(made.claims(0)) == [(B, 1)]


def test_a_full_lobby_is_asked_again_at_once_when_the_directory_shows_a_free_seat() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "ab")
    assert len(made.claims(0)) == 1
    made.answer(A, 0, ClaimRefusal.FULL, 0)
    made.update([OpenLobby(A, 10, 10)])
    assert made.claims(0.1) == []
    made.update([OpenLobby(A, 9, 10)])
    assert asked(made.claims(0.2)) == [(A, 1)]


def test_a_returned_seat_is_known_to_be_free() -> None:
    made = queue(OpenLobby(A, 0, 1))
    arrive(made, "a")
    [claim] = made.claims(0)
    grant(made, claim)
    made.update([OpenLobby(A, 1, 1)])
    arrive(made, "b")
    assert len(made.claims(0)) == 1  # the directory shows none free: the lobby itself is asked
    made.answer(A, 0, ClaimRefusal.FULL, 0)
    made.give_back(A)
    assert asked(made.claims(0.1)) == [(A, 1)]


def test_without_room_in_the_directory_lobbies_are_asked_one_after_the_other() -> None:
    made = queue(OpenLobby(A, 5, 5), OpenLobby(B, 5, 5))
    arrive(made, "ab")
    [first] = made.claims(0)
    assert asked([first]) == [(A, 2)]
    arrive(made, "c")
    assert made.claims(0) == [], "the question is under way"
    assert grant(made, first, 1) == ["a"]
    assert asked(made.claims(0)) == [(B, 2)]


def test_an_unresponsive_lobby_costs_one_claim_and_then_comes_last() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 1))
    arrive(made, "ab")
    [to_a] = made.claims(0)
    assert made.wake_at(0) == to_a.deadline == 1
    [to_b] = made.claims(1)
    assert asked([to_b]) == [(B, 1)]
    grant(made, to_b, now=1)
    # B is full; A failed lately and is tried with a single client, once its pause is over and B has refused.
    assert len(made.claims(2.5)) == 1
    made.answer(B, 0, ClaimRefusal.FULL, 2.5)
    assert asked(made.claims(2.5)) == [(A, 1)]


def test_a_late_answer_still_seats_clients_and_ends_the_suspicion() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "ab")
    [claim] = made.claims(0)
    assert made.claims(1) == []
    assert grant(made, claim, now=1.5) == ["a", "b"]
    arrive(made, "c", 1.5)
    assert asked(made.claims(1.5)) == [(A, 1)]


def test_surplus_seats_are_returned() -> None:
    made = queue(OpenLobby(A, 0, 10))
    first = made.wait("a", Rank.NEW, 0)
    made.wait("b", Rank.NEW, 0)
    assert len(made.claims(0)) == 1
    made.leave(first)
    seated = made.answer(A, 2, None, 0)
    assert (seated.clients, seated.surplus) == (("b",), 1)
    assert made.held(A) == 1


def test_failures_in_a_row_double_the_pause() -> None:
    made = queue(OpenLobby(A, 0, 10), wait_seconds=1e6)
    arrive(made, "a")
    pauses = []
    now = 0.0
    for _ in range(1100):
        [_claim] = made.claims(now)
        made.fail(A, now)
        wake = made.wake_at(now)
        assert wake is not None
        pauses.append(wake - now)
        assert made.claims(wake - 0.01) == []
        now = wake
    assert pauses[:6] == [1, 2, 4, 8, 16, 16]
    assert set(pauses[6:]) == {16}


def test_a_lobby_that_failed_long_ago_is_tried_with_one_client() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    arrive(made, "a")
    made.claims(0)
    made.fail(A, 0)
    arrive(made, "bc", 17)
    assert asked(made.claims(17)) == [(A, 1), (B, 2)]


def test_clients_whose_trunk_broke_ask_their_own_lobby_first() -> None:
    made = queue(OpenLobby(B, 0, 10), OpenLobby(A, 10, 10))
    made.fail(A, 0, come_back=True)
    for name in "ab":
        made.wait(name, Rank.LOST, 0)
    arrive(made, "n")
    [back, new] = made.claims(0)
    assert asked([back, new]) == [(A, 2), (B, 1)]
    made.fail(A, 0)
    assert asked(made.claims(0)) == [], "B is answering; it has room for all"
    assert grant(made, new) == ["a"]
    assert asked(made.claims(0)) == [(B, 2)]


def test_lost_clients_go_first_then_moving_ones_then_new_ones() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "n")
    made.wait("m", Rank.MOVING, 0, leaving=B)
    made.wait("l", Rank.LOST, 0)
    [claim] = made.claims(0)
    assert grant(made, claim) == ["l", "m", "n"]


def test_a_moving_client_never_gets_a_seat_in_the_lobby_that_it_leaves() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "n")
    [claim] = made.claims(0)
    made.draining(A, 0, 0)
    made.wait("m", Rank.MOVING, 0, leaving=A)
    made.start_moves(0)
    assert grant(made, claim) == ["n"]
    assert (len(made), made.unseated) == (1, 0)


def starting(made: Queue, now: float) -> list[str]:
    return [waiter.client for waiter in made.start_moves(now)]


def draining(names: str, *, within: float, now: float = 0.0, settings: SeatQueueSettings = SETTINGS) -> Queue:
    """A queue with clients of A, which drains."""
    made = Queue(settings=settings)
    made.update([OpenLobby(B, 0, 512)])
    made.draining(A, now, now + within)
    for name in names:
        made.wait(name, Rank.MOVING, now, leaving=A)
    return made


def run_moves(made: Queue, now: float) -> dict[str, float]:
    """Lets the time pass until no client is left to move; returns when each was due."""
    due: dict[str, float] = {}
    while True:
        due.update(dict.fromkeys(starting(made, now), now))
        if not made.scheduled:
            return due
        wake = made.wake_at(now)
        assert wake is not None
        assert wake > now, "it would never sleep"
        now = wake


def test_moves_are_spread_evenly_over_the_time_that_the_lobby_allows() -> None:
    made = draining("abcd", within=10)
    assert (len(made), made.scheduled) == (0, 4)
    assert run_moves(made, 0) == {"a": 0, "b": 2.5, "c": 5, "d": 7.5}
    assert (len(made), made.scheduled) == (4, 0)


def test_seats_are_claimed_only_for_clients_that_are_due() -> None:
    made = draining("abcd", within=10)
    assert starting(made, 0) == ["a"]
    [claim] = made.claims(0)
    assert claim.seats == 1
    assert grant(made, claim) == ["a"]
    assert starting(made, 5) == ["b", "c"]
    assert asked(made.claims(5)) == [(B, 2)]


def test_without_time_to_spread_moves_all_clients_move_at_once() -> None:
    made = draining("abcd", within=0)
    assert run_moves(made, 0) == dict.fromkeys("abcd", 0)


def test_clients_that_join_a_draining_lobby_move_by_the_same_deadline() -> None:
    made = draining("ab", within=10)
    assert starting(made, 0) == ["a"]
    for name in "cde":
        made.wait(name, Rank.MOVING, 4, leaving=A)
    due = run_moves(made, 4)
    assert due == {"b": 5, "c": 6.25, "d": 7.5, "e": 8.75}
    made.wait("f", Rank.MOVING, 60, leaving=A)
    assert run_moves(made, 60) == {"f": 60}, "the time is over"


def test_clients_that_disconnect_before_they_are_due_are_skipped() -> None:
    made = draining("", within=10)
    waiters = [made.wait(name, Rank.MOVING, 0, leaving=A) for name in "abcd"]
    assert starting(made, 0) == ["a"]
    made.leave(waiters[1])
    made.leave(waiters[1])
    assert made.scheduled == 2
    assert list(run_moves(made, 0)) == ["c", "d"]


def test_a_second_request_with_less_time_takes_over() -> None:
    made = draining("abcde", within=60)
    assert starting(made, 0) == ["a"]
    assert starting(made, 12) == ["b"]
    made.draining(A, 12, 15)
    assert run_moves(made, 12) == {"c": 12.75, "d": 13.5, "e": 14.25}
    made = draining("ab", within=10)
    made.draining(A, 0, 60)
    assert run_moves(made, 0) == {"a": 0, "b": 5}, "more time is not taken"


def test_clients_of_a_lobby_that_is_gone_move_at_once() -> None:
    made = draining("abcd", within=60)
    assert starting(made, 0) == ["a"]
    made.fail(A, 1)
    assert (len(made), made.scheduled) == (4, 0)
    assert asked(made.claims(1)) == [(B, 4)]
    assert starting(draining("abcd", within=60, now=9), 1e9) == ["a", "b", "c", "d"], "the greeter was suspended"


def test_two_draining_lobbies_have_schedules_of_their_own() -> None:
    made = draining("ab", within=10)
    made.draining(D, 0, 4)
    for name in "xy":
        made.wait(name, Rank.MOVING, 0, leaving=D)
    assert run_moves(made, 0) == {"a": 0, "x": 0, "y": 2, "b": 5}


def test_clients_that_are_due_shortly_after_each_other_move_together() -> None:
    made = draining(
        "".join(map(chr, range(0x100, 0x300))), within=10, settings=SeatQueueSettings(move_interval_seconds=0.1)
    )
    due = Counter(run_moves(made, 0).values())
    assert due.total() == 512
    assert 90 <= len(due) <= 101
    assert max(due.values()) <= 7, "no burst"
    assert min(b - a for a, b in pairwise(sorted(due))) >= 0.0999


def test_clearing_the_queue_includes_clients_that_are_not_due_to_move_yet() -> None:
    made = draining("abc", within=10)
    made.wait("n", Rank.NEW, 0)
    assert [waiter.client for waiter in made.clear()] == ["a", "b", "c", "n"]
    assert (len(made), made.scheduled, made.wake_at(0)) == (0, 0, None)


def test_a_draining_lobby_is_not_asked() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    made.draining(A, 0, 0)
    arrive(made, "a")
    assert asked(made.claims(0)) == [(B, 1)]
    made.answer(B, 0, ClaimRefusal.DRAINING, 0)
    assert made.claims(5) == []


def test_a_lobby_with_the_same_name_at_another_address_is_a_different_one() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "a")
    made.claims(0)
    made.fail(A, 0)
    replaced = LobbyId(A.name, "127.0.0.1:4999")
    made.update([OpenLobby(replaced, 0, 10)])
    assert asked(made.claims(0)) == [(replaced, 1)]


def test_clients_that_wait_too_long_expire() -> None:
    made = queue(wait_seconds=15)
    arrive(made, "a")
    made.wait("l", Rank.LOST, 1)
    made.wait("m", Rank.MOVING, 0, leaving=A)
    assert made.wake_at(0) == 15
    assert [waiter.client for waiter in made.expired(14.9)] == []
    assert [waiter.client for waiter in made.expired(15)] == ["a"]
    assert [waiter.client for waiter in made.expired(31)] == ["l"]
    assert made.expired(1e9) == []
    assert len(made) == 1


@pytest.mark.parametrize(("rank", "displaced"), [(Rank.LOST, True), (Rank.MOVING, True), (Rank.NEW, False)])
def test_displaced_clients_are_told_apart_from_new_ones(rank: Rank, displaced: bool) -> None:
    made = queue()
    made.wait("x", rank, 0)
    assert made.displaced is displaced


def test_the_queue_can_be_cleared() -> None:
    made = queue()
    arrive(made, "a")
    made.wait("m", Rank.MOVING, 0, leaving=A)
    assert [waiter.client for waiter in made.clear()] == ["m", "a"]
    assert len(made) == 0


def test_a_shorter_wait_does_not_overtake_clients_that_are_already_waiting() -> None:
    made = queue(wait_seconds=15)
    arrive(made, "a")
    made.wait_seconds = 2
    arrive(made, "b", 1)
    assert made.expired(14) == []
    assert [waiter.client for waiter in made.expired(15)] == ["a", "b"]


def test_a_client_waits_at_least_until_a_lobby_can_have_answered() -> None:
    made = queue(OpenLobby(A, 0, 10), wait_seconds=0)
    arrive(made, "a")
    assert made.expired(0.9) == []
    assert [waiter.client for waiter in made.expired(1)] == ["a"]


def test_own_seats_are_counted_before_the_directory_shows_them() -> None:
    made = queue(OpenLobby(A, 0, 3), OpenLobby(B, 0, 3))
    arrive(made, "abc")
    [claim] = made.claims(0)
    grant(made, claim)
    arrive(made, "d")
    assert asked(made.claims(0)) == [(B, 1)]


def test_a_lobbys_own_report_counts_until_the_directory_changes() -> None:
    made = queue(OpenLobby(A, 0, 10), OpenLobby(B, 0, 10))
    made.observed(A, 10, 1)
    made.update([OpenLobby(A, 0, 10), OpenLobby(B, 0, 10)])
    arrive(made, "abc")
    claims = made.claims(0)
    assert asked(claims) == [(A, 1), (B, 2)]
    for claim in claims:
        grant(made, claim)
    made.update([OpenLobby(A, 8, 10), OpenLobby(B, 0, 10)])
    arrive(made, "defg")
    assert asked(made.claims(0)) == [(A, 2), (B, 2)]


def test_tickets_go_to_lobbies_with_room_and_count_until_the_client_appears() -> None:
    made = queue(OpenLobby(A, 0, 2), OpenLobby(B, 0, 1))
    arrive(made, "abcd")
    assert made.tickets(0) == [("a", A), ("b", A), ("c", B)]
    assert made.tickets(0) == []
    made.update([OpenLobby(A, 2, 2), OpenLobby(B, 0, 1)])
    assert made.tickets(1) == []
    made.update([OpenLobby(A, 1, 2), OpenLobby(B, 0, 1)])
    assert made.tickets(2) == [("d", A)]


def test_a_ticket_that_is_never_used_counts_for_a_bounded_time() -> None:
    made = queue(OpenLobby(A, 0, 1))
    arrive(made, "ab")
    assert made.tickets(0) == [("a", A)]
    assert made.wake_at(1) == 10
    assert made.tickets(10) == [("b", A)]


def test_an_empty_queue_needs_no_waking() -> None:
    assert queue(OpenLobby(A, 0, 1)).wake_at(0) is None


def test_a_burst_over_twenty_lobbies_asks_each_once() -> None:
    lobbies = [OpenLobby(LobbyId(f"x-{n}", f"h:{n}"), 0, 25) for n in range(20)]
    made = queue(*lobbies)
    arrive(made, map(str, range(2000)))
    claims = made.claims(0)
    assert asked(claims) == [(lobby.id, 25) for lobby in lobbies]
    for claim in claims:
        grant(made, claim)
    assert len(made) == 1500
    # Every lobby is full as far as known; they are asked themselves, one after the other, and then left alone.
    for _ in lobbies:
        [probe] = made.claims(0)
        made.answer(probe.lobby, 0, ClaimRefusal.FULL, 0)
    assert made.claims(0) == []
    made.update([*lobbies, *(OpenLobby(LobbyId(f"y-{n}", f"i:{n}"), 0, 512) for n in range(3))])
    assert [claim.seats for claim in made.claims(0.5)] == [512, 512, 476]


def test_a_lobby_is_forgotten_once_it_is_unlisted_and_has_none_of_our_clients() -> None:
    made = queue(OpenLobby(A, 0, 10))
    arrive(made, "a")
    [claim] = made.claims(0)
    grant(made, claim)
    made.update([])
    assert made.held(A) == 1
    assert made.claims(1) == []
    made.give_back(A)
    made.update([])
    made.update([OpenLobby(A, 0, 10)])
    arrive(made, "b", 2)
    assert asked(made.claims(2)) == [(A, 1)]


@pytest.mark.parametrize("seats", [0, 3])
def test_seats_granted_without_a_claim_are_surplus(seats: int) -> None:
    made = queue(OpenLobby(A, 0, 10))
    seated = made.granted(A, seats, None, 0)
    assert (seated.clients, seated.surplus) == ((), seats)


def view(*, clients: int = 0, seats: int = 10) -> LobbyView:
    made = LobbyView(A, SETTINGS)
    made.learn(clients, seats, 0)
    return made


def test_seats_taken_since_the_latest_news_are_added() -> None:
    made = view(clients=3)
    assert made.room(0, held=2) == 5
    made.learn(5, 10, held=2)
    assert made.room(0, held=2) == 5
    assert made.room(0, held=0) == 7


def test_own_seats_are_taken_whatever_the_news() -> None:
    made = view()
    made.learn(0, 10, held=4)
    assert made.room(0, held=4) == 6


def test_claims_and_tickets_take_room() -> None:
    made = view()
    made.claim = SeatClaim(made.id, 3, 1.0)
    made.tickets.extend([5.0, 7.0])
    assert made.room(4, held=0) == 5
    assert made.room(5, held=0) == 6
    made.learn(1, 10, held=0)  # one of them arrived
    assert made.room(5, held=0) == 6


def test_a_refusal_counts_for_a_while() -> None:
    made = view()
    made.answered(ClaimRefusal.FULL, 0)
    assert not made.available(0.9)
    assert made.available(1)
    made.answered(ClaimRefusal.DRAINING, 0)
    made.learn(0, 10, held=0)  # free seats of a lobby that drains mean nothing
    assert not made.available(9)
    made.answered(None, 9)
    assert made.available(9)


@pytest.mark.parametrize(("failures", "pause"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)])
def test_pauses_after_failures_grow_and_are_bounded(failures: int, pause: float) -> None:
    made = LobbyView(A, SeatQueueSettings(min_failed_seconds=1, max_failed_seconds=8))
    for _ in range(failures):
        made.failed(100)
    assert not made.available(100 + pause - 0.1)
    assert made.available(100 + pause)
    assert made.suspect(107)
    assert not made.suspect(108)
    made.answered(None, 101)
    assert not made.suspect(101)
