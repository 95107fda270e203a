from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.lobbies import NOW, SPEC, reading, report

from lobby_operator.planner.history import observe
from lobby_operator.planner.stabilization_window import least
from lobby_operator.planner.state import Failures, Held, Hold, LobbyReading, LobbyState, Observed, Phase
from lobby_operator.settings import PlannerSettings

TIMES = PlannerSettings()


class Track:
    """Folds one reading after another."""

    def __init__(self, before: Observed | None = None) -> None:
        self.seen = before
        self.spec = SPEC

    def see(self, at: float, *lobbies: LobbyReading, waiting: int = 0, lost: int = 0) -> Observed:
        self.seen, _ = observe(self.seen, lobbies, waiting=waiting, lost=lost, spec=self.spec, now=at, settings=TIMES)
        return self.seen

    def one(self, at: float, **fields: Any) -> LobbyState:
        """For a single lobby, created at NOW."""
        return self.see(at, reading(1, **{"created_at": NOW, **fields})).lobbies[0]


def unresponsive(since: float, clients: int | None = 5) -> dict[str, Any]:
    return {"clients": clients, "unresponsive_since": since}


# A lobby's life


def test_a_lobby_is_starting_until_its_first_answer_and_then_ready() -> None:
    track = Track()
    assert track.one(NOW, clients=None, address="").phase is Phase.STARTING
    assert track.one(NOW + 1, clients=None, unresponsive_since=NOW + 1).phase is Phase.STARTING
    ready = track.one(NOW + 2, clients=0)
    assert (ready.phase, ready.ready_at, ready.empty_since, ready.seats) == (Phase.READY, NOW + 2, NOW + 2, 512)


def test_a_lobby_without_an_address_is_still_starting() -> None:
    assert Track().one(NOW, clients=0, address="").phase is Phase.STARTING


def test_a_lobby_has_the_seats_of_the_spec_until_it_reports() -> None:
    track = Track()
    track.spec = replace(SPEC, seats=20)
    assert track.one(NOW, clients=None, address="").seats == 20
    assert track.one(NOW + 1, report=report(1, seats=512)).seats == 512
    assert track.one(NOW + 2, report=report(1, seats=20)).seats == 20


def test_a_lobby_is_empty_since_its_last_client_left() -> None:
    track = Track()
    assert track.one(NOW, clients=1).empty_since is None
    assert track.one(NOW + 1, clients=0).empty_since == NOW + 1
    assert track.one(NOW + 9, clients=0).empty_since == NOW + 1
    assert track.one(NOW + 10, clients=1).empty_since is None


def test_a_lobby_drains_since_it_reported_so_or_was_marked() -> None:
    assert Track().one(NOW, report=report(3)).draining_since is None
    described = Track()
    drains = described.one(NOW, report=report(3, draining=True))
    assert (drains.phase, drains.draining_since, drains.drain_confirmed) == (Phase.DRAINING, NOW, True)
    assert described.one(NOW + 5, report=report(3, draining=True)).draining_since == NOW
    marked = Track().one(NOW, clients=3, draining=True)
    assert (marked.phase, marked.draining_since, marked.drain_confirmed) == (Phase.DRAINING, NOW, False)


def test_a_drain_cannot_be_cancelled() -> None:
    track = Track()
    track.one(NOW, report=report(3, draining=True))
    again = track.one(NOW + 1, report=report(3))  # its process was restarted and has forgotten
    assert (again.phase, again.draining_since, again.drain_confirmed) == (Phase.DRAINING, NOW, False)


def test_clients_of_an_ending_lobby_count_while_it_answers() -> None:
    track = Track()
    track.one(NOW, clients=3)
    ending = track.one(NOW + 1, clients=2, ending=True)
    assert (ending.phase, ending.clients, ending.delete_requested) == (Phase.ENDING, 2, True)
    assert track.one(NOW + 2, ending=True, **unresponsive(NOW + 2)).clients == 0


def test_an_ended_lobby_remembers_whether_deletion_was_requested() -> None:
    assert Track().one(NOW, ended=True).phase is Phase.ENDED
    told = Track().one(NOW, ended=True, ending=True)
    assert (told.phase, told.delete_requested, told.clients) == (Phase.ENDED, True, 0)


def test_a_reused_name_is_a_new_lobby() -> None:
    track = Track()
    track.one(NOW, report=report(0, draining=True))
    track.one(NOW + 1, clients=0, ending=True)
    new = track.one(NOW + 2, clients=0, created_at=NOW + 2)
    assert (new.phase, new.draining_since, new.ready_at) == (Phase.READY, None, NOW + 2)


def test_the_order_of_readings_does_not_matter() -> None:
    lobbies = [reading(index, index) for index in (1, 2, 9, 10, 11)]
    seen = Track().see(NOW, *lobbies)
    assert [lobby.index for lobby in seen.lobbies] == [1, 2, 9, 10, 11]
    assert seen == Track().see(NOW, *reversed(lobbies))


def test_an_unchanged_lobby_is_the_same_object() -> None:
    track = Track()
    before = track.one(NOW, clients=3)
    assert track.one(NOW + 1, clients=3) is before
    assert track.one(NOW + 2, clients=4) is not before


# Silence


def test_a_lobby_is_unresponsive_from_the_first_missed_answer_on() -> None:
    track = Track()
    track.one(NOW, clients=5)
    lobby = track.one(NOW + 1, **unresponsive(NOW + 0.4))
    assert (lobby.phase, lobby.unresponsive_since, lobby.clients) == (Phase.UNRESPONSIVE, NOW + 0.4, 5)
    assert track.one(NOW + 2, **unresponsive(NOW + 0.4)).unresponsive_since == NOW + 0.4


def test_a_lobby_without_a_report_is_unresponsive_from_now_on() -> None:
    track = Track()
    track.one(NOW, clients=5)
    assert track.one(NOW + 1, clients=None, unresponsive_since=NOW).unresponsive_since == NOW + 1


def test_recovery_takes_longer_after_each_outage() -> None:
    track = Track()
    track.one(NOW, clients=5)
    now = NOW
    for count, seconds in ((1, 2.0), (2, 4.0), (3, 8.0)):
        track.one(now + 1, **unresponsive(now + 1))
        back = track.one(now + 2, clients=5)
        assert (back.phase, back.outages, back.recovered_at) == (Phase.RECOVERING, count, now + 2 + seconds)
        assert track.one(now + 2 + seconds - 0.01, clients=5).phase is Phase.RECOVERING
        assert track.one(now + 2 + seconds, clients=5).phase is Phase.READY
        now += 20
    now += 1000
    track.one(now, **unresponsive(now))
    assert track.one(now + 1, clients=5).outages == 1


def test_recovery_takes_no_longer_while_clients_wait_whose_lobby_is_gone() -> None:
    track = Track()
    track.one(NOW, clients=5)
    for at in (NOW + 10, NOW + 20, NOW + 30):
        track.one(at, **unresponsive(at))
        assert track.one(at + 1, clients=0).phase is Phase.RECOVERING
    back = reading(1, clients=0, created_at=NOW)
    assert track.see(NOW + 32, back).lobbies[0].recovered_at == NOW + 39  # 8 s for the third outage
    assert track.see(NOW + 33, back, waiting=5, lost=5).lobbies[0].recovered_at == NOW + 35
    assert track.see(NOW + 34, back, waiting=5, lost=5).lobbies[0].recovered_at == NOW + 35
    assert track.see(NOW + 35, back, waiting=5, lost=5).lobbies[0].phase is Phase.READY


def test_a_lobby_that_an_earlier_operator_has_marked_has_drained_for_that_long() -> None:
    track = Track()
    assert track.one(NOW, clients=3, draining=True, draining_since=NOW - 200).draining_since == NOW - 200
    assert track.one(NOW + 1, clients=3, draining=True, draining_since=NOW - 199.9).draining_since == NOW - 200
    assert Track().one(NOW, clients=3, draining=True, draining_since=NOW + 5).draining_since == NOW


def test_a_draining_lobby_keeps_draining_after_an_outage() -> None:
    track = Track()
    track.one(NOW, report=report(3, draining=True))
    assert track.one(NOW + 1, report=report(3, draining=True), unresponsive_since=NOW + 1).phase is Phase.UNRESPONSIVE
    back = track.one(NOW + 2, report=report(3, draining=True))
    assert (back.phase, back.draining_since) == (Phase.DRAINING, NOW)


def test_a_lobby_that_never_answered_becomes_unresponsive_after_a_while() -> None:
    track = Track()
    track.one(NOW, clients=None, address="")
    over = NOW + SPEC.start_seconds
    assert track.one(over - 0.01, clients=None, unresponsive_since=NOW).phase is Phase.STARTING
    lobby = track.one(over, clients=None, unresponsive_since=NOW)
    assert (lobby.phase, lobby.unresponsive_since, lobby.ready_at) == (Phase.UNRESPONSIVE, over, None)
    first = track.one(over + 1, clients=0)  # late, but new: this is no recovery
    assert (first.phase, first.ready_at) == (Phase.READY, over + 1)


UNSCHEDULABLE = Held(Hold.UNSCHEDULABLE, "0/2 nodes are available")


def test_time_in_which_the_platform_holds_a_lobby_does_not_count() -> None:
    track = Track()
    for seconds in range(0, 1000, 100):
        held = track.one(NOW + seconds, clients=None, address="", held=UNSCHEDULABLE)
        assert (held.phase, held.starting_since, held.held) == (Phase.STARTING, None, UNSCHEDULABLE)
    free = track.one(NOW + 1000, clients=None, address="")
    assert (free.starting_since, free.held) == (NOW + 1000, None)
    over = NOW + 1000 + SPEC.start_seconds
    assert track.one(over - 0.01, clients=None, address="").phase is Phase.STARTING
    assert track.one(over, clients=None, address="").phase is Phase.UNRESPONSIVE


def test_the_time_counts_again_from_the_start_of_its_process() -> None:
    track = Track()
    track.one(NOW, clients=None, address="")
    began = NOW + SPEC.start_seconds - 1
    assert track.one(began, clients=None, running=True).starting_since == began
    assert track.one(began + SPEC.start_seconds - 0.01, clients=None, running=True).phase is Phase.STARTING
    assert track.one(began + SPEC.start_seconds, clients=None, running=True).phase is Phase.UNRESPONSIVE


def test_a_lobby_may_take_as_long_to_start_as_its_lobby_says() -> None:
    track = Track()
    track.spec = replace(SPEC, start_seconds=5.0)
    track.one(NOW, clients=None)
    assert track.one(NOW + 4.9, clients=None).phase is Phase.STARTING
    assert track.one(NOW + 5.0, clients=None).phase is Phase.UNRESPONSIVE


def test_a_lobby_that_the_platform_calls_ready_is_not_unresponsive() -> None:
    track = Track()
    track.one(NOW, clients=5)
    assert track.one(NOW + 1, alive=True, **unresponsive(NOW + 1)).phase is Phase.READY
    assert track.one(NOW + 2, alive=False, **unresponsive(NOW + 1)).phase is Phase.UNRESPONSIVE


def test_a_ready_lobby_that_we_never_reached_is_still_starting_however_long_it_lasts() -> None:
    track = Track()
    never: dict[str, Any] = {"clients": None, "unresponsive_since": NOW + 1}
    assert track.one(NOW + 1, **never).unheard_since is None  # its pod is not ready
    for seconds in range(2, 300, 5):
        lobby = track.one(NOW + seconds, alive=True, **never)
        assert (lobby.phase, lobby.unheard_since, lobby.ready_at) == (Phase.STARTING, NOW + 2, None)
    first = track.one(NOW + 301, clients=0, alive=True)  # it was in order; this is no recovery
    assert (first.phase, first.unheard_since, first.ready_at) == (Phase.READY, None, NOW + 301)


def test_silence_that_nobody_observed_does_not_count() -> None:
    track = Track()
    never: dict[str, Any] = {"clients": None, "unresponsive_since": NOW + 1, "alive": True}
    track.one(NOW + 1, **never)
    late = NOW + 2 * TIMES.unresponsive_seconds + 1.1
    assert track.one(late, **never).unheard_since == late


def test_a_lobby_that_we_never_reached_is_unresponsive_once_its_pod_is_not_ready() -> None:
    track = Track()
    never: dict[str, Any] = {"clients": None, "unresponsive_since": NOW + 1}
    assert track.one(NOW + 59, alive=True, **never).phase is Phase.STARTING
    lobby = track.one(NOW + 61, alive=False, **never)
    assert (lobby.phase, lobby.unheard_since, lobby.unresponsive_since) == (Phase.UNRESPONSIVE, None, NOW + 61)


def test_a_marked_lobby_that_we_never_reached_is_no_starting_one() -> None:
    lobby = Track().one(NOW + 9, clients=None, unresponsive_since=NOW + 9, alive=True, draining=True)
    assert (lobby.phase, lobby.unheard_since) == (Phase.RECOVERING, None)


def test_we_are_not_cut_off_while_any_lobby_answers() -> None:
    track = Track()
    silent = reading(2, None, created_at=NOW, unresponsive_since=NOW)
    assert track.see(NOW, silent).heard_since is None
    assert track.see(NOW + 1, reading(1, 3), silent).heard_since == NOW + 1
    assert track.see(NOW + 9, reading(1, 3), silent).heard_since == NOW + 1
    assert track.see(NOW + 10, reading(1, 3, unresponsive_since=NOW + 10, alive=True), silent).heard_since is None
    assert track.see(NOW + 11, reading(1, 3), silent).heard_since == NOW + 11
    late = NOW + 11 + 2 * TIMES.unresponsive_seconds + 0.1  # this process was paused
    assert track.see(late, reading(1, 3), silent).heard_since == late


def test_a_lobby_that_never_answered_and_was_given_up_is_a_failed_start() -> None:
    track = Track()
    never: dict[str, Any] = {"clients": None, "unresponsive_since": NOW + 1}
    track.one(NOW + 2, alive=True, **never)
    assert track.see(NOW + 9, reading(1, created_at=NOW, ending=True, **never)).failures == Failures(1, NOW + 9)
    outdated = Track()
    outdated.spec = replace(SPEC, revision="new")
    outdated.one(NOW + 2, alive=True, revision="old", **never)
    ending = reading(1, created_at=NOW, ending=True, revision="old", **never)
    assert outdated.see(NOW + 9, ending).failures == Failures()


def test_a_lobby_that_only_the_platform_reaches_is_unreachable() -> None:
    track = Track()
    assert track.one(NOW, clients=5).unreachable_since is None
    assert track.one(NOW + 3, alive=True, **unresponsive(NOW + 1)).unreachable_since == NOW + 1
    assert track.one(NOW + 4, alive=False, **unresponsive(NOW + 1)).unreachable_since is None  # it is unresponsive
    assert track.one(NOW + 5, clients=5).unreachable_since is None


def test_a_lobby_that_was_up_before_us_and_does_not_answer_is_lost_not_starting() -> None:
    track = Track()
    lost = {"clients": None, "was_up": True}
    assert track.one(NOW + 21, alive=True, unresponsive_since=NOW + 21, **lost).phase is Phase.RECOVERING
    assert track.one(NOW + 22, alive=True, unresponsive_since=NOW + 21, **lost).phase is Phase.RECOVERING
    lobby = track.one(NOW + 23, alive=False, unresponsive_since=NOW + 21, **lost)
    assert (lobby.phase, lobby.unresponsive_since, lobby.ready_at) == (Phase.UNRESPONSIVE, NOW + 23, NOW)
    assert track.see(NOW + 33, reading(1, created_at=NOW, ending=True, **lost)).failures == Failures()
    assert Track().one(NOW + 1, unresponsive_since=NOW + 1, **lost).phase is Phase.UNRESPONSIVE


def test_a_lobby_that_was_up_before_us_is_ready_with_its_first_answer() -> None:
    track = Track()
    assert track.one(NOW, clients=None, was_up=True).phase is Phase.STARTING  # not polled yet
    first = track.one(NOW + 1, clients=5, was_up=True)
    assert (first.phase, first.ready_at) == (Phase.READY, NOW + 1)


def test_time_that_nobody_observed_is_no_outage() -> None:
    track = Track()
    track.one(NOW, clients=5)
    late = NOW + 2 * TIMES.unresponsive_seconds + 0.1  # the operator was stopped, and resumes with an old reading
    assert track.one(late, **unresponsive(NOW + 1)).unresponsive_since == late
    assert track.one(late + 100, **unresponsive(NOW + 1)).unresponsive_since == late + 100
    assert track.one(late + 101, **unresponsive(NOW + 1)).unresponsive_since == late + 100


def test_after_a_restart_an_unresponsive_lobby_gets_its_full_time_again() -> None:
    assert Track().one(NOW + 500, **unresponsive(NOW)).unresponsive_since == NOW + 500


# Complete


@pytest.mark.parametrize(
    ("fields", "complete"),
    [
        ({"clients": 0}, True),
        ({"clients": None}, False),
        ({"clients": None, "address": ""}, True),
        ({"clients": None, "unresponsive_since": NOW}, True),
        ({"clients": None, "ending": True}, True),
        ({"clients": None, "ended": True}, True),
    ],
)
def test_an_observation_is_complete_when_every_lobby_was_polled(fields: dict[str, Any], complete: bool) -> None:
    assert Track().see(NOW, reading(1), reading(2, **fields)).complete is complete


# Failed starts


def starting(track: Track, at: float, index: int = 1) -> None:
    track.see(at, reading(index, None, address="", created_at=at))


def test_a_lobby_that_disappears_before_its_first_answer_has_failed() -> None:
    track = Track()
    starting(track, NOW)
    assert track.see(NOW + 1).failures == Failures(1, NOW + 1)
    assert track.see(NOW + 2).failures == Failures(1, NOW + 1)


def test_simultaneous_failures_count_once() -> None:
    track = Track()
    track.see(NOW, reading(1, None, address=""), reading(2, None, address=""))
    assert track.see(NOW + 1).failures.count == 1


@pytest.mark.parametrize(
    ("lived", "count"), [(TIMES.min_ready_seconds - 0.1, 1), (TIMES.min_ready_seconds, 0)], ids=["soon", "later"]
)
@pytest.mark.parametrize("remains", [True, False], ids=["remains", "disappears"])
def test_a_lobby_that_ends_soon_after_its_first_answer_has_failed(lived: float, count: int, remains: bool) -> None:
    track = Track()
    track.one(NOW, clients=0)
    over = [reading(1, created_at=NOW, ended=True)] if remains else []
    assert track.see(NOW + lived, *over).failures.count == count
    assert track.see(NOW + lived + 1).failures.count == count


def test_a_lobby_found_ended_counts_as_failed_while_it_is_new() -> None:
    assert Track().see(NOW, reading(1, created_at=NOW - 1, ended=True)).failures.count == 1
    assert Track().see(NOW, reading(1, created_at=NOW - 100, ended=True)).failures.count == 0


def test_a_lobby_that_was_supposed_to_end_has_not_failed() -> None:
    ending = Track()
    ending.one(NOW, clients=0)
    ending.one(NOW + 1, clients=0, ending=True)
    assert ending.see(NOW + 2).failures.count == 0
    draining = Track()
    draining.one(NOW, report=report(0, draining=True))
    assert draining.see(NOW + 1).failures.count == 0


@pytest.mark.parametrize(("answered", "count"), [(None, 1), (1.0, 1), (100.0, 0)])
def test_a_lobby_that_is_given_up_has_failed_if_it_did_not_last(answered: float | None, count: int) -> None:
    """`answered`: for how many seconds it answered before it became unresponsive."""
    track = Track()
    if answered is None:
        track.one(NOW, clients=None, unresponsive_since=NOW)
        now = NOW + SPEC.start_seconds
        track.one(now, clients=None, unresponsive_since=NOW)
        track.one(now + 10, clients=None, unresponsive_since=NOW, ending=True)
    else:
        track.one(NOW, clients=5)
        now = NOW + answered
        track.one(now - 0.5, clients=5)
        track.one(now, **unresponsive(now))
        track.one(now + 10, ending=True, **unresponsive(now))
    assert track.seen is not None
    assert track.seen.failures.count == count


def test_failures_are_reset_when_a_later_lobby_lasts() -> None:
    track = Track()
    starting(track, NOW)
    older = reading(2, created_at=NOW)
    track.see(NOW + 1, older)
    steady = TIMES.min_ready_seconds
    assert track.see(NOW + 1 + steady, older).failures.count == 1  # it was created before
    newer = reading(3, created_at=NOW + 2)
    track.see(NOW + 10, newer)
    assert track.see(NOW + 10 + steady - 0.1, newer).failures.count == 1
    assert track.see(NOW + 10 + steady, newer).failures.count == 0


def test_failures_are_reset_when_no_lobby_starts_any_more() -> None:
    track = Track()
    starting(track, NOW)
    track.see(NOW + 1)
    forgotten = NOW + 1 + 2 * TIMES.max_backoff_seconds
    assert track.see(forgotten - 0.1).failures.count == 1
    assert track.see(forgotten, reading(1, None, address="", created_at=forgotten)).failures.count == 1
    assert track.see(forgotten + 1, reading(1, created_at=forgotten)).failures.count == 0


def test_a_new_spec_resets_failures() -> None:
    track = Track()
    starting(track, NOW)
    assert track.see(NOW + 1).failures.count == 1
    track.spec = replace(SPEC, generation=2)
    assert track.see(NOW + 2).failures.count == 0


# What could be spared


def surplus(seen: Observed) -> int:
    return least(seen.surplus, seen.at, SPEC.empty_seconds)


def sparse(seen: Observed) -> int:
    return least(seen.sparse, seen.at, SPEC.stabilization_seconds)


def test_the_number_of_lobbies_not_needed_is_remembered() -> None:
    track = Track()
    lobbies = [reading(1, 5), reading(2, 5), reading(3, 0), reading(4, 0)]
    seen = track.see(NOW, *lobbies)
    assert (surplus(seen), sparse(seen)) == (0, 0)
    seen = track.see(NOW + 60, *lobbies)
    assert (surplus(seen), sparse(seen)) == (2, 3)


def test_drained_lobbies_no_longer_count() -> None:
    track = Track()
    lobbies = [reading(1, 5), reading(2, 5), reading(3, 0), reading(4, 0)]
    track.see(NOW, *lobbies)
    track.see(NOW + 60, *lobbies)
    seen = track.see(NOW + 61, reading(1, 5), reading(2, 5), reading(3, 0), reading(4, 0, draining=True))
    assert (surplus(seen), sparse(seen)) == (1, 2)
    seen = track.see(NOW + 62, reading(1, 5), reading(2, 5, draining=True), reading(3, 0), reading(4, 0, draining=True))
    assert (surplus(seen), sparse(seen)) == (1, 1)


def test_a_lobby_needed_for_a_moment_counts_from_then_on() -> None:
    track = Track()
    lobbies = [reading(1, 5), reading(2, 0)]
    track.see(NOW, *lobbies)
    track.see(NOW + 30, *lobbies, waiting=500)
    assert surplus(track.see(NOW + 89, *lobbies)) == 0
    assert surplus(track.see(NOW + 90, *lobbies)) == 1


def test_it_is_remembered_when_clients_were_last_on_their_way() -> None:
    track = Track()
    assert track.see(NOW, reading(1, 5), reading(2, 5)).moved_at is None
    assert track.see(NOW + 1, reading(1, 5), reading(2, 5, draining=True)).moved_at == NOW + 1
    assert track.see(NOW + 2, reading(1, 8), reading(2, 2, draining=True)).moved_at == NOW + 2
    # The last ones may have arrived at any moment since then.
    assert track.see(NOW + 3, reading(1, 10), reading(2, 0, draining=True)).moved_at == NOW + 3
    assert track.see(NOW + 4, reading(1, 10)).moved_at == NOW + 3
    assert track.see(NOW + 5, reading(1, 10), waiting=4, lost=4).moved_at == NOW + 5
    assert track.see(NOW + 6, reading(1, 14)).moved_at == NOW + 6
    assert track.see(NOW + 7, reading(1, 14)).moved_at == NOW + 6


def test_clients_of_a_lobby_that_died_are_not_on_their_way() -> None:
    track = Track()
    track.see(NOW, reading(1, 5), reading(2, 5))
    assert track.see(NOW + 1, reading(1, 10)).moved_at is None
