"""Messages to the origin at intervals."""

from __future__ import annotations

from lobby_gateway.origin.templates import Template
from lobby_gateway.origin.timed_messages import TimedMessage, TimedMessages


def timed(*seconds: float, now: float = 0.0) -> TimedMessages:
    return TimedMessages(
        [TimedMessage(f"every[{i}]", each, Template(str(i), (), ())) for i, each in enumerate(seconds)], now
    )


def test_each_is_due_after_its_interval_again_and_again() -> None:
    found = timed(5, 2)
    due = []
    while found.wake_at is not None and found.wake_at <= 10:
        now = found.wake_at
        due += [(now, each.field) for each in found.due(now)]
    first = [(at, "every[0]") for at in (5, 10)]
    assert sorted(due) == sorted([*first, *((at, "every[1]") for at in (2, 4, 6, 8, 10))])


def test_nothing_is_due_early() -> None:
    assert timed(5).due(4.99) == []


def test_after_a_pause_of_ours_each_is_due_once_and_not_at_once_again() -> None:
    found = timed(2)
    assert len(found.due(1000.5)) == 1
    assert found.due(1000.6) == []
    assert found.wake_at == 1001.5


def test_without_messages_there_is_nothing_to_wake_for() -> None:
    assert timed().wake_at is None
