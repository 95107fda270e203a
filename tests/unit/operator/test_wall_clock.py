from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lobby_operator import wall_clock


def test_both_are_the_time_now_in_utc() -> None:
    before = datetime.now(UTC)
    second = datetime.strptime(wall_clock.now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    micro = datetime.strptime(wall_clock.now_micro(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    after = datetime.now(UTC)
    assert before - timedelta(seconds=1) < second <= after
    assert before <= micro <= after


@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%S.%f+00:00"]
)
def test_any_time_that_the_kubernetes_api_accepts_is_understood(form: str) -> None:
    text = (datetime.now(UTC) + timedelta(seconds=60)).strftime(form)
    assert 50 < wall_clock.seconds_until(text) <= 60


def test_a_time_in_another_zone_is_the_same_time() -> None:
    there = (datetime.now(UTC) + timedelta(seconds=60)).astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert 50 < wall_clock.seconds_until(there.isoformat()) <= 60


def test_lower_case_is_understood_and_what_is_no_time_in_utc_is_not() -> None:
    assert wall_clock.seconds_until("2026-11-29t10:00:00z") == pytest.approx(
        wall_clock.seconds_until("2026-11-29T10:00:00Z"), abs=1
    )
    for text in ("0001-01-01T00:00:00+05:00", "soon"):
        with pytest.raises(ValueError, match=r"(?i)soon|0001"):
            wall_clock.seconds_until(text)


def test_later_is_not_before_the_seconds_are_over() -> None:
    assert 60 <= wall_clock.seconds_until(wall_clock.later(60)) + 0.1 <= 61.2
