from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

import pytest
from tests.support.mounted_volume import MountedVolume
from tests.support.sockets import run
from tests.support.waiting import until

from lobby_gateway.clients.token_key_file import add_argument, read_keys, token_keys, watch_keys
from lobby_gateway.errors import UserError
from lobby_gateway.settings import FileWatchSettings

A, B = "ab" * 32, "cd" * 32


def test_the_option_takes_precedence_over_the_environment(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_argument(parser)
    file = tmp_path / "key"
    file.write_text(f"{A}\n{B}\n")
    given = parser.parse_args(["--token-key-file", str(file)])
    keys = token_keys(given.token_key_file, {"LOBBY_TOKEN_KEY": "nonsense"})
    assert keys.verification_keys(0.0) == (bytes.fromhex(A), bytes.fromhex(B))
    assert token_keys(parser.parse_args([]).token_key_file, {"LOBBY_TOKEN_KEY": B}).signing_key(0.0) == bytes.fromhex(B)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"xyz", "hex digits"), (b"", "missing"), (b"\xff\xfe", "not ASCII text"), (None, "No such file")],
)
def test_the_error_names_a_file_without_keys(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_keys(file)
    assert str(refused.value).startswith(f"--token-key-file: {file}")
    assert said in str(refused.value)


def test_keys_are_replaced_when_the_file_changes(tmp_path: Path) -> None:
    folder = MountedVolume(tmp_path / "token", key=A)
    keys = token_keys(folder / "key", {})

    async def main() -> None:
        task = asyncio.create_task(watch_keys(folder / "key", keys, settings=FileWatchSettings(poll_seconds=0.01)))
        await asyncio.to_thread(folder.replace, key=f"{B}\n{A}")
        await until(lambda: keys.verification_keys(time.monotonic()) == (bytes.fromhex(B), bytes.fromhex(A)))
        assert keys.signing_key(time.monotonic()) == bytes.fromhex(A)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
