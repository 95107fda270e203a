"""A lobby in this process whose mounted files are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mounted import Mounted
from tests.support.origins import FakeOrigin, Refuse
from tests.support.sockets import run
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.lobby.files import FolderValues, followers, load
from lobby_gateway.lobby.process import Addresses, LobbyProcess
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.process.limits import ProcessLimits
from lobby_gateway.process.reports import OriginState
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.settings import LobbySettings

ANY = Addresses(host="127.0.0.1", port=0, admin_host="127.0.0.1", admin_port=0)
VARIABLE = "LOBBY_SECRET_FEED_KEY"
KEY_HEADER = [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}]


@pytest.fixture(autouse=True)
def unannounced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads standard output here."""
    monkeypatch.setattr("lobby_gateway.lobby.process.announce", lambda **_: None)


def written(**spec: Any) -> str:
    return json.dumps(validate_and_default(lobby_resource("prices", "ws://127.0.0.1:9/", **spec), "test"))


@contextlib.asynccontextmanager
async def followed(tmp_path: Path, text: str, secret: str = "") -> AsyncIterator[tuple[LobbyProcess, Mounted, Mounted]]:
    """A lobby that follows its file and its secrets, and the folders of both."""
    config = Mounted(tmp_path / "config", lobby__json=text)
    secrets = Mounted(tmp_path / "secrets", **({VARIABLE: secret} if secret else {}))
    file, values = config / "lobby.json", FolderValues(secrets.path)
    keys = TokenKeys([bytes(32)])
    lobby = await asyncio.to_thread(load, file, validated=True)
    process = LobbyProcess(
        lobby,
        "prices-1",
        keys=keys,
        values=values,
        resolved=await asyncio.to_thread(values.resolve, lobby.spec.origin),
        settings=LobbySettings(),
        limits=ProcessLimits(),
        proxies=TrustedProxies(),
    )
    follow = followers(process, file=file, validated=True, values=values, keys=keys, key_file=None, look_seconds=0.01)
    stopping = Shutdown()
    task = asyncio.create_task(process.run(stopping, ANY, follow))
    try:
        yield process, config, secrets
    finally:
        stopping.stop("the test is over")
        await task


async def replace(folder: Mounted, **files: str) -> None:
    await asyncio.to_thread(folder.replace, **files)


def test_seats_that_are_changed_are_granted_or_not_and_nobody_loses_one(tmp_path: Path) -> None:
    texts = [written(clients_seats=seats) for seats in (2, 3, 1)]

    async def main() -> None:
        async with followed(tmp_path, texts[0]) as (lobby, config, _):
            assert lobby.claim(5) == 2
            await replace(config, lobby__json=texts[1])
            await until(lambda: lobby.seats == 3)
            assert lobby.claim(5) == 1
            await replace(config, lobby__json=texts[2])
            await until(lambda: lobby.seats == 1)
            assert (lobby.report().clients, lobby.free, lobby.claim(1)) == (3, 0, 0)
            lobby.release(3)
            assert lobby.claim(5) == 1
            lobby.release(1)

    run(main())


def test_a_broken_file_changes_nothing_and_the_next_good_one_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, better = written(clients_seats=2), written(clients_seats=3)
    wrong = json.dumps({**json.loads(good), "spec": {"clients": {"seats": "many"}}})

    async def main() -> None:
        async with followed(tmp_path, good) as (lobby, config, _):
            for text in ('{"half', wrong):
                caplog.clear()
                await replace(config, lobby__json=text)
                await until(lambda: "the Lobby's file can't be used: it stays as it was" in caplog.messages)
            assert lobby.seats == 2
            await replace(config, lobby__json=better)
            await until(lambda: lobby.seats == 3)

    with caplog.at_level(logging.INFO):
        run(main())


def test_another_origin_is_for_new_lobbies_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [
        written(),
        written(origin_staleSeconds=5, clients_seats=3),
        written(origin_staleSeconds=5, clients_seats=4, drainSeconds=7),
    ]

    async def main() -> None:
        async with followed(tmp_path, texts[0]) as (lobby, config, _):
            for seats, text in ((3, texts[1]), (4, texts[2])):
                await replace(config, lobby__json=text)
                await until(lambda seats=seats: lobby.seats == seats)  # type: ignore[misc]
            assert lobby.lobby.spec.origin.stale_seconds == 0
            assert lobby.lobby.spec.drain_seconds == 7

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.messages.count("spec.origin was changed: that is for new lobbies") == 1


def test_a_secret_that_is_replaced_ends_the_wait_of_a_refused_origin(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(403)) as origin:
            resource = lobby_resource("prices", origin.url, origin_headers=KEY_HEADER, origin_connect="Always")
            text = json.dumps(await asyncio.to_thread(validate_and_default, resource, "test"))
            async with followed(tmp_path, text, "old\n") as (lobby, _, secrets):
                await until(lambda: lobby.report().origin.state is OriginState.REFUSED)
                origin.refuse = None
                await replace(secrets, **{VARIABLE: "new\n"})
                seen = await origin.until_open()
                assert seen.headers["x-key"] == "new"

    run(main())
