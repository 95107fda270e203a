"""Ends a process that is told to end while it is still importing its modules."""

from __future__ import annotations

import os
import signal
from types import FrameType


def end_early() -> None:
    """Lets SIGTERM and SIGINT end this process until they mean an orderly shutdown (`lifecycle.run`).

    The first process of a container ignores SIGTERM as long as it has no handler for it (pid_namespaces(7)): a pod that is
    deleted while it starts would take its whole grace period. And for SIGINT, Python would print a traceback.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)  # nothing has begun that could be ended in order
