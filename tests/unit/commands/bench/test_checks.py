"""What messages say of themselves, and what is wrong with their order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.commands.bench.checks import KEY_BYTES, Latencies, Order, OrderCounts, Stamp, Stamps
from lobby_gateway.commands.origin import message


def counts_of(*numbers: int, times: list[float] | None = None) -> OrderCounts:
    counts, order = OrderCounts(), Order()
    for index, number in enumerate(numbers):
        order.take(Stamp(number, times[index] if times else 0.0), counts)
    return counts


def shown(counts: OrderCounts) -> tuple[int, int, int, int]:
    return counts.gaps, counts.duplicates, counts.reorderings, counts.restarts


@pytest.mark.parametrize("size", [0, 64, 1024, 200_000])
def test_reads_the_stamp_of_the_tickers_messages(size: int) -> None:
    stamps = Stamps()
    text = message(17, 1767225600.25, size).encode()
    assert stamps.read(text) == Stamp(17, 1767225600.25)
    assert stamps.read(text) == Stamp(17, 1767225600.25)
    assert text[:KEY_BYTES] in stamps.known


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        (json.dumps({"payload": "x" * 500, "time": 5, "seq": 3}), Stamp(3, 5.0)),
        ('{"seq": 9}', Stamp(9, 0.0)),
        ('{"seq": 9, "time": "noon"}', Stamp(9, 0.0)),
        ('{"seq": 9, "time": true}', Stamp(9, 0.0)),
        ('{"seq": true}', None),
        ('{"seq": 1.5, "time": 2}', None),
        ('{"time": 2}', None),
        ("[1, 2]", None),
        ("hello", None),
        ("", None),
    ],
)
def test_any_object_with_a_whole_number_seq_has_a_stamp_and_nothing_else_has(text: str, stamp: Stamp | None) -> None:
    stamps = Stamps()
    assert [stamps.read(text.encode()) for _ in range(2)] == [stamp, stamp]


def test_binary_messages_have_no_stamp() -> None:
    assert Stamps().read(b"\xff\x00\xfe") is None


def test_what_is_remembered_of_messages_is_bounded() -> None:
    stamps = Stamps()
    for number in range(3000):
        assert stamps.read(message(number, 1.5, 0).encode()) == Stamp(number, 1.5)
        assert stamps.read(f"plain {number}".encode()) is None
    assert len(stamps.known) <= 1024
    assert len(stamps._others) <= 1024


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((5, 6, 7), (0, 0, 0, 0)),
        ((5, 6, 9, 10), (2, 0, 0, 0)),
        ((5, 6, 6, 7), (0, 1, 0, 0)),
        ((5, 7, 6, 8), (0, 0, 1, 0)),
        ((5, 9, 7, 6, 10), (1, 0, 2, 0)),
        ((5, 9, 7, 7), (2, 1, 1, 0)),
        ((5, 4), (0, 1, 0, 0)),
    ],
    ids=str,
)
def test_tells_what_is_missing_from_what_came_twice_or_late(
    numbers: tuple[int, ...], expected: tuple[int, int, int, int]
) -> None:
    assert shown(counts_of(*numbers)) == expected


def test_an_origin_that_began_anew_has_sent_nothing_twice() -> None:
    counts = counts_of(8, 9, 1, 2, times=[10.0, 11.0, 12.0, 13.0])
    assert shown(counts) == (0, 0, 0, 1)


def test_what_is_remembered_of_gaps_is_bounded() -> None:
    order, counts = Order(), OrderCounts()
    for number in range(0, 1000, 2):
        order.take(Stamp(number, 0.0), counts)
    assert counts.gaps == 499
    assert len(order._holes) == 64
    order.take(Stamp(997, 0.0), counts)
    order.take(Stamp(1, 0.0), counts)
    assert shown(counts) == (498, 1, 1, 0)


@given(st.permutations(range(20)))
def test_a_sequence_in_any_order_misses_nothing_behind_the_first_that_came(numbers: list[int]) -> None:
    counts = counts_of(*numbers)
    assert (counts.gaps, counts.restarts) == (0, 0)
    before_the_first = numbers[0]  # nothing says that these were to come
    assert counts.duplicates == before_the_first
    late = sum(number < max(numbers[: index + 1]) for index, number in enumerate(numbers))
    assert counts.reorderings + counts.duplicates == late


def test_quantiles_are_exact_below_a_millisecond_and_to_a_part_in_512_above() -> None:
    latencies = Latencies()
    latencies.add([100.0 + us / 1e6 for us in range(1, 1001)], 100.0)
    found = latencies.quantiles([0.5, 0.99])
    assert found == pytest.approx([500e-6, 990e-6], abs=2e-6)
    slow = Latencies()
    slow.add([107.654321], 100.0, count=3)
    assert len(slow) == 3
    assert slow.quantiles([0.5]) == pytest.approx([7.654321], rel=1 / 512)


def test_of_no_latency_all_quantiles_are_zero() -> None:
    assert Latencies().quantiles([0.5, 0.999]) == [0.0, 0.0]


def test_latencies_of_a_clock_that_is_behind_are_negative() -> None:
    latencies = Latencies()
    latencies.add([99.9995], 100.0)
    assert latencies.quantiles([0.5])[0] == pytest.approx(-0.0005, abs=2e-6)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200))
def test_however_many_latencies_there_are_few_are_kept(values: list[float]) -> None:
    latencies = Latencies()
    latencies.add(values, 0.0)
    assert len(latencies) == len(values)
    assert latencies.quantiles([1.0])[0] <= max(values) + 1e-6
    assert len(latencies.counts) <= min(len(values), 1024 + 512 * 20)
