"""A terminal that runs a program: reads its output and sends keys such as Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import termios
import uuid
from collections.abc import AsyncIterator

from tests.support.proc import ProcessInfo, marked
from tests.support.processes import ROOT, with_mark
from tests.support.waiting import until

CTRL_C = "\x03"
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")


class Terminal:
    """The program's terminal, from the user's side.

    Attributes:
        pid: process ID of the program.
    """

    def __init__(self, master: int, mark: str, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._mark = mark
        self._process = process
        self._written = b""
        self.pid = process.pid
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other end was closed
            data = b""
        if data:
            self._written += data
        else:
            asyncio.get_running_loop().remove_reader(self._master)

    @property
    def raw(self) -> str:
        """Everything written so far."""
        return self._written.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same, without escape sequences."""
        return _ESCAPES.sub("", self.raw)

    async def shows(self, pattern: str, *, deadline: float = 20.0) -> re.Match[str]:
        """Waits until the output matches; returns the latest match."""

        def look() -> re.Match[str] | None:
            return next(iter(list(re.finditer(pattern, self.text))[-1:]), None)

        found: re.Match[str] = await until(
            look, deadline=deadline, describe=lambda: f"{pattern!r} on the terminal; {self.text[-3000:]}"
        )
        return found

    def press(self, keys: str) -> None:
        """Sends keys."""
        os.write(self._master, keys.encode())

    async def exited(self, *, deadline: float = 20.0) -> int:
        """Waits for the program to exit; returns its exit code."""
        async with asyncio.timeout(deadline):
            return await self._process.wait()

    def left(self) -> list[ProcessInfo]:
        """Running processes of the program."""
        return marked(self._mark)

    async def close(self) -> None:
        """Kills remaining processes and closes the terminal."""
        for found in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, 9)
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@contextlib.asynccontextmanager
async def terminal(*command: str, columns: int = 110, rows: int = 40) -> AsyncIterator[Terminal]:
    """Runs a program in a new terminal."""
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        mark = uuid.uuid4().hex
        env = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
        process = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", *command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=with_mark({**env, "TERM": "xterm-256color"}, mark),
        )
    finally:
        os.close(slave)
    shown = Terminal(master, mark, process)
    try:
        yield shown
    except Exception as error:
        error.add_note(shown.text[-4000:])
        raise
    finally:
        await shown.close()
