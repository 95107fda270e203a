from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lobby_operator.planner.timers import due, earliest

TIMES = st.floats(0, 1e7)


@given(TIMES, TIMES)
def test_a_timer_is_due_exactly_when_it_asked_to_be_woken(since: float, seconds: float) -> None:
    assert due(since, seconds, since + seconds)


def test_a_timer_is_not_due_before() -> None:
    assert not due(10.0, 5.0, 14.999)


def test_earliest_ignores_none() -> None:
    assert earliest(None, 3.0, 2.0, None) == 2.0
    assert earliest(None, None) is None
    assert earliest() is None
