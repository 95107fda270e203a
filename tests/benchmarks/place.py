"""Where a process runs: on the machine's own network, or in a network namespace."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """A network.

    Attributes:
        address: of the processes in it.
        namespace: path of its namespace; empty: the network of this process.
    """

    address: str = "127.0.0.1"
    namespace: str = ""

    def command(self, *command: str) -> tuple[str, ...]:
        """A command that runs in this network."""
        return ("nsenter", f"--net={self.namespace}", "--", *command) if self.namespace else command

    def inside(self, work: Callable[[], _T]) -> _T:
        """Calls a function whose sockets belong to this network."""
        if not self.namespace:
            return work()
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(work).result()

    def _enter(self) -> None:
        """Moves this thread alone (`os.setns` needs Python 3.12)."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(self.namespace).open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), self.namespace)


HERE = Place()
