from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lobby_operator.planner.stabilization_window import Sample, Window, add, least, lowered, rises_at
from lobby_operator.planner.timers import due

STEPS = st.lists(st.tuples(st.sampled_from([0.25, 1.0, 3.0, 20.0]), st.integers(0, 5)), min_size=1, max_size=30)


@given(STEPS, st.sampled_from([0.0, 1.0, 5.0, 10.0]))
def test_least_is_the_minimum_over_the_window(steps: list[tuple[float, int]], seconds: float) -> None:
    """Against a list of everything; the newest counts however old, and before the first there was a zero."""
    window: Window = ()
    now = 100.0
    everything = [(now + steps[0][0], 0)]
    for pause, value in steps:
        now += pause
        everything.append((now, value))
        window = add(window, now, value, seconds)
        expected = min([value, *(seen for at, seen in everything if not due(at, seconds, now))])
        assert least(window, now, seconds) == expected
        assert [sample.value for sample in window] == sorted({sample.value for sample in window})


@given(STEPS)
def test_rises_at_is_exact(steps: list[tuple[float, int]]) -> None:
    window: Window = ()
    now = 0.0
    for pause, value in steps:
        now += pause
        window = add(window, now, value, 10.0)
    before = least(window, now, 10.0)
    at = rises_at(window, now, 10.0)
    if at is None:
        assert least(window, now + 1e6, 10.0) == before == window[-1].value
    else:
        assert least(window, at, 10.0) > before
        assert least(window, at - 1e-6, 10.0) == before


def test_a_new_window_starts_with_zero() -> None:
    window = add((), 0.0, 7, 60.0)
    assert least(window, 0.0, 60.0) == 0
    assert least(window, 59.9, 60.0) == 0
    assert rises_at(window, 0.0, 60.0) == 60.0
    assert least(window, 60.0, 60.0) == 7


def test_a_dip_counts_until_it_is_old() -> None:
    window = add(add(add((), 0.0, 5, 10.0), 5.0, 1, 10.0), 6.0, 5, 10.0)
    assert least(window, 14.9, 10.0) == 1
    assert least(window, 15.0, 10.0) == 5


def test_a_window_of_zero_length_is_the_present() -> None:
    assert least(add((), 1.0, 4, 0.0), 1.0, 0.0) == 4


def test_an_empty_window_is_zero() -> None:
    assert least((), 0.0, 10.0) == 0
    assert rises_at((), 0.0, 10.0) is None


def test_lowered_lowers_every_sample_and_stops_at_zero() -> None:
    window = (Sample(1.0, 0), Sample(2.0, 1), Sample(3.0, 4))
    assert lowered(window, 0) == window
    assert lowered(window, 1) == (Sample(2.0, 0), Sample(3.0, 3))
    assert lowered(window, 9) == (Sample(3.0, 0),)
