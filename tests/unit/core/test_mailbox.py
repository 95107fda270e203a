from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.core.mailbox import Mailbox


def test_keeps_frames_in_the_order_in_which_they_came() -> None:
    mailbox = Mailbox(3)
    assert mailbox.put([b"a", b"b"]) == 0
    assert mailbox.put([b"c"]) == 0
    assert [mailbox.take() for _ in range(3)] == [b"a", b"b", b"c"]


def test_drops_the_oldest_and_says_how_many() -> None:
    mailbox = Mailbox(2)
    assert mailbox.put([b"a", b"b", b"c"]) == 1
    assert mailbox.put([b"d"]) == 1
    assert [mailbox.take(), mailbox.take()] == [b"c", b"d"]


def test_take_from_an_empty_mailbox_raises() -> None:
    with pytest.raises(IndexError):
        Mailbox(1).take()


def test_refuses_a_capacity_below_one() -> None:
    with pytest.raises(ValueError, match="capacity: 0"):
        Mailbox(0)


@given(st.integers(1, 20), st.lists(st.one_of(st.none(), st.integers(1, 40)), max_size=40))
def test_holds_exactly_the_newest_and_accounts_for_every_frame(capacity: int, steps: list[int | None]) -> None:
    """Laws: never more than capacity; what is held is a suffix of what came; came = taken + dropped + held."""
    mailbox = Mailbox(capacity)
    came = taken = dropped = 0
    held: list[int] = []
    for step in steps:
        if step is None:
            if held:
                assert mailbox.take() == str(held.pop(0)).encode()
                taken += 1
        else:
            new = list(range(came, came + step))
            came += step
            dropped += mailbox.put([str(n).encode() for n in new])
            held = (held + new)[-capacity:]
        assert len(mailbox) == len(held) <= capacity
        assert came == taken + dropped + len(held)
