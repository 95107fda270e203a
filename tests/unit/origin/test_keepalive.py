from __future__ import annotations

from lobby_gateway.origin.keepalive import Due, Keepalive


def keepalive(*, ping: float = 20, timeout: float = 20, stale: float = 0) -> Keepalive:
    return Keepalive(ping_seconds=ping, timeout_seconds=timeout, stale_seconds=stale, now=100)


def test_ping_is_due_every_so_often_while_pongs_come() -> None:
    watch = keepalive()
    assert watch.wake_at() == 120
    assert watch.wake(119.9) is Due.NOTHING
    for at in (120, 140, 160):
        assert watch.wake(at) is Due.PING
        assert watch.wake(at) is Due.NOTHING
        watch.bytes_received(at + 0.1)
    assert watch.wake(179) is Due.NOTHING


def test_ping_without_an_answer_ends_it_after_the_timeout() -> None:
    watch = keepalive(timeout=5)
    assert watch.wake(120) is Due.PING
    assert watch.wake_at() == 125
    assert watch.wake(124.9) is Due.NOTHING
    assert watch.wake(125) is Due.NO_PONG


def test_timeout_longer_than_the_interval_counts_from_the_first_unanswered_ping() -> None:
    watch = keepalive(ping=10, timeout=25)
    assert watch.wake(110) is Due.PING
    assert watch.wake(120) is Due.PING
    assert watch.wake(130) is Due.PING
    assert watch.wake(134.9) is Due.NOTHING
    assert watch.wake(135) is Due.NO_PONG


def test_anything_heard_answers_a_ping() -> None:
    watch = keepalive(timeout=5)
    assert watch.wake(120) is Due.PING
    watch.message(124)
    assert watch.wake(125) is Due.NOTHING
    assert watch.wake(140) is Due.PING


def test_what_was_heard_before_the_ping_is_no_answer() -> None:
    watch = keepalive(timeout=5)
    watch.message(119.9)
    assert watch.wake(120) is Due.PING
    assert watch.wake(125) is Due.NO_PONG


def test_process_that_was_stopped_for_long_pings_first_and_judges_later() -> None:
    watch = keepalive(timeout=5)
    assert watch.wake(10_000) is Due.PING
    assert watch.wake(10_000) is Due.NOTHING
    assert watch.wake_at() == 10_005


def test_no_pings_without_an_interval() -> None:
    watch = keepalive(ping=0)
    assert watch.wake_at() is None
    assert watch.wake(10**6) is Due.NOTHING


def test_stream_is_stale_when_no_message_came_for_so_long() -> None:
    watch = keepalive(ping=0, stale=30)
    assert watch.wake_at() is None  # the stream has not begun
    watch.stream_begins(110)
    assert watch.wake_at() == 140
    watch.message(135)
    assert watch.wake(140) is Due.NOTHING
    assert watch.wake_at() == 165
    assert watch.wake(165) is Due.STALE


def test_pongs_do_not_keep_a_stream_from_being_stale() -> None:
    watch = keepalive(ping=10, timeout=5, stale=30)
    watch.stream_begins(100)
    for at in (110, 120):
        assert watch.wake(at) is Due.PING
        watch.bytes_received(at + 1)
    assert watch.wake(130) is Due.STALE


def test_last_message_is_when_the_stream_was_last_alive() -> None:
    watch = keepalive()
    assert watch.last_message == 0
    watch.stream_begins(101)
    assert watch.last_message == 101
    watch.message(105)
    watch.bytes_received(109)
    assert watch.last_message == 105


def test_parts_of_a_message_answer_a_ping() -> None:
    watch = keepalive(ping=2, timeout=2)
    assert watch.wake(102) is Due.PING
    for at in (103, 105, 107, 109):  # one message that takes so long
        watch.bytes_received(at, at * 1000)
        assert watch.wake(at + 0.5) in {Due.PING, Due.NOTHING}
        assert watch.wake(at + 0.5) is Due.NOTHING


def test_timeout_starts_over_while_the_origin_takes_what_the_ping_waits_behind() -> None:
    watch = keepalive(ping=5, timeout=5)
    assert watch.wake(105) is Due.PING
    for at in (109, 113, 117):
        watch.bytes_taken(at)
        assert watch.wake(at) is Due.NOTHING, "one ping that waits is enough"
    assert watch.wake_at() == 122
    assert watch.wake(122) is Due.NO_PONG


def test_an_answer_still_counts_after_the_timeout_started_over() -> None:
    watch = keepalive(ping=20, timeout=5)
    assert watch.wake(120) is Due.PING
    watch.bytes_received(121)
    watch.bytes_taken(124)
    assert watch.wake(126) is Due.NOTHING
    assert watch.wake(129) is Due.NOTHING


def test_bytes_taken_while_no_ping_waits_change_nothing() -> None:
    watch = keepalive()
    watch.bytes_taken(119)
    assert watch.wake(120) is Due.PING


def test_parts_of_a_message_keep_a_stream_from_being_stale_and_a_message_that_stalls_does_not() -> None:
    watch = keepalive(ping=0, stale=5)
    watch.bytes_received(100, 10)  # of the script
    watch.stream_begins(101)
    for at, size in ((105, 1000), (109, 2000), (113, 3000)):
        watch.bytes_received(at, size)
        assert watch.wake(at + 1) is Due.NOTHING
    watch.bytes_received(117, 3000)  # a control frame between two fragments
    assert watch.wake(118) is Due.STALE
