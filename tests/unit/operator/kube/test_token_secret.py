"""Each namespace gets the key derived for it, and no other; the master key stays in its file."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi, status
from tests.unit.operator.kube.support import connected

from lobby_operator.kube.token_secret import TokenSecrets
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LobbyControllerSettings

PATH = "/api/v1/namespaces/shop/secrets/token"
KEY, OTHER = "ab" * 32, "cd" * 32
CHARTS = {"labels": {"app.kubernetes.io/name": "lobby-gateway", "app.kubernetes.io/component": "lobby-token-key"}}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def derived(key: str, namespace: str) -> str:
    return hmac.digest(bytes.fromhex(key), namespace.encode(), "sha256").hex()


def keys(server: FakeKubeApi, namespace: str = "shop") -> list[str]:
    data = server.objects[PATH.replace("shop", namespace)]["data"]["key"]
    return base64.b64decode(data).decode().splitlines()


def test_each_namespace_gets_a_key_of_its_own_once_and_the_master_key_is_sent_nowhere(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secrets = TokenSecrets(api, "token", file)
            for _ in range(3):
                await secrets.ensure("shop")
                await secrets.ensure("feeds")
            assert [asked.method for asked in server.asked] == ["GET", "POST"] * 2
            assert keys(server) == [derived(KEY, "shop")]
            assert keys(server, "feeds") == [derived(KEY, "feeds")]
            sent = repr([asked.body for asked in server.asked])
            assert KEY not in sent
            assert base64.b64encode(KEY.encode()).decode() not in sent

    run(main())


def test_every_line_of_the_file_is_derived_in_its_order(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            await asyncio.to_thread(file.write_text, f"{OTHER}\n{KEY}\n")
            await TokenSecrets(api, "token", file).ensure("shop")
            assert keys(server) == [derived(OTHER, "shop"), derived(KEY, "shop")]

    run(main())


def test_a_new_key_is_written_at_once_and_the_same_key_again_after_a_while(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secrets = TokenSecrets(api, "token", file)
            await secrets.ensure("shop")
            await asyncio.to_thread(file.write_text, OTHER)
            await secrets.ensure("shop")
            assert keys(server) == [derived(OTHER, "shop")]
            impatient = TokenSecrets(api, "token", file, LobbyControllerSettings(resync_seconds=0.0))
            await impatient.ensure("shop")
            server.remove(PATH)
            await impatient.ensure("shop")
            assert PATH in server.objects

    run(main())


def test_the_file_is_left_alone_once_it_is_watched(file: Path) -> None:
    async def main() -> None:
        async with connected() as (_, api):
            secrets = TokenSecrets(api, "token", file)
            secrets.replace((bytes.fromhex(OTHER),))
            await asyncio.to_thread(file.unlink)
            assert [key.hex() for key in await secrets.keys_of("shop")] == [derived(OTHER, "shop")]

    run(main())


def test_the_empty_secret_of_the_chart_is_filled_and_never_created(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(PATH, {"metadata": CHARTS, "type": "Opaque"})
            await TokenSecrets(api, "token", file).ensure("shop")
            assert keys(server) == [derived(KEY, "shop")]
            assert not server.requests("POST")

    run(main())


def test_a_secret_of_someone_else_is_left_alone_and_named(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            theirs = server.put(PATH, {"metadata": {"labels": {"app": "shop"}}, "data": {"key": "bWluZQ=="}})
            with pytest.raises(
                RuntimeFailedError, match="the Secret token in namespace shop was created by someone else"
            ):
                await TokenSecrets(api, "token", file).ensure("shop")
            assert server.objects[PATH] == theirs

    run(main())


@pytest.mark.parametrize("content", ["", "abc", "s3cret-but-no-hex", None])
def test_an_error_names_the_key_file_but_not_its_content(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)

    async def main() -> None:
        async with connected() as (server, api):
            with pytest.raises(RuntimeFailedError, match=f"--token-key-file: {path}") as raised:
                await TokenSecrets(api, "token", path).ensure("shop")
            assert "s3cret" not in str(raised.value)
            assert server.asked == []

    run(main())


def test_a_refusal_is_reported_and_retried(file: Path) -> None:
    async def main() -> None:
        async with connected() as (server, api):
            secrets = TokenSecrets(api, "token", file)
            server.instead = lambda _asked: status(403, "Forbidden", "not you")
            with pytest.raises(RuntimeFailedError, match=r"can't write the Secret token: .*not you"):
                await secrets.ensure("shop")
            server.instead = lambda _asked: None
            await secrets.ensure("shop")
            assert PATH in server.objects

    run(main())
