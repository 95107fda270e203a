"""The files of a lobby: read, and replaced while a lobby in this process watches them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mounted_volume import MountedVolume
from tests.support.origins import FakeOrigin, Refuse
from tests.support.sockets import run
from tests.support.specs import origin_spec
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.errors import MissingSecretError, UserError
from lobby_gateway.lobby.process import Addresses, LobbyProcess
from lobby_gateway.lobby.watched_files import EnvironmentSecrets, MountedSecrets, file_watches, load_lobby
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.process.limits import ProcessLimits
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.settings import FileWatchSettings, LobbySettings

BAD_GENERATION = '{"metadata": {"name": "a", "generation": "first"}, "spec": {}}'
ANY = Addresses(host="127.0.0.1", port=0, admin_host="127.0.0.1", admin_port=0)
VARIABLE = "LOBBY_SECRET_FEED_KEY"
KEY_HEADER = [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}]
ORIGIN = origin_spec(headers=KEY_HEADER)


# The Lobby


def test_a_validated_file_is_read_as_it_is_and_any_other_is_validated(tmp_path: Path) -> None:
    resource = lobby_resource("prices", "ws://127.0.0.1:9/")
    plain, checked = tmp_path / "plain.json", tmp_path / "checked.json"
    plain.write_text(json.dumps(resource))
    checked.write_text(json.dumps(validate_and_default(resource, "test")))
    assert load_lobby(plain, validated=False) == load_lobby(checked, validated=True)


def test_check_of_a_lobby_imports_nothing_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(lobby_resource("prices", "ws://127.0.0.1:9/")))
    (tmp_path / "yaml.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert load_lobby(file, validated=False).spec.origin.url == "ws://127.0.0.1:9/"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metadata": {}}', "\xff", BAD_GENERATION])
def test_the_error_for_an_invalid_file_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lobby.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as refused:
        load_lobby(file, validated=True)
    assert "\n" not in str(refused.value)


# Secrets


def test_secrets_in_the_environment_never_change() -> None:
    values = EnvironmentSecrets({VARIABLE: "one"})
    assert values.resolve(ORIGIN).values == {VARIABLE: "one"}
    assert values.files(ORIGIN) == ()


def test_mounted_secrets_are_read_when_they_are_used(tmp_path: Path) -> None:
    folder = MountedVolume(tmp_path / "secrets", **{VARIABLE: "one\n"})
    values = MountedSecrets(folder.path)
    assert values.files(ORIGIN) == (folder / VARIABLE,)
    assert values.resolve(ORIGIN).values == {VARIABLE: "one"}
    folder.replace(**{VARIABLE: "two"})
    assert values.resolve(ORIGIN).values == {VARIABLE: "two"}


def test_the_error_for_a_missing_secret_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(MissingSecretError) as refused:
        MountedSecrets(tmp_path).resolve(ORIGIN)
    assert str(refused.value) == (
        "spec.origin.headers[0].valueFrom.secretKeyRef: key key of Secret feed is missing; "
        f"accepted: a value in the file {tmp_path}/{VARIABLE}"
    )


# Watches


@pytest.fixture(autouse=True)
def unannounced(monkeypatch: pytest.MonkeyPatch) -> None:
    """No one reads standard output here."""
    monkeypatch.setattr("lobby_gateway.lobby.process.announce", lambda **_: None)


def written(**spec: Any) -> str:
    return json.dumps(validate_and_default(lobby_resource("prices", "ws://127.0.0.1:9/", **spec), "test"))


@contextlib.asynccontextmanager
async def watched(
    tmp_path: Path, text: str, secret: str = ""
) -> AsyncIterator[tuple[LobbyProcess, MountedVolume, MountedVolume]]:
    """A lobby that watches its file and its secrets, and the folders of both."""
    config = MountedVolume(tmp_path / "config", lobby__json=text)
    secrets = MountedVolume(tmp_path / "secrets", **({VARIABLE: secret} if secret else {}))
    file, secret_source = config / "lobby.json", MountedSecrets(secrets.path)
    keys = TokenKeys([bytes(32)])
    lobby = await asyncio.to_thread(load_lobby, file, validated=True)
    process = LobbyProcess(
        lobby,
        "prices-1",
        keys=keys,
        secret_source=secret_source,
        resolved=await asyncio.to_thread(secret_source.resolve, lobby.spec.origin),
        settings=LobbySettings(),
        limits=ProcessLimits(),
        proxies=TrustedProxies(),
    )
    settings = FileWatchSettings(poll_seconds=0.01)
    watches = file_watches(
        process, file=file, validated=True, secrets=secret_source, keys=keys, key_file=None, settings=settings
    )
    stopping = Shutdown()
    task = asyncio.create_task(process.run(stopping, ANY, watches))
    try:
        yield process, config, secrets
    finally:
        stopping.stop("the test is over")
        await task


async def replace(folder: MountedVolume, **files: str) -> None:
    await asyncio.to_thread(folder.replace, **files)


def test_a_changed_number_of_seats_applies_and_no_client_loses_its_seat(tmp_path: Path) -> None:
    texts = [written(clients_seats=seats) for seats in (2, 3, 1)]

    async def main() -> None:
        async with watched(tmp_path, texts[0]) as (lobby, config, _):
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


def test_a_broken_file_is_ignored_and_the_next_valid_one_applies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, better = written(clients_seats=2), written(clients_seats=3)
    wrong = json.dumps({**json.loads(good), "spec": {"clients": {"seats": "many"}}})

    async def main() -> None:
        async with watched(tmp_path, good) as (lobby, config, _):
            for text in ('{"half', wrong):
                caplog.clear()
                await replace(config, lobby__json=text)
                await until(lambda: "can't use the Lobby's file, keeping the previous contents" in caplog.messages)
            assert lobby.seats == 2
            await replace(config, lobby__json=better)
            await until(lambda: lobby.seats == 3)

    with caplog.at_level(logging.INFO):
        run(main())


def test_a_changed_origin_is_ignored_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [
        written(),
        written(origin_staleSeconds=5, clients_seats=3),
        written(origin_staleSeconds=5, clients_seats=4, drainSeconds=7),
    ]

    async def main() -> None:
        async with watched(tmp_path, texts[0]) as (lobby, config, _):
            for seats, text in ((3, texts[1]), (4, texts[2])):
                await replace(config, lobby__json=text)
                await until(lambda seats=seats: lobby.seats == seats)  # type: ignore[misc]
            assert lobby.lobby.spec.origin.stale_seconds == 0
            assert lobby.lobby.spec.drain_seconds == 7

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.messages.count("spec.origin changed: only new lobbies use the new origin") == 1


def test_a_replaced_secret_ends_the_wait_after_a_refusal(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(403)) as origin:
            resource = lobby_resource("prices", origin.url, origin_headers=KEY_HEADER, origin_connect="Always")
            text = json.dumps(await asyncio.to_thread(validate_and_default, resource, "test"))
            async with watched(tmp_path, text, "old\n") as (lobby, _, secrets):
                await until(lambda: lobby.report().origin.state is OriginState.REFUSED)
                origin.refuse = None
                await replace(secrets, **{VARIABLE: "new\n"})
                seen = await origin.until_open()
                assert seen.headers["x-key"] == "new"

    run(main())
