from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway import close_codes
from lobby_gateway.clients.door import REFILL, Door


def with_inside(count: int, *, max_clients: int = 0, max_memory: int = 0) -> Door:
    door = Door(max_clients, max_memory)
    for _ in range(count):
        door.enter()
    return door


def test_without_limits_everyone_is_let_in() -> None:
    door = with_inside(100_000)
    door.see(1 << 50)
    assert door.refusal() is None
    assert not door.memory_is_full


def test_so_many_clients_and_no_more() -> None:
    door = with_inside(2, max_clients=2)
    assert door.refusal() is close_codes.GREETER_FULL
    door.leave()
    assert door.refusal() is None


def test_a_full_memory_lets_nobody_in() -> None:
    door = with_inside(10, max_memory=1000)
    door.see(999)
    assert door.refusal() is None
    door.see(1000)
    assert door.memory_is_full
    assert door.refusal() is close_codes.NO_MEMORY
    door.see(999)
    assert door.refusal() is None


def test_memory_that_clients_left_behind_is_room_for_others() -> None:
    door = with_inside(10, max_memory=1000)
    door.see(1200)
    door.leave()
    assert door.refusal() is close_codes.NO_MEMORY  # 9 of 10: not fewer than nine tenths
    door.leave()
    assert door.refusal() is None
    door.see(1200)  # not given back to the kernel yet
    door.enter()
    assert door.refusal() is close_codes.NO_MEMORY


def test_a_process_that_is_full_of_itself_lets_nobody_in() -> None:
    door = Door(max_memory=1000)
    door.see(1200)
    assert door.refusal() is close_codes.NO_MEMORY


def test_nobody_can_leave_who_is_not_inside() -> None:
    with pytest.raises(ValueError, match="nobody is inside"):
        Door().leave()


@given(st.integers(0, 5), st.integers(0, 5), st.lists(st.integers(0, 9), max_size=60))
def test_whoever_asks_first_never_gets_beyond_the_limits(max_clients: int, max_memory: int, steps: list[int]) -> None:
    """Laws: asked before each entry, no more than the limit are inside; while memory is full nobody gets in beyond those who
    were there when it became so; without a limit there is no refusal."""
    door = Door(max_clients, max_memory)
    there_when_full: int | None = None
    for step in steps:
        if step == 0 and door.inside:
            door.leave()
        elif step >= 6:
            size = step - 6
            door.see(size)
            full = bool(max_memory) and size >= max_memory
            assert door.memory_is_full is full
            there_when_full = None if not full else door.inside if there_when_full is None else there_when_full
        elif door.refusal() is None:
            door.enter()
            assert not max_clients or door.inside <= max_clients
            assert there_when_full is None or door.inside <= max(there_when_full * REFILL + 1, 0)
        else:
            assert max_clients or max_memory
