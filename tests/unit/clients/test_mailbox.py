from __future__ import annotations

import pytest

from lobby_gateway.clients.backlog import Backlog, QueueLimits
from lobby_gateway.clients.mailbox import Dropped, Mailbox
from lobby_gateway.websocket.frames import AsideBatch, Batch

EVERYTHING = 1 << 30


def batch(text: str) -> Batch:
    """One message for each word."""
    return Batch.of([word.encode() for word in text.split()])


def backlog(*texts: str, limits: QueueLimits | None = None) -> Backlog:
    made = Backlog(limits or QueueLimits())
    for second, text in enumerate(texts):
        made.append(batch(text), float(second))
    return made


def take_all(mailbox: Mailbox, most: int = EVERYTHING) -> list[bytes]:
    taken = []
    while len(mailbox):
        data = bytes(mailbox.next(most))
        mailbox.took(len(data))
        taken.append(data)
    return taken


def test_what_waits_leaves_together_across_batches() -> None:
    mailbox = Mailbox(backlog("a b", "c", "d e"), 1)
    assert len(mailbox) == 4
    assert take_all(mailbox) == [b"bcde"]


def test_a_chunk_ends_where_a_message_ends() -> None:
    assert take_all(Mailbox(backlog("aaa bbb", "cc", "ddd"), 0), 7) == [b"aaabbb", b"ccddd"]


def test_a_chunk_has_at_least_one_message_however_little_room_there_is() -> None:
    assert take_all(Mailbox(backlog("aaa bbb", "cc"), 0), -5) == [b"aaa", b"bbb", b"cc"]


def test_an_empty_mailbox_has_nothing_to_send() -> None:
    with pytest.raises(IndexError):
        Mailbox(backlog("a"), 1).next(1)
    with pytest.raises(IndexError):
        Mailbox().next(1)


@pytest.mark.parametrize(
    ("sent", "messages", "unsent", "after"),
    [
        (1, 1, 1, b"bbccdd"),
        (2, 1, 0, b"bbccdd"),
        (3, 2, 1, b"ccdd"),
        (4, 2, 0, b"ccdd"),
        (5, 3, 1, b"dd"),
        (8, 4, 0, b""),
    ],
)
def test_a_message_that_was_begun_has_left_the_mailbox(sent: int, messages: int, unsent: int, after: bytes) -> None:
    mailbox = Mailbox(backlog("aa bb", "cc", "dd"), 0)
    assert mailbox.took(sent) == (messages, unsent)
    assert b"".join(take_all(mailbox)) == after


def test_clients_that_lag_share_what_waits() -> None:
    shared = backlog("aa", "bb", "cc")
    first, second = Mailbox(shared, 1), Mailbox(shared, 1)
    assert first.next(EVERYTHING) is second.next(EVERYTHING)


def test_messages_of_its_own_come_before_those_of_the_backlog() -> None:
    shared = backlog("a")
    mailbox = Mailbox()
    mailbox.put(batch("x y"), 1.0, QueueLimits())
    mailbox.attach(shared)
    shared.append(batch("b"), 1.0)
    assert len(mailbox) == 3
    assert take_all(mailbox) == [b"xy", b"b"]


def test_what_waits_moves_along_to_another_backlog() -> None:
    mailbox = Mailbox(backlog("a b", "c"), 1)
    mailbox.detach()
    assert len(mailbox) == 2
    other = backlog("z")
    mailbox.attach(other)
    other.append(batch("d"), 1.0)
    assert take_all(mailbox) == [b"bc", b"d"]


def test_for_a_client_that_reads_everything_waits_until_it_is_too_old() -> None:
    shared = backlog("a b", "c", "d", "e", limits=QueueLimits(messages=2, seconds=3))
    mailbox = Mailbox(shared, 0)
    assert mailbox.drop(3.0) == Dropped()
    assert len(mailbox) == 5
    assert mailbox.drop(3.5) == Dropped(old=2)
    assert take_all(mailbox) == [b"cde"]


def test_the_newest_messages_are_kept_however_old() -> None:
    mailbox = Mailbox(backlog("a b c", "d", limits=QueueLimits(messages=2)), 0)
    assert mailbox.drop(100.0) == Dropped(old=2)
    assert take_all(mailbox) == [b"cd"]


def test_for_a_client_that_does_not_read_only_the_newest_wait() -> None:
    mailbox = Mailbox(backlog("a b c", "d", limits=QueueLimits(messages=2)), 0)
    mailbox.not_reading = True
    assert mailbox.drop(1.0) == Dropped(slow=2)
    assert take_all(mailbox) == [b"cd"]


def test_the_newest_are_counted_across_a_move() -> None:
    limits = QueueLimits(messages=3)
    mailbox = Mailbox(backlog("a b c d", limits=limits), 0)
    mailbox.not_reading = True
    mailbox.detach()
    other = backlog(limits=limits)
    mailbox.attach(other)
    other.append(batch("e f"), 1.0)
    assert mailbox.drop(1.0) == Dropped(slow=3)
    assert take_all(mailbox) == [b"d", b"ef"]


def test_what_a_move_displaces_is_dropped_and_counted() -> None:
    shared = backlog(limits=QueueLimits(bytes=10))
    mailbox = Mailbox(shared, 0)
    mailbox.put(batch("aa"), 0.0, shared.limits)
    mailbox.put(batch("bbbb"), 0.0, shared.limits)
    shared.append(batch("cccc dd"), 0.0)
    mailbox.detach()
    assert take_all(mailbox) == [b"bbbbccccdd"]  # sent before the client has another bus, which drops
    assert mailbox.drop(0.0) == Dropped(memory=1)


def test_the_oldest_are_dropped_when_the_bytes_are_used_up() -> None:
    mailbox = Mailbox(backlog("aaaa bbbb", "cccc", "dddd", limits=QueueLimits(bytes=10)), 0)
    assert mailbox.drop(2.0) == Dropped(memory=2)
    assert take_all(mailbox) == [b"ccccdddd"]


def test_the_newest_batch_waits_however_large() -> None:
    mailbox = Mailbox(backlog("aaaa", "bbbbbbbb", limits=QueueLimits(bytes=4)), 0)
    assert mailbox.drop(1.0) == Dropped(memory=1)
    assert take_all(mailbox) == [b"bbbbbbbb"]


def test_the_age_is_that_of_the_oldest_message() -> None:
    mailbox = Mailbox(backlog("a", "b"), 1)
    assert mailbox.age(5.0) == 4.0
    mailbox.took(1)
    assert mailbox.age(5.0) == 0.0
    mailbox.put(batch("c"), 3.0, QueueLimits())
    assert mailbox.age(5.0) == 2.0


def test_a_backlog_forgets_what_no_client_needs() -> None:
    shared = backlog("aa bb", "cc", "dd")
    shared.forget(1)
    assert shared.bytes == 8
    shared.forget(3)
    assert (shared.bytes, shared.oldest, shared.memory_floor) == (2, 3, 0)
    assert take_all(Mailbox(shared, 3)) == [b"dd"]


def test_a_queue_of_no_messages_is_refused() -> None:
    with pytest.raises(ValueError, match="messages: 0"):
        QueueLimits(messages=0)


def test_messages_that_have_no_place_in_the_stream_wait_like_others() -> None:
    shared = Backlog(QueueLimits())
    mailbox = Mailbox()
    mailbox.put(AsideBatch.of([b"x", b"y"]), 0.0, QueueLimits())
    mailbox.put(batch("a b"), 0.0, QueueLimits())
    mailbox.attach(shared)
    for each in (batch("c d e"), AsideBatch.of([b"z"]), batch("f")):
        shared.append(each, 0.0)
    assert (len(mailbox), mailbox.placed) == (9, 6)
    mailbox.took(1)
    assert (len(mailbox), mailbox.placed) == (8, 6)
    mailbox.took(len(mailbox.next(2)))
    assert (len(mailbox), mailbox.placed) == (6, 5)
    mailbox.detach()
    assert (len(mailbox), mailbox.placed) == (6, 5)
    assert b"".join(take_all(mailbox)) == b"bcdezf"
