"""What `lobby up` shows: plain lines, and the live table."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import threading
from collections.abc import Sequence

import pytest
from rich.console import Console

from lobby_operator.local.terminal import TRY_COMMAND, Terminal, open_terminal, render
from lobby_operator.local.view import LobbyRow, LobbySummary, TerminalView
from lobby_operator.settings import LocalModeSettings


def view(*rows: LobbyRow, **fields: object) -> TerminalView:
    lobby = LobbySummary(name="prices", url="ws://127.0.0.1:8000/prices", lobbies=rows, waiting=3, dropped=12345)
    return TerminalView(lobbies=(lobby,), admin="http://127.0.0.1:8001", **{"greeters": (1, 1), **fields})  # type: ignore[arg-type]


def row(number: int = 1, **fields: object) -> LobbyRow:
    given = {"phase": "open", "clients": 100, "seats": 512, "origin": "Connected", "rate": 1000.54, **fields}
    return LobbyRow(name=f"prices-{number}", **given)  # type: ignore[arg-type]


def shown(what: TerminalView, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(render(what, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def line_with(text: str, lines: list[str]) -> str:
    return next(line for line in lines if text in line)


def test_shows_where_to_connect_and_how_to_try_it() -> None:
    text = "\n".join(shown(view(row())))
    assert "ws://127.0.0.1:8000/prices" in text
    assert f"{TRY_COMMAND} ws://127.0.0.1:8000/prices" in text
    assert "status page: http://127.0.0.1:8001/" in text


def test_suggested_client_exists() -> None:
    done = subprocess.run([*TRY_COMMAND.split(), "--version"], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("websockets ")


def test_each_row_has_phase_seats_origin_and_rate_and_the_latest_is_marked() -> None:
    lines = shown(view(row(1), row(2, phase="draining", origin="Waiting", latest=True)))
    assert "100/512" in line_with("prices-1", lines)
    assert "1,000.5" in line_with("prices-1", lines)
    assert "open" in line_with("prices-1", lines)
    assert "draining ←" in line_with("prices-2", lines)
    assert "Waiting" in line_with("prices-2", lines)
    assert "200 of 1,024 seats in 2 lobbies, 3 waiting, 12,345 dropped" in line_with("waiting,", lines)


def test_always_fits_80_columns_and_24_lines() -> None:
    rows = [row(n, phase="draining", latest=True, clients=4096, seats=4096, origin="Connecting") for n in range(1000)]
    lines = shown(view(*rows, seconds=360000.0))
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23  # and the cursor
    assert "and 98" in line_with("more", lines)
    assert "4,096,000 of 4,096,000 seats in 1000 lobbies" in "\n".join(lines)


def test_bar_shows_a_single_client_and_a_single_free_seat() -> None:
    assert "█" in line_with("1/512", shown(view(row(clients=1))))
    assert "░" in line_with("511/512", shown(view(row(clients=511))))
    assert "░" not in line_with("512/512", shown(view(row(clients=512))))
    assert "█" not in line_with(" 0/512", shown(view(row(clients=0))))
    assert "0/0" in line_with("prices-1", shown(view(row(clients=0, seats=0))))


def test_shows_that_it_is_stopping_and_that_greeters_are_missing() -> None:
    lines = shown(view(row(), stopping=True, greeters=(1, 2)))
    assert "stopping" in lines[0]
    assert "1 of 2 greeters respond" in "\n".join(lines)


class RecordingScreen:
    def __init__(self) -> None:
        self.written: list[tuple[list[str], TerminalView | None]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.closed = False

    def write(self, lines: Sequence[str], view: TerminalView | None) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.written.append((list(lines), view))

    def close(self) -> None:
        self.closed = True


def test_blocked_screen_blocks_nobody_and_gets_the_latest_when_it_continues() -> None:
    screen = RecordingScreen()
    out = Terminal(lambda: screen, LocalModeSettings(max_pending_lines=10))
    out.line("first")
    assert screen.entered.wait(20)
    for count in range(25):
        out.line(f"line {count}")
        out.show(view(seconds=float(count)))
    screen.gate.set()
    out.close()
    assert screen.written[0] == (["first"], None)
    lines, latest = screen.written[1]
    assert lines == [
        "(15 lines were dropped: the terminal was not read in time)",
        *(f"line {n}" for n in range(15, 25)),
    ]
    assert latest is not None
    assert latest.seconds == 24.0
    assert screen.closed


def test_closing_gives_up_on_a_blocked_screen() -> None:
    screen = RecordingScreen()
    out = Terminal(lambda: screen, LocalModeSettings(terminal_close_seconds=0.01))
    out.line("first")
    out.close()
    assert not screen.closed
    screen.gate.set()


def test_prints_plain_lines_without_a_terminal() -> None:
    out = io.StringIO()
    screen = open_terminal(plain=False, out=out)
    screen.line("one")
    screen.show(view(row()))
    screen.line("two")
    screen.close()
    assert out.getvalue() == "one\ntwo\n"


def test_closed_pipe_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        screen = open_terminal(plain=False, out=out)
        screen.line("one")
        screen.close()
        screen.line("two")
    assert capsys.readouterr().err == "lobby up: output stopped: Broken pipe\n"


def test_terminal_gets_table_and_lines_and_its_cursor_back() -> None:
    ours, theirs = pty.openpty()
    read = bytearray()

    def drain() -> None:
        try:
            while data := os.read(ours, 65536):
                read.extend(data)
        except OSError:
            pass  # Linux says EIO at the end of a terminal

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(theirs, "w") as out:
        screen = open_terminal(plain=False, out=out)
        screen.show(view(row()))
        screen.line("prices-1 is open")
        screen.show(view(row(clients=77)))
        screen.close()
    reader.join(20)
    os.close(ours)
    text = read.decode()
    assert "prices-1 is open" in text
    assert "77/512" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
