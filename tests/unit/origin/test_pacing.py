from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.pacing import PacedSends


def test_without_a_limit_everything_is_sent_at_once() -> None:
    sends = PacedSends(0, max_waiting=10, max_bytes=1000)
    assert all(sends.put(str(each)) for each in range(10))
    assert sends.due(1.0) == [str(each) for each in range(10)]
    assert sends.wake_at is None


def test_messages_go_out_at_an_even_pace_in_their_order() -> None:
    sends = PacedSends(4, max_waiting=10, max_bytes=1000)
    for each in "abc":
        sends.put(each)
    assert sends.due(10.0) == ["a"]
    assert sends.wake_at == 10.25
    assert sends.due(10.2) == []
    assert sends.due(10.25) == ["b"]
    assert sends.due(10.6) == ["c"]
    sends.put("d")
    assert sends.due(10.7) == []
    assert sends.due(10.85) == ["d"]


def test_a_ping_delays_the_next_message() -> None:
    sends = PacedSends(4, max_waiting=10, max_bytes=1000)
    sends.sent(10.0)
    sends.put("a")
    assert sends.due(10.0) == []
    assert sends.due(10.25) == ["a"]


def test_too_many_waiting_messages_are_refused() -> None:
    sends = PacedSends(1, max_waiting=2, max_bytes=1000)
    assert [sends.put(each) for each in "abc"] == [True, True, False]


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5)), max_size=40))
def test_no_second_has_more_messages_than_allowed(per_second: int, steps: list[tuple[float, int]]) -> None:
    sends = PacedSends(per_second, max_waiting=1000, max_bytes=1 << 20)
    now, sent, put = 0.0, [], 0
    for wait, count in steps:
        now += wait
        for _ in range(count):
            sends.put(str(put))
            put += 1
        sent += [(now, each) for each in sends.due(now)]
    while (at := sends.wake_at) is not None:
        now = max(now, at)
        sent += [(now, each) for each in sends.due(now)]
    assert [each for _, each in sent] == [str(each) for each in range(put)]
    times = [at for at, _ in sent]
    assert all(later - at >= 1 - 1e-6 for at, later in zip(times, times[per_second:], strict=False))


def test_only_so_many_bytes_may_wait_or_one_larger_message() -> None:
    sends = PacedSends(1, max_waiting=10, max_bytes=100)
    assert sends.put(b"x" * 1000)
    assert sends.due(0.0) == [b"x" * 1000]
    assert sends.put(b"y" * 1000)
    assert not sends.put(b"z")
    assert sends.due(1.0) == [b"y" * 1000]
    assert sends.put(b"z" * 60)
    assert not sends.put(b"z" * 60)
