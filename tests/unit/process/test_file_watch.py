"""Files that are replaced while they are watched, by a kubelet and otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.support.mounted_volume import MountedVolume
from tests.support.sockets import run
from tests.support.waiting import until

from lobby_gateway.errors import UserError
from lobby_gateway.process.file_watch import read_folder, watch_files
from lobby_gateway.settings import FileWatchSettings


@contextlib.asynccontextmanager
async def watching(files: list[Path], read: Callable[[], str]) -> AsyncIterator[list[str]]:
    taken: list[str] = []
    settings = FileWatchSettings(poll_seconds=0.01)
    task = asyncio.create_task(watch_files("a file", files, read, taken.append, settings=settings))
    try:
        yield taken
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_file_is_read_at_once_and_whenever_it_is_replaced(tmp_path: Path) -> None:
    folder = MountedVolume(tmp_path / "mounted", a="1")

    async def main() -> None:
        async with watching([folder / "a"], (folder / "a").read_text) as taken:
            await until(lambda: taken == ["1"])
            await asyncio.to_thread(folder.replace, a="2")
            await until(lambda: taken == ["1", "2"])

    run(main())


def test_a_file_that_is_written_in_place_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a"

    async def main() -> None:
        async with watching([file], lambda: file.read_text() if file.exists() else "none") as taken:
            await until(lambda: taken == ["none"])
            await asyncio.to_thread(file.write_text, "longer than before")
            await until(lambda: taken[-1:] == ["longer than before"])

    run(main())


def test_unusable_contents_are_logged_once_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = MountedVolume(tmp_path / "mounted", a="good")
    reads = 0

    def read() -> str:
        nonlocal reads
        reads += 1
        text = (folder / "a").read_text()
        if text.startswith("bad"):
            raise UserError("a: it is bad")
        return text

    async def main() -> None:
        async with watching([folder / "a"], read) as taken:
            await until(lambda: taken == ["good"])
            await asyncio.to_thread(folder.replace, a="bad 1")
            await until(lambda: reads == 2)
            await asyncio.to_thread(folder.replace, a="bad 2")
            await until(lambda: reads == 3)
            await asyncio.to_thread(folder.replace, a="better")
            await until(lambda: taken == ["good", "better"])

    with caplog.at_level(logging.WARNING):
        run(main())
    (record,) = caplog.records
    assert record.getMessage() == "can't use a file, keeping the previous contents"
    assert record.problem == "a: it is bad"  # type: ignore[attr-defined]


@pytest.mark.parametrize("fails", ["read", "apply"])
def test_an_unexpected_error_is_logged_once_and_the_watch_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    file = tmp_path / "a"
    seen: dict[str, list[str]] = {"read": [], "apply": []}

    def step(name: str, text: str) -> str:
        seen[name].append(text)
        if name == fails and text.startswith("bad"):
            raise RecursionError(f"a bug: {text}")
        return text

    def replace(text: str) -> None:
        """At once: a file that is written in place is empty for a moment."""
        new = tmp_path / "new"
        new.write_text(text)
        new.replace(file)

    async def main() -> None:
        settings = FileWatchSettings(poll_seconds=0.01)
        file.write_text("bad 1")
        watch = watch_files(
            "a file",
            [file],
            lambda: step("read", file.read_text()),
            lambda text: seen["apply"].append(step("apply", text)),
            settings=settings,
        )
        task = asyncio.create_task(watch)
        for text in ("bad 1", "bad, too", "good again"):
            await asyncio.to_thread(replace, text)
            await until(lambda text=text: text in seen[fails])  # type: ignore[misc]
        await until(lambda: seen["apply"][-1:] == ["good again"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen["apply"][-1] == "good again"

    with caplog.at_level(logging.WARNING):
        run(main())
    (record,) = caplog.records
    assert record.getMessage() == "can't use a file, keeping the previous contents"
    assert record.problem.startswith("internal error: RecursionError in test_file_watch.py:")  # type: ignore[attr-defined]
    assert "bad" not in str(vars(record))


def test_a_mounted_folder_is_read_as_it_is(tmp_path: Path) -> None:
    folder = MountedVolume(tmp_path / "mounted", A="one\n", B="two\n\n", C="", D="not asked for")
    assert read_folder(folder.path, ["A", "B", "C", "E"]) == {"A": "one\n", "B": "two\n\n", "C": ""}


def test_a_plain_folder_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "A").write_bytes(b"\xff\n")
    assert read_folder(tmp_path, ["A"])["A"].encode(errors="surrogateescape") == b"\xff\n"


def test_files_that_are_read_together_are_of_one_version(tmp_path: Path) -> None:
    folder = MountedVolume(tmp_path / "mounted", A="0", B="0")

    async def main() -> None:
        def replace() -> None:
            for number in range(1, 200):
                folder.replace(A=str(number), B=str(number))

        writing = asyncio.create_task(asyncio.to_thread(replace))
        while not writing.done():
            texts = await asyncio.to_thread(read_folder, folder.path, ["A", "B"])
            assert texts.get("A") == texts.get("B")
        await writing

    run(main())
    assert read_folder(folder.path, ["A", "B"]) == {"A": "199", "B": "199"}
