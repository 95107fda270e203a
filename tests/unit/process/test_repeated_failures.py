"""Which failures are logged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lobby_gateway
from lobby_gateway.process.repeated_failures import Fields, RepeatedFailures
from lobby_gateway.settings import RepeatSettings

SETTINGS = RepeatSettings(remind_seconds=600, settle_seconds=60, max_problems=3)


class Tried:
    """Something that is tried at given times."""

    def __init__(self, *, lapses: bool = False) -> None:
        self.now = 1000.0
        self.failures = RepeatedFailures(lambda: self.now, SETTINGS, lapses=lapses)

    def fails(self, problem: str = "no answer", *, after: float = 0.0) -> Fields | None:
        self.now += after
        return self.failures.failed(problem)

    def works(self, *, after: float = 0.0) -> Fields | None:
        self.now += after
        return self.failures.worked()


def test_a_problem_is_logged_once_and_its_failures_are_counted() -> None:
    tried = Tried()
    assert tried.fails() == {"problem": "no answer"}
    assert [tried.fails(after=10) for _ in range(50)] == 50 * [None]
    assert tried.works(after=10) == {"failures": 51, "seconds": 510.0}
    assert tried.works(after=10) is None


def test_what_works_is_not_logged() -> None:
    tried = Tried()
    assert tried.works() is None
    assert tried.works(after=1) is None


def test_a_known_problem_is_logged_again_as_a_reminder() -> None:
    tried = Tried()
    tried.fails()
    found = [fields for _ in range(120) if (fields := tried.fails(after=10))]
    assert found == [
        {"problem": "no answer", "failures": 61, "seconds": 600.0},
        {"problem": "no answer", "failures": 121, "seconds": 1200.0},
    ]


def test_another_problem_is_logged_when_it_is_seen_first() -> None:
    tried = Tried()
    tried.fails()
    assert tried.fails("refused", after=10) == {"problem": "refused", "failures": 2, "seconds": 10.0}
    assert [tried.fails(each, after=10) for each in ("no answer", "refused", "no answer")] == [None, None, None]


@pytest.mark.parametrize("other", ["prices-2 is full after 1.75 s", "prices-13 is full after 0 s"])
def test_other_numbers_do_not_make_another_problem(other: str) -> None:
    tried = Tried()
    assert tried.fails("prices-1 is full after 2.5 s")
    assert tried.fails(other, after=1) is None


def test_texts_that_always_differ_do_not_fill_the_log() -> None:
    tried = Tried()
    found = [tried.fails(f"problem {'x' * at}", after=1) for at in range(100)]
    assert len([fields for fields in found if fields]) == SETTINGS.max_problems


def test_what_comes_and_goes_is_logged_once() -> None:
    tried = Tried()
    assert tried.fails() == {"problem": "no answer"}
    assert tried.works(after=1) == {"failures": 1, "seconds": 1.0}
    for _ in range(50):
        assert tried.fails(after=5) is None
        assert tried.works(after=5) is None
    reminder = None
    while reminder is None:
        tried.works(after=5)
        reminder = tried.fails(after=5)
    assert reminder == {"problem": "no answer", "failures": tried.failures.count, "seconds": tried.now - 1000}
    assert 600 <= reminder["seconds"] <= 610
    assert tried.works(after=5) == {"failures": tried.failures.count, "seconds": tried.now - 1000}


def test_a_failure_that_lasts_is_logged_although_the_same_one_was_just_over() -> None:
    tried = Tried()
    tried.fails()
    tried.works(after=1)
    found = [tried.fails(after=10) for _ in range(8)]
    assert [bool(fields) for fields in found] == [False, False, False, False, False, False, True, False]
    assert tried.works(after=1)


def test_a_failure_long_after_it_worked_begins_a_new_series() -> None:
    tried = Tried()
    tried.fails()
    tried.works(after=1)
    assert tried.fails(after=SETTINGS.settle_seconds) == {"problem": "no answer"}
    assert tried.works(after=2) == {"failures": 1, "seconds": 2.0}


def test_times_may_begin_at_zero() -> None:
    now = 0.0
    failures = RepeatedFailures(lambda: now, SETTINGS)
    assert failures.failed("no answer") == {"problem": "no answer"}
    assert failures.failed("no answer") is None


def test_every_series_ends() -> None:
    """By a call of `worked`, or by a pause."""
    made = re.compile(r"(\w+) = (?:\w+ or )?RepeatedFailures\((.*)\)")
    root = Path(lobby_gateway.__file__).parents[2]
    sources = [path.read_text() for part in ("gateway", "operator") for path in (root / part).rglob("*.py")]
    series = [(name, arguments, source) for source in sources for name, arguments in made.findall(source)]
    assert len(series) > 15
    for name, arguments, source in series:
        assert (f"{name}.worked()" in source) != ("lapses=True" in arguments), name


def test_what_never_works_begins_a_new_series_after_a_pause() -> None:
    tried = Tried(lapses=True)
    assert tried.fails("bad token") == {"problem": "bad token"}
    assert [tried.fails("bad token", after=59) for _ in range(9)] == 9 * [None]
    assert tried.fails("bad token", after=600) == {"problem": "bad token"}
    assert tried.failures.count == 1


def test_what_never_works_is_a_series_without_a_pause() -> None:
    tried = Tried(lapses=True)
    tried.fails()
    assert tried.fails(after=599) is None
    assert tried.fails(after=599) == {"problem": "no answer", "failures": 3, "seconds": 1198.0}


def test_problems_of_long_ago_do_not_hide_new_ones() -> None:
    tried = Tried(lapses=True)
    for number in range(SETTINGS.max_problems):
        tried.fails("x" * (number + 1), after=1)
    assert tried.fails("another", after=1) is None
    assert tried.fails("another", after=86400) == {"problem": "another"}
    assert tried.fails("a third", after=1) == {"problem": "a third", "failures": 2, "seconds": 1.0}
