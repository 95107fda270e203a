"""What several test processes share; here, threads take their place."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.cluster.support.processes import Finished, Users

SECONDS = 10.0


def test_the_first_user_makes_it_and_the_last_one_removes_it(tmp_path: Path) -> None:
    one, two = (Users(tmp_path / "users") for _ in range(2))
    for _ in range(2):  # it is made again after it was removed
        with one.joining() as first:
            assert first
        with two.joining() as first:
            assert not first
        with one.leaving() as last:
            assert not last
        with two.leaving() as last:
            assert last


def test_others_join_once_the_first_user_has_made_it(tmp_path: Path) -> None:
    order: list[str] = []

    def join() -> None:
        with Users(tmp_path / "users").joining() as first:
            order.append(f"joined, first: {first}")

    other = threading.Thread(target=join)
    with Users(tmp_path / "users").joining():
        other.start()
        other.join(0.3)  # the time in which it would join if it did not wait
        order.append("made")
    other.join(SECONDS)
    assert order == ["made", "joined, first: False"]


def test_a_wait_ends_once_all_tests_are_over(tmp_path: Path) -> None:
    finished = Finished(tmp_path / "finished")
    finished.add("one")
    finished.wait({"one"})
    waiting = threading.Thread(target=Finished(tmp_path / "finished").wait, args=({"one", "two"},))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    finished.add("two")
    waiting.join(SECONDS)
    assert not waiting.is_alive()


def test_a_wait_that_took_too_long_is_an_error_that_others_get_at_once(tmp_path: Path) -> None:
    finished = Finished(tmp_path / "finished")
    with pytest.raises(TimeoutError, match="not over yet: one"):
        finished.wait({"one"}, seconds=0)
    with pytest.raises(TimeoutError):
        Finished(tmp_path / "finished").wait({"one"}, seconds=SECONDS)
    finished.add("one")
    finished.wait({"one"})
