"""Standard output whose reader has left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lobby_gateway.process.output import flush, reader_left, say


def piped(monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes a pipe standard output; returns the end to read."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w"))
    return read


def test_what_is_said_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    read = piped(monkeypatch)
    say("hello")
    assert not reader_left()
    assert os.read(read, 100) == b"hello\n"
    os.close(read)
    sys.stdout.close()


def test_without_a_reader_what_waits_and_what_follows_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(piped(monkeypatch))
    sys.stdout.write("waits")
    with pytest.raises(BrokenPipeError):
        flush()
    assert reader_left()
    flush()
    say("follows")
    sys.stdout.close()


def test_a_server_speaks_on_without_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(piped(monkeypatch))
    say("hello")
    say("again")
    sys.stdout.close()


def test_a_file_has_no_reader_that_could_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert not reader_left()


def test_an_output_that_was_closed_from_the_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    say("hello")
    flush()
    assert not reader_left()
