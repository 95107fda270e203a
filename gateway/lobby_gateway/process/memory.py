"""How much memory this process uses and may use, from Linux's `/proc` and control groups.

A process at its limit accepts no new clients and keeps serving those it has (see `clients/admission.py`); otherwise the kernel
would kill it, and disconnect all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from lobby_gateway.settings import MemorySettings

MEMORY_SETTINGS = MemorySettings()

_PAGE = os.sysconf("SC_PAGE_SIZE")
_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page


class MemoryWatch:
    """Samples the resident memory of this process.

    Args:
        observe: called with the bytes of each sample.
        settings: how often to sample.
    """

    def __init__(self, observe: Callable[[int], None], *, settings: MemorySettings = MEMORY_SETTINGS) -> None:
        self._observe = observe
        self._sample_seconds = settings.sample_seconds
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Takes the first sample."""
        self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._sample()

    def close(self) -> None:
        """Stops sampling. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _sample(self) -> None:
        # Does not block: the kernel generates the contents. Field 2 is the resident set size in pages (proc(5)).
        self._observe(int(os.pread(self._file, 128, 0).split()[1]) * _PAGE)
        self._timer = asyncio.get_running_loop().call_later(self._sample_seconds, self._sample)


def memory_of_group(own: Path = Path("/proc/self/cgroup"), groups: Path = _GROUPS) -> int:
    """Bytes that this process's control group, or the strictest one above it, may use; 0: no known limit.

    Reads control groups of versions 1 and 2 (cgroups(7)). In a container, the path in `own` may exist on the host only;
    then the groups that do exist count, the outermost of which is the container's.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return 0
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits(groups, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(groups / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=0)


def _limits(root: Path, path: str, name: str) -> list[int]:
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    found = []
    for length in range(len(parts) + 1):
        try:
            text = root.joinpath(*parts[:length], name).read_text().strip()
        except OSError:
            continue  # the group does not exist here, or is the root, which has no limit
        if text.isdecimal() and int(text) < _NO_LIMIT:
            found.append(int(text))
    return found
