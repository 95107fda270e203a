"""Processes and TCP connections from `/proc`. Linux only, like the product."""

from __future__ import annotations

import os
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
        stat = (_PROC / str(pid) / "stat").read_text()
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return ProcessInfo(
        pid=pid,
        parent=int(parent),
        state=state,
        command=tuple(part.decode(errors="replace") for part in command.split(b"\0")[:-1]),
    )


def processes() -> list[ProcessInfo]:
    """All processes."""
    return [found for name in _PROC.iterdir() if name.name.isdigit() and (found := process(int(name.name)))]


def descendants(pid: int) -> list[ProcessInfo]:
    """All descendants of a process."""
    everyone = processes()
    result: list[ProcessInfo] = []
    parents = {pid}
    while parents:
        children = [found for found in everyone if found.parent in parents]
        result += children
        parents = {found.pid for found in children}
    return result


def marked(mark: str) -> list[ProcessInfo]:
    """Processes with a text in their environment: those started with it, and all of their descendants."""
    result = []
    for found in processes():
        try:
            environment = (_PROC / str(found.pid) / "environ").read_bytes()
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


def connections() -> list[Connection]:
    """All TCP sockets of this machine, IPv4 and IPv6."""
    result = []
    for name in ("net/tcp", "net/tcp6"):
        for line in (_PROC / name).read_text().splitlines()[1:]:
            _, local, remote, state, *rest = line.split()
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
    return sum(1 for each in connections() if each.local_port == port and each.state == ESTABLISHED)


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
    return sorted({each.local_port for each in connections() if each.state == LISTEN and each.inode in inodes})
