from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.clients.rate_limit import FloodLimit, RateLimiter

KEYS = st.sampled_from("abcd")
GAPS = st.floats(0, 3, allow_subnormal=False)


def granted(limiter: RateLimiter, key: str, now: float, rate: float, burst: float) -> bool:
    return limiter.take(key, now, rate=rate, burst=burst) == 0.0


def test_grants_a_burst_and_then_the_rate() -> None:
    limiter = RateLimiter(100)
    assert [granted(limiter, "a", 0.0, 2, 3) for _ in range(5)] == [True, True, True, False, False]
    assert [granted(limiter, "a", 0.5, 2, 3) for _ in range(2)] == [True, False]
    assert [granted(limiter, "a", 100.0, 2, 3) for _ in range(4)] == [True, True, True, False]


def test_keys_have_separate_buckets() -> None:
    limiter = RateLimiter(100)
    assert granted(limiter, "a", 0.0, 1, 1)
    assert not granted(limiter, "a", 0.0, 1, 1)
    assert granted(limiter, "b", 0.0, 1, 1)


def test_a_full_table_forgets_the_least_recently_used_and_refuses_no_new_key() -> None:
    limiter = RateLimiter(max_keys=2)
    assert all(granted(limiter, key, 0.0, 1, 1) for key in "ab")
    assert granted(limiter, "c", 0.0, 1, 1)
    assert len(limiter) == 2
    assert not granted(limiter, "b", 0.0, 1, 1)
    assert granted(limiter, "a", 0.0, 1, 1)  # forgotten, so its bucket is full


def test_full_buckets_are_forgotten_as_others_are_used() -> None:
    limiter = RateLimiter(100)
    for number in range(100):
        limiter.take(str(number), 0.0, rate=1, burst=1)
    for number in range(100):
        limiter.take("late", 10.0 + number, rate=1, burst=1)
    assert len(limiter) == 1


def test_a_table_without_keys_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_keys: 0 is too small"):
        RateLimiter(0)


@given(
    st.integers(1, 20), st.integers(1, 30), st.integers(1, 4), st.lists(st.tuples(KEYS, GAPS), min_size=1, max_size=80)
)
def test_no_key_gets_more_than_its_burst_and_its_rate(
    rate: int, burst: int, max_keys: int, tries: list[tuple[str, float]]
) -> None:
    """Laws: over any time, a key that is not forgotten gets at most burst + rate * time tokens; a refusal changes nothing, and
    its wait is exact: no token before it, one after it; the table is bounded."""
    limiter = RateLimiter(max_keys if len({key for key, _ in tries}) <= max_keys else 4)
    times: dict[str, list[float]] = {}
    now = 1000.0
    for key, gap in tries:
        now += gap
        wait = limiter.take(key, now, rate=rate, burst=burst)
        assert len(limiter) <= limiter.max_keys
        if not wait:
            times.setdefault(key, []).append(now)
            continue
        assert 0 < wait <= 1 / rate + 1e-6
        assert limiter.take(key, now, rate=rate, burst=burst) == wait
        if wait > 1e-3:
            assert limiter.take(key, now + wait * 0.9, rate=rate, burst=burst) > 0
    for grants in times.values():
        for first in range(len(grants)):
            for last in range(first, len(grants)):
                assert last - first + 1 <= burst + rate * (grants[last] - grants[first]) + 1e-3


@given(st.integers(1, 20), st.integers(1, 30), st.integers(0, 60))
def test_a_client_that_waits_as_long_as_asked_is_granted(rate: int, burst: int, tries: int) -> None:
    limiter = RateLimiter(100)
    now = 7.25
    for _ in range(burst + tries):
        now += limiter.take("a", now, rate=rate, burst=burst)
    assert limiter.take("a", now + 1 / rate, rate=rate, burst=burst) == 0.0


@given(st.integers(0, 1000), st.integers(0, 1 << 24), st.integers(0, 5000), st.integers(0, 1 << 26))
def test_a_flood_costs_the_sum_of_its_frames_and_bytes(frames: int, size: int, per_second: int, rate: int) -> None:
    limit = FloodLimit(frames_per_second=per_second, bytes_per_second=rate)
    expected = (frames / per_second if per_second else 0) + (size / rate if rate else 0)
    assert math.isclose(limit.cost(frames, size), expected)


@given(st.integers(0, 1 << 24), st.integers(1, 1 << 26))
def test_the_largest_message_is_not_a_flood(largest: int, rate: int) -> None:
    limit = FloodLimit(bytes_per_second=rate)
    assert limit.cost(1, largest) <= limit.bucket(largest)
