"""Standard output whose reader has left: `lobby check … | head -1`. Python would print an error, and another one at exit."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TextIO

READER_GONE = 128 + signal.SIGPIPE
"""Exit code of a command whose output nobody reads any more, as a shell reports it of other programs."""


def say(line: str) -> None:
    """Prints a line of a server at once. It goes on if nobody reads it."""
    if sys.stdout is None:  # closed when the process started
        return
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop(sys.stdout)


def flush() -> None:
    """Writes what waits for standard output, rather than at exit.

    Raises:
        BrokenPipeError: its reader has left.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def reader_left() -> bool:
    """Whether the reader of standard output has left. Then what waits for it is dropped."""
    if sys.stdout is None:
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not poll.poll(0):  # only errors are reported
        return False
    drop(sys.stdout)
    return True


def drop(out: TextIO) -> None:
    """Sends what waits for an output, and all that follows, to nowhere: the interpreter would fail on it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)
