"""Files that change while a process runs: the mounted ConfigMaps and Secrets of a pod.

A kubelet writes a whole new folder and then replaces the symbolic link `..data` that leads to it, in one step; what stands
beside it are links through that one. So a file is followed by what its name leads to, looked at once a second: no event to
miss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from lobby_gateway.errors import UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_SECONDS = 1.0

Stamp = tuple[int, int, int, int] | None


async def watch_files(
    what: str,
    files: Iterable[Path],
    read: Callable[[], T],
    take: Callable[[T], None],
    *,
    look_seconds: float = LOOK_SECONDS,
) -> NoReturn:
    """Reads files anew whenever one of them is another than before, beginning now, until it is cancelled.

    Args:
        what: they are, for a log line.
        files: whose change is looked for.
        read: is called in a thread; raises UserError if what is there can't be used: then it stays as it was.
        take: is called on the event loop with what was read.
        look_seconds: between two looks.
    """
    files = tuple(files)
    seen: tuple[Stamp, ...] | None = None
    problem = ""
    while True:
        # The stamps come first: what changes while it is read is seen, and read, the next time.
        stamps = await asyncio.to_thread(_stamps, files)
        if stamps != seen:
            try:
                value = await asyncio.to_thread(read)
            except UserError as error:
                if str(error) != problem:
                    problem = str(error)
                    logger.warning("%s can't be used: it stays as it was", what, extra={"problem": problem})
            else:
                problem = ""
                take(value)
            seen = stamps
        await asyncio.sleep(look_seconds)


def read_folder(folder: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The texts of files in a mounted folder, all of one moment, without the line break at their end.

    Files that can't be read are left out.
    """
    data = folder / "..data"
    names = tuple(names)
    for _ in range(10):  # the folder behind the link may be replaced, and deleted, while it is read
        place = data.resolve() if data.is_symlink() else folder
        texts = {name: text for name in names if (text := _text(place / name)) is not None}
        if place == folder or place == data.resolve():
            break
    return texts


def _text(file: Path) -> str | None:
    try:
        # As the environment has them: bytes that are no UTF-8 come out again as they went in (PEP 383).
        return file.read_bytes().decode(errors="surrogateescape").removesuffix("\n")
    except OSError:
        return None


def _stamps(files: tuple[Path, ...]) -> tuple[Stamp, ...]:
    return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
