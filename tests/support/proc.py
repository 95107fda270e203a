"""Processes and TCP connections from `/proc`. Linux only, like the product."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
ESTABLISHED = "01"
LISTEN = "0A"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A running process.

    Attributes:
        pid: process ID.
        parent: process ID of the parent.
        state: `R`, `S`, `T`, `Z` …
        command: its arguments.
    """

    pid: int
    parent: int
    state: str
    command: tuple[str, ...]


def process(pid: int) -> ProcessInfo | None:
    """One process; None if it has exited."""
    try:
        state, parent = _stat(pid)
        command = _read(pid, "cmdline")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return ProcessInfo(
        pid=pid,
        parent=parent,
        state=state,
        command=tuple(part.decode(errors="replace") for part in command.split(b"\0")[:-1]),
    )


def _read(pid: int, name: str) -> bytes:
    """A file of a process; tests look at all processes many times a second, so without the comfort of `Path`."""
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
        return file.readall()


def _stat(pid: int) -> tuple[str, int]:
    """State and parent of a process."""
    state, parent = _read(pid, "stat").rpartition(b")")[2].split(None, 2)[:2]
    return state.decode(), int(parent)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208


def processes() -> list[ProcessInfo]:
    """All processes."""
    return [found for pid in _pids() if (found := process(pid))]


def descendants(pid: int) -> list[ProcessInfo]:
    """All descendants of a process."""
    children: dict[int, list[int]] = defaultdict(list)
    for each in _pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children[_stat(each)[1]].append(each)
    result: list[ProcessInfo] = []
    parents = [pid]
    while parents:
        parents = [child for parent in parents for child in children.get(parent, ())]
        result += [found for child in parents if (found := process(child))]
    return result


def marked(mark: str) -> list[ProcessInfo]:
    """Processes with a text in their environment: those started with it, and all of their descendants."""
    result = []
    for found in processes():
        try:
            environment = _read(found.pid, "environ")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # exited meanwhile, or owned by another user
        if mark.encode() in environment and found.state != "Z":
            result.append(found)
    return result


def own_pid() -> int:
    """Process ID of the test."""
    return os.getpid()


def environment(pid: int) -> dict[str, str]:
    """Environment variables of a process."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def own_bytes(pid: int) -> int:
    """Memory of a process that no file backs. It shares none of it, and the kernel can't drop it (`Anonymous`)."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def open_files(pid: int) -> int:
    """Number of open descriptors of a process."""
    return len(list((_PROC / str(pid) / "fd").iterdir()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One end of a TCP connection on this machine."""

    local_port: int
    remote_port: int
    state: str
    inode: int


def connections(*states: str) -> list[Connection]:
    """All TCP sockets of this machine, IPv4 and IPv6; those in certain states, if any are given."""
    result = []
    for name in ("net/tcp", "net/tcp6"):
        for line in (_PROC / name).read_text().splitlines()[1:]:
            _, local, remote, state, *rest = line.split()
            if states and state not in states:
                continue
            result.append(
                Connection(
                    local_port=int(local.rpartition(":")[2], 16),
                    remote_port=int(remote.rpartition(":")[2], 16),
                    state=state,
                    inode=int(rest[5]),
                )
            )
    return result


def established(port: int) -> int:
    """Number of established connections on a local port."""
    return sum(1 for each in connections(ESTABLISHED) if each.local_port == port)


def socket_inodes(pid: int) -> set[int]:
    """Inodes of the open sockets of a process; none if it has exited."""
    inodes: set[int] = set()
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return inodes
    for entry in descriptors:
        try:
            target = str(entry.readlink())
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which a process listens."""
    inodes = socket_inodes(pid)
    return sorted({each.local_port for each in connections(LISTEN) if each.inode in inodes})
