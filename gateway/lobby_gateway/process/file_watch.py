"""Watches files that change while a process runs: the mounted ConfigMaps and Secrets of a pod.

A kubelet writes a new folder and then atomically replaces the symbolic link `..data`, which the links beside it go through. So
what counts is the file that a path resolves to. It is polled, which can't miss an event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from lobby_gateway.errors import UserError, internal_error
from lobby_gateway.settings import FileWatchSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

FILE_WATCH_SETTINGS = FileWatchSettings()

FileStamp = tuple[int, int, int, int] | None
"""Device, inode, size and modification time of a file; None: it does not exist."""


async def watch_files(
    what: str,
    files: Iterable[Path],
    read: Callable[[], T],
    apply: Callable[[T], None],
    *,
    settings: FileWatchSettings = FILE_WATCH_SETTINGS,
) -> NoReturn:
    """Reads files at once, and again whenever one of them changes, until it is cancelled.

    Args:
        what: name of the files in log lines.
        files: to watch.
        read: reads them, in a thread. Raises UserError if the contents are unusable; they are then ignored, as after any other
            exception.
        apply: called on the event loop with what was read.
        settings: how often to poll.
    """
    files = tuple(files)
    last: tuple[FileStamp, ...] | None = None
    problem = ""
    while True:
        # Stamps are taken before reading: a change during the read is noticed, and read, in the next round.
        stamps = await asyncio.to_thread(_stamps, files)
        if stamps != last:
            before, problem = problem, ""
            try:
                apply(await asyncio.to_thread(read))
            except UserError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001  # no contents of a file may end the process
                problem = internal_error(error)
            if problem not in ("", before):
                logger.warning("can't use %s, keeping the previous contents", what, extra={"problem": problem})
            last = stamps
        await asyncio.sleep(settings.poll_seconds)


def read_folder(folder: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The texts of files in a mounted folder, all from one version of it.

    Files that can't be read are left out.
    """
    data = folder / "..data"
    names = tuple(names)
    for _ in range(10):  # the folder that the link points to may be replaced, and deleted, while it is read
        version = data.resolve() if data.is_symlink() else folder
        texts = {name: text for name in names if (text := _text(version / name)) is not None}
        if version == folder or version == data.resolve():
            break
    return texts


def _text(file: Path) -> str | None:
    try:
        # Decoded like the environment: bytes that are not UTF-8 are encoded back unchanged (PEP 383).
        return file.read_bytes().decode(errors="surrogateescape")
    except OSError:
        return None


def _stamps(files: tuple[Path, ...]) -> tuple[FileStamp, ...]:
    return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> FileStamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
