"""The output of `lobby up`: a live table on a terminal, plain lines elsewhere.

A separate thread writes everything. A terminal that is held (Ctrl-S) or a pipe that nobody reads blocks that thread, not the
lobby host; meanwhile the latest lines and the latest view are kept.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lobby_gateway.process.output import drop
from lobby_operator.local.view import LobbySummary, TerminalView
from lobby_operator.settings import LOCAL_MODE, LocalModeSettings

_BAR_CELLS = 12


def _python() -> str:
    """This Python, as a person would type it in this folder: it has `websockets`, which another Python may lack."""
    ours, here = Path(sys.executable), Path.cwd()
    return str(ours.relative_to(here) if ours.is_relative_to(here) else ours)


TRY_COMMAND = f"{_python()} -m websockets"
"""A command that runs a client; append a URL."""


class Screen(Protocol):
    """Shows lines and views. Called in the writing thread; may block."""

    def write(self, lines: Sequence[str], view: TerminalView | None) -> None:
        """Shows lines, each once, and the latest view."""

    def close(self) -> None:
        """Restores the terminal."""


class PlainScreen:
    """One line per event; views are not shown."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, lines: Sequence[str], view: TerminalView | None) -> None:
        """Writes the lines."""
        try:
            for line in lines:
                self._out.write(f"{line}\n")
            self._out.flush()
        except OSError:
            drop(self._out)
            raise

    def close(self) -> None:
        """Nothing to restore."""


class LiveScreen:
    """The live table, with lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def write(self, lines: Sequence[str], view: TerminalView | None) -> None:
        """Prints the lines above the table and redraws it."""
        for line in lines:
            self._console.print(Text(line, style="dim"), soft_wrap=True)
        if view is not None:
            self._live.update(render(view, self._console.height), refresh=True)

    def close(self) -> None:
        """Removes the table; the lines above it stay."""
        self._live.stop()


class Terminal:
    """Passes lines and views to a screen in another thread.

    Args:
        screen: creates the screen; called in that thread.
        settings: limits and times.
    """

    def __init__(self, screen: Callable[[], Screen], settings: LocalModeSettings = LOCAL_MODE) -> None:
        self._make_screen = screen
        self._settings = settings
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._view: TerminalView | None = None
        self._closing = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Shows a line. Never blocks."""
        with self._condition:
            self._lines.append(text)
            if len(self._lines) > self._settings.max_pending_lines:
                self._lines.popleft()
                self._dropped += 1
            self._condition.notify()

    def show(self, view: TerminalView) -> None:
        """Shows the latest view. Never blocks."""
        with self._condition:
            self._view = view
            self._condition.notify()

    def close(self) -> None:
        """Shows pending output and restores the terminal; gives up on one that is held."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(self._settings.terminal_close_seconds)

    def _run(self) -> None:
        screen = self._make_screen()
        try:
            while self._write_next(screen):
                pass
            screen.close()
        except OSError as error:  # the reader of a pipe exited, or the terminal was closed
            sys.stderr.write(f"lobby up: output stopped: {error.strerror}\n")

    def _write_next(self, screen: Screen) -> bool:
        with self._condition:
            while not (self._lines or self._view or self._closing):
                self._condition.wait()
            lines, view, dropped, closing = list(self._lines), self._view, self._dropped, self._closing
            self._lines.clear()
            self._view, self._dropped = None, 0
        if dropped:
            lines.insert(
                0,
                f"({dropped} {'line was' if dropped == 1 else 'lines were'} dropped: the terminal was not read in time)",
            )
        screen.write(lines, view)
        return not closing


def open_terminal(*, plain: bool, out: TextIO) -> Terminal:
    """A live table if `out` is a terminal and `plain` is false, otherwise plain lines."""
    if plain or not out.isatty():
        return Terminal(lambda: PlainScreen(out))
    return Terminal(lambda: LiveScreen(Console(file=out, highlight=False)))


_PHASE_STYLES = {"open": "green", "full": "cyan", "unresponsive": "bold red", "draining": "yellow", "starting": "blue"}


def render(view: TerminalView, height: int) -> RenderableType:
    """Renders a view for a terminal.

    Args:
        view: the view.
        height: the terminal's height in lines.
    """
    parts: list[RenderableType] = [_header(view), *(_addresses(lobby) for lobby in view.lobbies)]
    problems = [Text(f" ! {each.name}: {each.problem}", style="yellow") for each in view.lobbies if each.problem]
    # Other lines: header, blank lines, the table's head and rule, totals, the status page, and the cursor.
    room = max(3, height - 2 * len(view.lobbies) - len(problems) - 8)
    parts += [_table(view, room), *problems, _footer(view)]
    return Group(*parts)


def _header(view: TerminalView) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    minutes, seconds = divmod(int(view.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    left = Text(" Lobby Gateway", style="bold")
    right = "stopping: closing clients" if view.stopping else f"up {hours}:{minutes:02}:{seconds:02}, Ctrl-C to stop"
    line.add_row(left, Text(right, style="yellow" if view.stopping else "dim"))
    return line


def _addresses(lobby: LobbySummary) -> RenderableType:
    return Text.assemble(
        (" connect to ", "dim"), (lobby.url, "bold cyan"), "\n",
        (" try        ", "dim"), f"{TRY_COMMAND} {lobby.url}",
        overflow="fold",
    )  # fmt: skip


def _bar(taken: int, seats: int) -> Text:
    share = min(1.0, taken / seats) if seats else 0.0
    # A lobby with one client does not look empty, and one with a free seat does not look full.
    cells = round(share * _BAR_CELLS)
    cells = max(cells, 1) if taken else cells
    cells = min(cells, _BAR_CELLS - 1) if taken < seats else cells
    return Text.assemble(("█" * cells, "green"), ("░" * (_BAR_CELLS - cells), "dim"), f" {taken}/{seats}")


def _table(view: TerminalView, room: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=False)
    table.add_column("lobby", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("phase", no_wrap=True)
    table.add_column("seats", no_wrap=True)
    table.add_column("origin", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("msg/s", justify="right", no_wrap=True)
    rows = [row for lobby in view.lobbies for row in lobby.lobbies]
    visible = rows if len(rows) <= room else rows[: room - 1]
    for row in visible:
        name = Text(row.name, style="bold" if row.latest else "")
        phase = Text(row.phase + (" ←" if row.latest else ""), style=_PHASE_STYLES.get(row.phase, "dim"))
        origin = Text(row.origin, style="" if row.origin in {"Connected", "Idle"} else "yellow")
        table.add_row(name, phase, _bar(row.clients, row.seats), origin, f"{row.rate:,.1f}")
    if len(visible) < len(rows):
        table.add_row(Text(f"and {len(rows) - len(visible)} more", style="dim"))
    return table


def _footer(view: TerminalView) -> RenderableType:
    rows = [row for lobby in view.lobbies for row in lobby.lobbies]
    clients, seats = sum(row.clients for row in rows), sum(row.seats for row in rows)
    totals = [f"{clients:,} of {seats:,} seats in {len(rows)} {'lobby' if len(rows) == 1 else 'lobbies'}"]
    totals.append(f"{sum(lobby.waiting for lobby in view.lobbies):,} waiting")
    totals.append(f"{sum(lobby.dropped for lobby in view.lobbies):,} dropped")
    serving, expected = view.greeters
    text = Text(" " + ", ".join(totals))
    if serving < expected:
        text.append(f", {serving} of {expected} greeters respond", style="bold red")
    return Group(text, Text(f" status page: {view.admin}/", style="dim"))
