"""The key of seat tokens is copied to where lobbies need it, and only ever read from its file."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.kube_api import status
from tests.unit.operator.kube.support import connected

from lobby_operator.kube.token_secret import TokenSecret
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LobbyControllerSettings

PATH = "/api/v1/namespaces/shop/secrets/token"
KEY, OTHER = "ab" * 32, "cd" * 32


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def test_the_secret_is_applied_once_with_the_key_of_the_file_and_never_read(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secret = TokenSecret(api, "token", file, "system")
            for _ in range(3):
                await secret.ensure("shop")
            (asked,) = server.asked
            assert (asked.method, asked.content_type, asked.path) == ("PATCH", "application/apply-patch+yaml", PATH)
            assert base64.b64decode(server.objects[PATH]["data"]["key"]).decode() == KEY

    run(main())


def test_a_new_key_is_written_at_once_and_the_same_key_again_after_a_while(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secret = TokenSecret(api, "token", file, "system")
            await secret.ensure("shop")
            await asyncio.to_thread(file.write_text, OTHER)
            await secret.ensure("shop")
            assert base64.b64decode(server.objects[PATH]["data"]["key"]).decode() == OTHER
            impatient = TokenSecret(api, "token", file, "system", LobbyControllerSettings(resync_seconds=0.0))
            await impatient.ensure("shop")
            server.remove(PATH)
            await impatient.ensure("shop")
            assert PATH in server.objects

    run(main())


def test_the_secret_in_our_own_namespace_is_left_alone(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            await TokenSecret(api, "token", file, "system").ensure("system")
            assert server.asked == []

    run(main())


@pytest.mark.parametrize("content", ["", "abc", "s3cret-but-no-hex", None])
def test_an_error_names_the_key_file_but_not_its_content(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)

    async def main() -> None:
        async with connected() as (server, api):
            with pytest.raises(RuntimeFailedError, match=r"key contains no key") as raised:
                await TokenSecret(api, "token", path, "system").ensure("shop")
            assert "s3cret" not in str(raised.value)
            assert server.asked == []

    run(main())


def test_a_refusal_is_reported_and_retried(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secret = TokenSecret(api, "token", file, "system")
            server.instead = lambda _asked: status(403, "Forbidden", "not you")
            with pytest.raises(RuntimeFailedError, match=r"can't write the Secret token: .*not you"):
                await secret.ensure("shop")
            server.instead = lambda _asked: None
            await secret.ensure("shop")
            assert PATH in server.objects

    run(main())
