from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.clients.mailbox import Mailbox
from lobby_gateway.websocket.frames import Batch


def took(mailbox: Mailbox, sent: int) -> tuple[int, bytes]:
    count, rest = mailbox.took(sent)
    return count, bytes(rest or b"")


def begin(mailbox: Mailbox, frames: list[bytes], sent: int) -> tuple[int, bytes]:
    count, rest = mailbox.begin(Batch.of(frames), sent)
    return count, bytes(rest or b"")


def take(mailbox: Mailbox) -> bytes:
    data = bytes(mailbox.next())
    mailbox.took(len(data))
    return data


def test_keeps_frames_in_order() -> None:
    mailbox = Mailbox(3)
    assert mailbox.put([b"a", b"b"]) == 0
    assert mailbox.put([b"c"]) == 0
    assert [take(mailbox) for _ in range(3)] == [b"a", b"b", b"c"]


def test_drops_the_oldest_and_returns_how_many() -> None:
    mailbox = Mailbox(2)
    assert mailbox.put([b"a", b"b", b"c"]) == 1
    assert mailbox.put([b"d"]) == 1
    assert [take(mailbox), take(mailbox)] == [b"c", b"d"]


def test_an_empty_mailbox_has_no_next_frame() -> None:
    with pytest.raises(IndexError):
        Mailbox(1).next()


def test_a_partly_sent_frame_leaves_the_mailbox_and_its_rest_is_returned() -> None:
    mailbox = Mailbox(2)
    mailbox.put([b"abcd", b"e"])
    assert took(mailbox, 3) == (1, b"d")
    assert len(mailbox) == 1
    assert took(mailbox, 1) == (1, b"")
    assert len(mailbox) == 0


def test_nothing_of_the_batch_that_filled_the_socket_is_dropped() -> None:
    mailbox = Mailbox(2)
    assert begin(mailbox, [b"aa", b"bb", b"cc", b"dd", b"ee"], 3) == (2, b"b")
    assert len(mailbox) == 3
    assert mailbox.put([b"x", b"y", b"z"]) == 1
    assert len(mailbox) == 5
    assert mailbox.next() == b"ccddee"
    assert took(mailbox, 5) == (3, b"e")
    assert [take(mailbox), take(mailbox)] == [b"y", b"z"]


def test_a_rest_of_a_batch_that_fits_the_mailbox_makes_room_for_later_frames() -> None:
    mailbox = Mailbox(2)
    assert begin(mailbox, [b"aa", b"bb", b"cc"], 1) == (1, b"a")
    assert mailbox.put([b"dd"]) == 1
    assert [take(mailbox), take(mailbox)] == [b"cc", b"dd"]


def test_a_full_socket_takes_nothing_of_a_batch() -> None:
    mailbox = Mailbox(1)
    assert begin(mailbox, [b"aa", b"bb"], 0) == (0, b"")
    assert take(mailbox) == b"aabb"
    assert len(mailbox) == 0


def test_refuses_a_capacity_below_one() -> None:
    with pytest.raises(ValueError, match="capacity: 0"):
        Mailbox(0)


@given(st.integers(1, 20), st.lists(st.one_of(st.none(), st.integers(1, 40)), max_size=40))
def test_keeps_exactly_the_newest_and_accounts_for_every_frame(capacity: int, steps: list[int | None]) -> None:
    """Laws: never more than capacity; what is held is a suffix of what came; came = taken + dropped + held."""
    mailbox = Mailbox(capacity)
    came = taken = dropped = 0
    held: list[int] = []
    for step in steps:
        if step is None:
            if held:
                assert take(mailbox) == str(held.pop(0)).encode()
                taken += 1
        else:
            new = list(range(came, came + step))
            came += step
            dropped += mailbox.put([str(n).encode() for n in new])
            held = (held + new)[-capacity:]
        assert len(mailbox) == len(held) <= capacity
        assert came == taken + dropped + len(held)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 8), st.data())
def test_however_much_the_socket_takes_a_batch_is_sent_byte_for_byte_and_counted_once(
    sizes: list[int], capacity: int, data: st.DataObject
) -> None:
    batch = Batch.of([bytes([n]) * size for n, size in enumerate(sizes)])
    mailbox = Mailbox(capacity)
    sent = data.draw(st.integers(0, len(batch.data) - 1))
    out = bytearray(batch.data[:sent])
    count, rest = mailbox.begin(batch, sent)
    while rest is not None or len(mailbox):
        if rest is not None:
            out += rest
        if not len(mailbox):
            break
        upcoming = mailbox.next()
        sent = data.draw(st.integers(1, len(upcoming)))
        out += upcoming[:sent]
        more, rest = mailbox.took(sent)
        count += more
    assert bytes(out) == batch.data
    assert count == len(batch)
