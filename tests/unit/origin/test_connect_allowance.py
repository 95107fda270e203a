from __future__ import annotations

from lobby_gateway.origin.connect_allowance import ConnectAllowance


def test_without_a_limit_any_number_of_attempts_is_allowed() -> None:
    allowance = ConnectAllowance()
    assert all(allowance.take(0.0) for _ in range(100))
    assert not allowance.exhausted


def test_the_allowed_total_counts_all_attempts_so_far() -> None:
    allowance = ConnectAllowance(0, count=3, seconds=10)
    assert not allowance.take(0.0)
    allowance.allowed = 2
    assert allowance.take(0.0)
    assert allowance.take(1.0)
    assert allowance.exhausted
    assert not allowance.take(2.0)
    allowance.allowed = 2  # told again
    assert not allowance.take(3.0)
    assert allowance.made == 2


def test_recent_attempts_are_those_that_the_limit_still_counts() -> None:
    allowance = ConnectAllowance(count=3, seconds=10)
    for at in (0.0, 4.0, 8.0):
        allowance.take(at)
    assert [allowance.recent(now) for now in (9.0, 10.0, 17.9, 18.0)] == [3, 2, 1, 0]
