from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.process.backoff import Backoff, ceiling

MAX_FLOOR = 3600.0


def backoff(fraction: float = 1.0, *, base: float = 0.5, cap: float = 30.0) -> Backoff:
    return Backoff(base=base, cap=cap, fraction=lambda: fraction, max_floor=MAX_FLOOR)


def test_ceiling_doubles_with_each_failure() -> None:
    waits = [ceiling(1.0, 60.0, attempt) for attempt in (0, 1, 2, 5, 6, 7, 5000)]
    assert waits == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0, 60.0]


def test_without_random_numbers_the_wait_is_the_ceiling() -> None:
    waits = Backoff(base=1.0, cap=5.0)
    assert [waits.next() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]


def test_floor_is_unbounded_by_default() -> None:
    assert Backoff(base=1.0, cap=5.0).next(floor=10**9) == 10**9 + 1.0


def test_ceiling_doubles_up_to_the_cap() -> None:
    waits = backoff()
    assert [waits.next() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_is_full_from_nothing_to_the_ceiling() -> None:
    fractions = iter([0.0, 0.25, 1.0])
    waits = Backoff(base=4, cap=100, fraction=lambda: next(fractions))
    assert [waits.next(), waits.next(), waits.next()] == [0, 2, 16]


@pytest.mark.parametrize(("jitter", "waits"), [(0.5, [5, 15, 40]), (0.0, [10, 20, 40])])
def test_without_full_jitter_only_a_share_of_the_wait_is_random(jitter: float, waits: list[float]) -> None:
    fractions = iter([0.0, 0.5, 1.0])
    backoff = Backoff(base=10, cap=100, jitter=jitter, fraction=lambda: next(fractions))
    assert [backoff.next() for _ in range(3)] == waits


def test_reset_makes_the_next_wait_a_first_one() -> None:
    waits = backoff()
    for _ in range(5):
        waits.next()
    waits.reset()
    assert waits.attempt == 0
    assert waits.next() == 0.5


def test_floor_is_waited_before_the_jitter_begins() -> None:
    assert backoff(0.0).next(floor=20) == 20
    assert backoff(1.0).next(floor=20) == 20.5


def test_floor_is_bounded_and_never_negative() -> None:
    assert backoff(0.0).next(floor=10**9) == MAX_FLOOR
    assert backoff(0.0).next(floor=-5) == 0


def test_ceiling_stays_finite_however_often_it_fails() -> None:
    waits = backoff()
    waits.attempt = 10**6
    assert waits.next() == 30


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_senseless_bounds_are_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="base"):
        backoff(base=base, cap=cap)


@given(
    base=st.floats(0.01, 100),
    factor=st.floats(1, 1000),
    fraction=st.floats(0, 1),
    floor=st.floats(0, 10**6),
    failures=st.integers(0, 2000),
)
def test_wait_is_never_beyond_floor_and_cap(
    base: float, factor: float, fraction: float, floor: float, failures: int
) -> None:
    waits = backoff(fraction, base=base, cap=base * factor)
    waits.attempt = failures
    honored = min(floor, MAX_FLOOR)
    assert honored <= waits.next(floor) <= honored + base * factor
