from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lobby_operator import wall_clock


def test_both_are_the_time_now_in_utc() -> None:
    before = datetime.now(UTC)
    second = datetime.strptime(wall_clock.now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    micro = datetime.strptime(wall_clock.now_micro(), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    after = datetime.now(UTC)
    assert before - timedelta(seconds=1) < second <= after
    assert before <= micro <= after
