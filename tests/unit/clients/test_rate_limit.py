from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.clients.rate_limit import (
    BURST_SECONDS,
    AddressLimits,
    FloodLimit,
    RateLimiter,
    address_key,
    retry_after,
)
from lobby_gateway.resource.spec import LimitsSpec

KEYS = st.sampled_from("abcd")
GAPS = st.floats(0, 3, allow_subnormal=False)


def limits(connections: int = 0, connects: int = 0) -> LimitsSpec:
    return LimitsSpec(connections_per_address=connections, connects_per_second=connects)


def granted(limiter: RateLimiter, key: str, now: float, rate: float, burst: float) -> bool:
    return limiter.take(key, now, rate=rate, burst=burst) == 0.0


def test_a_burst_goes_through_and_then_the_rate() -> None:
    limiter = RateLimiter()
    assert [granted(limiter, "a", 0.0, 2, 3) for _ in range(5)] == [True, True, True, False, False]
    assert [granted(limiter, "a", 0.5, 2, 3) for _ in range(2)] == [True, False]
    assert [granted(limiter, "a", 100.0, 2, 3) for _ in range(4)] == [True, True, True, False]


def test_keys_do_not_share() -> None:
    limiter = RateLimiter()
    assert granted(limiter, "a", 0.0, 1, 1)
    assert not granted(limiter, "a", 0.0, 1, 1)
    assert granted(limiter, "b", 0.0, 1, 1)


def test_a_full_table_forgets_who_was_not_seen_for_longest_and_refuses_no_stranger() -> None:
    limiter = RateLimiter(max_keys=2)
    assert all(granted(limiter, key, 0.0, 1, 1) for key in "ab")
    assert granted(limiter, "c", 0.0, 1, 1)
    assert len(limiter) == 2
    assert not granted(limiter, "b", 0.0, 1, 1)
    assert granted(limiter, "a", 0.0, 1, 1)  # forgotten, so its bucket is full


def test_full_buckets_are_forgotten_on_the_way() -> None:
    limiter = RateLimiter()
    for number in range(100):
        limiter.take(str(number), 0.0, rate=1, burst=1)
    for number in range(100):
        limiter.take("late", 10.0 + number, rate=1, burst=1)
    assert len(limiter) == 1


def test_a_table_for_nobody_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_keys: 0 is too small"):
        RateLimiter(0)


@given(
    st.integers(1, 20), st.integers(1, 30), st.integers(1, 4), st.lists(st.tuples(KEYS, GAPS), min_size=1, max_size=80)
)
def test_no_key_gets_more_than_its_burst_and_its_rate(
    rate: int, burst: int, max_keys: int, tries: list[tuple[str, float]]
) -> None:
    """Laws: between any two grants to a key that was not forgotten lie no more than burst + rate * time; a refusal changes
    nothing and its wait is exact: nothing before it, one token after it; the table is bounded."""
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
def test_who_comes_back_after_the_wait_gets_in(rate: int, burst: int, tries: int) -> None:
    limiter = RateLimiter()
    now = 7.25
    for _ in range(burst + tries):
        now += limiter.take("a", now, rate=rate, burst=burst)
    assert limiter.take("a", now + 1 / rate, rate=rate, burst=burst) == 0.0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:2::", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:3::", "2001:0db8:0001:0003::/64"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("::1", "0000:0000:0000:0000::/64"),
    ],
)
def test_an_ipv6_address_counts_by_its_network(address: str, key: str) -> None:
    assert address_key(address) == key


def test_so_many_connections_of_an_address_and_no_more() -> None:
    made = AddressLimits(limits(connections=2))
    assert [made.enter("192.0.2.1", 0.0) for _ in range(3)] == [0.0, 0.0, 5.0]
    assert made.enter("192.0.2.2", 0.0) == 0.0
    made.leave("192.0.2.1")
    assert made.connections("192.0.2.1") == 1
    assert [made.enter("::ffff:192.0.2.1", 0.0) for _ in range(2)] == [0.0, 5.0]


def test_new_connections_come_at_their_rate() -> None:
    made = AddressLimits(limits(connects=1))
    for _ in range(BURST_SECONDS):
        assert made.enter("192.0.2.1", 0.0) == 0.0
        made.leave("192.0.2.1")
    assert made.enter("192.0.2.1", 0.25) == pytest.approx(0.75)
    assert made.connections("192.0.2.1") == 0
    assert made.enter("192.0.2.1", 1.0) == 0.0


def test_a_limit_set_later_counts_those_who_are_there() -> None:
    made = AddressLimits(limits())
    assert [made.enter("192.0.2.1", 0.0) for _ in range(3)] == [0.0] * 3
    made.limits = limits(connections=3)
    assert made.enter("192.0.2.1", 0.0) > 0
    made.limits = limits()
    assert made.enter("192.0.2.1", 0.0) == 0.0


def test_who_is_not_there_can_not_leave() -> None:
    made = AddressLimits(limits())
    with pytest.raises(ValueError, match="has no connection"):
        made.leave("192.0.2.1")
    made.enter("192.0.2.1", 0.0)
    made.leave("192.0.2.1")
    with pytest.raises(ValueError, match="has no connection"):
        made.leave("192.0.2.1")


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])


@given(
    st.integers(0, 3), st.integers(0, 3), st.lists(st.tuples(st.booleans(), ADDRESSES, st.floats(0, 2)), max_size=60)
)
def test_what_entered_less_what_left_is_there(
    connections: int, connects: int, steps: list[tuple[bool, str, float]]
) -> None:
    """Laws: never more of an address than its limit; each that entered can leave once; nothing is kept of who is gone."""
    made = AddressLimits(limits(connections, connects))
    there: Counter[str] = Counter()
    now = 0.0
    for enters, address, gap in steps:
        now += gap
        key = address_key(address)
        if enters:
            refused = made.enter(address, now)
            if not refused:
                there[key] += 1
            elif not connects:
                assert there[key] == connections
        elif there[key]:
            made.leave(address)
            there[key] -= 1
        assert made.connections(address) == there[key]
        if connections:
            assert there[key] <= connections
    for key, count in there.items():
        for _ in range(count):
            made.leave(key.removesuffix("/64"))
    assert not made._connections


@pytest.mark.parametrize(("wait", "seconds"), [(0.001, 1), (1.0, 1), (1.2, 2), (5.0, 5)])
def test_a_retry_after_is_whole_seconds_and_not_too_soon(wait: float, seconds: int) -> None:
    assert retry_after(wait) == seconds


@given(st.integers(0, 1000), st.integers(0, 1 << 24), st.integers(0, 5000), st.integers(0, 1 << 26))
def test_a_flood_costs_what_its_frames_and_its_bytes_do(frames: int, size: int, per_second: int, rate: int) -> None:
    limit = FloodLimit(frames_per_second=per_second, bytes_per_second=rate)
    expected = (frames / per_second if per_second else 0) + (size / rate if rate else 0)
    assert math.isclose(limit.cost(frames, size), expected)


@given(st.integers(0, 1 << 24), st.integers(1, 1 << 26))
def test_the_largest_message_is_no_flood(largest: int, rate: int) -> None:
    limit = FloodLimit(bytes_per_second=rate)
    assert limit.cost(1, largest) <= limit.bucket(largest)
