"""What `lobby up` shows: a live table on a terminal, plain lines elsewhere.

Everything is written by a thread of its own. A terminal that is held (Ctrl-S) or a pipe that nobody reads then holds that
thread, not the lobby host; of what can't be written meanwhile the latest lines and the latest view are kept.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

MAX_PENDING_LINES = 1000
CLOSE_TIMEOUT = 2.0
_BAR_CELLS = 12


def _python() -> str:
    """The Python that runs this, as somebody would type it here: it has `websockets`, which another may not have."""
    ours, here = Path(sys.executable), Path.cwd()
    return str(ours.relative_to(here) if ours.is_relative_to(here) else ours)


TRY = f"{_python()} -m websockets"
"""A client to try things with; a URL follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyRow:
    """A lobby, as shown.

    Attributes:
        name: of the lobby.
        phase: `starting`, `open`, `full`, `draining`, `silent` or `ending`.
        latest: new clients are sent to it.
        clients: seats taken.
        seats: seats it has.
        origin: state of its origin connection, in a word.
        problem: why the origin is not connected; empty when all is well.
        rate: origin messages a second.
    """

    name: str
    phase: str
    latest: bool = False
    clients: int = 0
    seats: int = 0
    origin: str = ""
    problem: str = ""
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyPanel:
    """A Lobby, as shown.

    Attributes:
        name: of the Lobby.
        url: where its clients connect.
        lobbies: its lobbies.
        waiting: clients without a seat yet.
        dropped: messages dropped from mailboxes of slow clients.
        problem: why all is not well, for a person.
    """

    name: str
    url: str
    lobbies: tuple[LobbyRow, ...] = ()
    waiting: int = 0
    dropped: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown.

    Attributes:
        lobbies: the Lobbies.
        admin: URL of the parent's admin port.
        greeters: greeters that serve, of those that should.
        seconds: since the start.
        stopping: it is about to end.
    """

    lobbies: tuple[LobbyPanel, ...]
    admin: str
    greeters: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    stopping: bool = False


class Screen(Protocol):
    """How lines and views get to a person. Called in the writing thread; may block."""

    def write(self, lines: Sequence[str], view: View | None) -> None:
        """Shows lines, each once, and what changed since."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class PlainScreen:
    """One line per event; the view is not shown."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, lines: Sequence[str], view: View | None) -> None:
        """Writes the lines."""
        try:
            for line in lines:
                self._out.write(f"{line}\n")
            self._out.flush()
        except OSError:
            # What is left in the buffer would fail again when the interpreter flushes it at its end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)
            raise

    def close(self) -> None:
        """Nothing is to be put back."""


class LiveScreen:
    """The live table, with the lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def write(self, lines: Sequence[str], view: View | None) -> None:
        """Prints the lines above the table and draws it anew."""
        for line in lines:
            self._console.print(Text(line, style="dim"), soft_wrap=True)
        if view is not None:
            self._live.update(render(view, self._console.height), refresh=True)

    def close(self) -> None:
        """Takes the table away; the lines above it stay."""
        self._live.stop()


class Terminal:
    """Hands lines and views to a screen, from a thread of its own.

    Args:
        screen: makes the screen, in that thread.
    """

    def __init__(self, screen: Callable[[], Screen]) -> None:
        self._make = screen
        self._lines: deque[str] = deque()
        self._lost = 0
        self._view: View | None = None
        self._closing = False
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Shows a line. Never blocks."""
        with self._condition:
            self._lines.append(text)
            if len(self._lines) > MAX_PENDING_LINES:
                self._lines.popleft()
                self._lost += 1
            self._condition.notify()

    def show(self, view: View) -> None:
        """Shows the latest view. Never blocks."""
        with self._condition:
            self._view = view
            self._condition.notify()

    def close(self) -> None:
        """Shows what is left and puts the terminal back; gives up on one that is held."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        screen = self._make()
        try:
            while self._write_next(screen):
                pass
            screen.close()
        except OSError as error:  # the reader of a pipe has left, or the terminal was closed
            sys.stderr.write(f"lobby up: nothing more is shown: {error.strerror}\n")

    def _write_next(self, screen: Screen) -> bool:
        with self._condition:
            while not (self._lines or self._view or self._closing):
                self._condition.wait()
            lines, view, lost, closing = list(self._lines), self._view, self._lost, self._closing
            self._lines.clear()
            self._view, self._lost = None, 0
        if lost:
            lines.insert(0, f"({lost} lines are left out: nobody read them in time)")
        screen.write(lines, view)
        return not closing


def open_terminal(*, plain: bool, out: TextIO) -> Terminal:
    """A live table where `out` is a terminal and `plain` is not asked for, otherwise plain lines."""
    if plain or not out.isatty():
        return Terminal(lambda: PlainScreen(out))
    return Terminal(lambda: LiveScreen(Console(file=out, highlight=False)))


_PHASE_STYLES = {"open": "green", "full": "cyan", "silent": "bold red", "draining": "yellow", "starting": "blue"}


def render(view: View, height: int) -> RenderableType:
    """The view for a terminal.

    Args:
        view: what is to be shown.
        height: lines that the terminal has.
    """
    parts: list[RenderableType] = [_head(view), *(_where(lobby) for lobby in view.lobbies)]
    problems = [Text(f" ! {each.name}: {each.problem}", style="yellow") for each in view.lobbies if each.problem]
    # Beside the rows: the head, blank lines, the table's head and rule, the line of totals, the last line and the cursor's.
    room = max(3, height - 2 * len(view.lobbies) - len(problems) - 8)
    parts += [_table(view, room), *problems, _foot(view)]
    return Group(*parts)


def _head(view: View) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    minutes, seconds = divmod(int(view.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    left = Text(" Lobby Gateway", style="bold")
    right = "ending: clients are closed" if view.stopping else f"up {hours}:{minutes:02}:{seconds:02}, Ctrl-C ends it"
    line.add_row(left, Text(right, style="yellow" if view.stopping else "dim"))
    return line


def _where(lobby: LobbyPanel) -> RenderableType:
    return Text.assemble(
        (" connect to ", "dim"), (lobby.url, "bold cyan"), "\n",
        (" try        ", "dim"), f"{TRY} {lobby.url}",
        overflow="fold",
    )  # fmt: skip


def _bar(taken: int, seats: int) -> Text:
    share = min(1.0, taken / seats) if seats else 0.0
    # A lobby with one client is not empty, one with a free seat is not full: the bar says so.
    cells = round(share * _BAR_CELLS)
    cells = max(cells, 1) if taken else cells
    cells = min(cells, _BAR_CELLS - 1) if taken < seats else cells
    return Text.assemble(("█" * cells, "green"), ("░" * (_BAR_CELLS - cells), "dim"), f" {taken}/{seats}")


def _table(view: View, room: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=False)
    table.add_column("lobby", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("phase", no_wrap=True)
    table.add_column("seats", no_wrap=True)
    table.add_column("origin", no_wrap=True, max_width=24, overflow="ellipsis")
    table.add_column("msg/s", justify="right", no_wrap=True)
    rows = [row for lobby in view.lobbies for row in lobby.lobbies]
    shown = rows if len(rows) <= room else rows[: room - 1]
    for row in shown:
        name = Text(row.name, style="bold" if row.latest else "")
        phase = Text(row.phase + (" ←" if row.latest else ""), style=_PHASE_STYLES.get(row.phase, "dim"))
        origin = Text(row.origin, style="" if row.origin in {"Connected", "Idle"} else "yellow")
        table.add_row(name, phase, _bar(row.clients, row.seats), origin, f"{row.rate:,.1f}")
    if len(shown) < len(rows):
        table.add_row(Text(f"and {len(rows) - len(shown)} more", style="dim"))
    return table


def _foot(view: View) -> RenderableType:
    rows = [row for lobby in view.lobbies for row in lobby.lobbies]
    clients, seats = sum(row.clients for row in rows), sum(row.seats for row in rows)
    totals = [f"{clients:,} of {seats:,} seats in {len(rows)} {'lobby' if len(rows) == 1 else 'lobbies'}"]
    totals.append(f"{sum(lobby.waiting for lobby in view.lobbies):,} waiting")
    totals.append(f"{sum(lobby.dropped for lobby in view.lobbies):,} dropped")
    serving, wanted = view.greeters
    text = Text(" " + ", ".join(totals))
    if serving < wanted:
        text.append(f", {serving} of {wanted} greeters serve", style="bold red")
    return Group(text, Text(f" status page: {view.admin}/", style="dim"))
