"""What `lobby up` is to serve, checked before anything is started."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.waiting import until
from websockets.asyncio.client import connect

from lobby_gateway.errors import InvalidLobbyError, UserError
from lobby_gateway.process.background import BackgroundTasks
from lobby_operator.local.child import Child
from lobby_operator.local.lobby_sources import DemoOrigin, changed, check_secrets, from_files, from_url
from lobby_operator.settings import LocalModeSettings


def write(file: Path, name: str, *, namespace: str | None = None, **spec: Any) -> str:
    resource = {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"origin": {"url": "ws://127.0.0.1:9/"}, **spec},
    }
    file.write_text(yaml.safe_dump(resource))
    return str(file)


def test_lobby_for_a_url_has_the_defaults_of_the_resource() -> None:
    source = from_url("wss://feed.example.com/x", name="prices", seats=None, option="--origin")
    assert source.lobby.name == "prices"
    assert source.lobby.spec.path == "/prices"
    assert source.resource["spec"]["path"] == "/prices"
    assert source.lobby.spec.origin.url == "wss://feed.example.com/x"
    assert (source.lobby.spec.clients.seats, source.lobby.spec.spare_seats) == (512, 64)


@pytest.mark.parametrize(("seats", "spare"), [(1, 1), (3, 1), (16, 2), (512, 64), (4096, 512)])
def test_seats_option_keeps_an_eighth_spare(seats: int, spare: int) -> None:
    source = from_url("ws://h/", name="prices", seats=seats, option="--origin")
    assert (source.lobby.spec.clients.seats, source.lobby.spec.spare_seats) == (seats, spare)


def test_invalid_url_is_reported_with_its_option() -> None:
    with pytest.raises(InvalidLobbyError) as refused:
        from_url("http://feed.example.com", name="prices", seats=None, option="--origin")
    assert all(line.startswith("--origin: spec.origin.url: ") for line in refused.value.problems)


def test_edited_lobbies_get_the_next_generation_and_a_revision_by_their_origin(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    before = from_files([write(a, "a"), write(b, "b")], seats=None)
    assert changed(before, from_files([str(a), str(b)], seats=None)) == []
    write(a, "a", spareSeats=3)
    (live,) = changed(before, from_files([str(a), str(b)], seats=None))
    assert (live.lobby.name, live.lobby.generation, live.resource["metadata"]["generation"]) == ("a", 1, 1)
    assert live.revision == before[0].revision
    write(a, "a", spareSeats=3, origin={"url": "ws://127.0.0.1:10/"})
    (replaced,) = changed([live, before[1]], from_files([str(a), str(b)], seats=None))
    assert replaced.lobby.generation == 2
    assert replaced.revision != live.revision


def test_another_name_or_path_needs_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    before = from_files([write(file, "a")], seats=None)
    write(file, "b")
    with pytest.raises(InvalidLobbyError, match=r"metadata.name: b is new; accepted until `lobby up` is restarted: a"):
        changed(before, from_files([str(file)], seats=None))
    write(file, "a", path="/other")
    with pytest.raises(InvalidLobbyError, match=r"spec.path: /other; accepted until `lobby up` is restarted: /a"):
        changed(before, from_files([str(file)], seats=None))


def test_seats_option_overrides_files(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.yaml", "a", clients={"seats": 7}, spareSeats=3),
        write(tmp_path / "b.yaml", "b", path="/bees", clients={"seats": 8}),
    ]
    a, b = from_files(paths, seats=None)
    assert (a.lobby.spec.clients.seats, b.lobby.spec.clients.seats) == (7, 8)
    assert (a.lobby.spec.path, b.lobby.spec.path) == ("/a", "/bees")
    a, b = from_files(paths, seats=5)
    assert (a.lobby.spec.clients.seats, b.resource["spec"]["clients"]["seats"]) == (5, 5)
    assert a.lobby.spec.spare_seats == 3  # what the file says


def test_namespace_in_a_file_is_ignored(tmp_path: Path) -> None:
    (source,) = from_files([write(tmp_path / "a.yaml", "a", namespace="markets")], seats=None)
    assert source.lobby.key == "a"
    assert "namespace" not in source.resource["metadata"]


def test_all_problems_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.yaml", "a", clients={"seats": 0}),
        write(tmp_path / "b.yaml", "b", replicas=-1),
        str(tmp_path / "nowhere.yaml"),
    ]
    with pytest.raises(InvalidLobbyError) as refused:
        from_files(paths, seats=None)
    text = "\n".join(refused.value.problems)
    for named in ("a.yaml: spec.clients.seats: ", "b.yaml: spec.replicas: ", "nowhere.yaml: "):
        assert named in text


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (
            {"name": "a"},
            {"name": "a", "path": "/b"},
            "metadata.name: a is already the {}; accepted: a unique name",
        ),
        (
            {"name": "a", "path": "/x"},
            {"name": "b", "path": "/x"},
            "spec.path: /x is already the {}; accepted: a unique path",
        ),
        (
            {"name": "a"},
            {"name": "b", "path": "/a"},
            "spec.path: /a is already the {}; accepted: a unique path",
        ),
    ],
)
def test_two_lobbies_with_one_name_or_path_are_one_line(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], line: str
) -> None:
    paths = [write(tmp_path / "1.yaml", **first), write(tmp_path / "2.yaml", **second)]
    with pytest.raises(InvalidLobbyError) as refused:
        from_files(paths, seats=None)
    what = "name" if "metadata" in line else "path"
    expected = f"{paths[1]}: {line.format(f'{what} in {paths[0]}')}"
    assert refused.value.problems == (expected,)


def test_missing_secrets_of_all_lobbies_are_reported_with_file_field_and_variable(tmp_path: Path) -> None:
    headers = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "api-key"}}}]
    origin = {"url": "ws://127.0.0.1:9/", "headers": headers}
    paths = [write(tmp_path / "a.yaml", "a", origin=origin), write(tmp_path / "b.yaml", "b", origin=origin)]
    sources = from_files(paths, seats=None)
    with pytest.raises(UserError) as missing:
        check_secrets(sources, {})
    lines = str(missing.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == paths
    assert all("spec.origin.headers[0]" in line and "LOBBY_SECRET_FEED_API_KEY" in line for line in lines)
    check_secrets(sources, {"LOBBY_SECRET_FEED_API_KEY": "k"})


@pytest.mark.parametrize(
    ("origin", "value", "problem"),
    [
        ({"headers": [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "k"}}}]},
         "hunter\udcff22", "spec.origin.headers[0].valueFrom.secretKeyRef: key k of Secret feed is not UTF-8; "),
        ({"tls": {"caSecretRef": {"name": "feed", "key": "k"}}}, "hunter22", "spec.origin.tls.caSecretRef: unusable"),
    ],
)  # fmt: skip
def test_unusable_secrets_are_refused_before_anything_starts(
    tmp_path: Path, origin: dict[str, Any], value: str, problem: str
) -> None:
    path = write(tmp_path / "a.yaml", "prices", origin={"url": "wss://feed.example.com/", **origin})
    with pytest.raises(UserError) as refused:
        check_secrets(from_files([path], seats=None), {"LOBBY_SECRET_FEED_K": value})
    assert str(refused.value).startswith(f"{path}: {problem}")
    assert "hunter" not in str(refused.value)


def test_demo_ticks_and_is_restarted_at_the_same_address_when_killed() -> None:
    async def main() -> None:
        origin = DemoOrigin(
            log=lambda _line: None,
            environment=os.environ,
            spawn=BackgroundTasks().spawn,
            settings=LocalModeSettings(demo_restart_seconds=0.01),
        )
        assert origin.url == ""
        url = await origin.start()
        assert url == origin.url
        async with connect(url) as client:
            assert b'"seq": ' in await client.recv(decode=False)
        child = origin._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)

        async def back() -> bool:
            try:
                async with connect(url):
                    return True
            except OSError:
                return False

        await until(lambda: origin._child is not child)
        await until(back, deadline=20)
        await origin.close(20)
        assert origin._child is not None
        assert origin._child.returncode == 0

    asyncio.run(main())


def test_a_demo_that_cannot_be_started_again_is_tried_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []
    start = Child.start

    async def busy(name: str, *arguments: Any, **options: Any) -> Child:
        tries.append(name)
        if len(tries) <= 2:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return await start(name, *arguments, **options)

    async def main() -> None:
        background = BackgroundTasks()
        origin = DemoOrigin(
            log=lambda _line: None,
            environment=os.environ,
            spawn=background.spawn,
            settings=LocalModeSettings(demo_restart_seconds=0.01),
        )
        await origin.start()
        child = origin._child
        assert child is not None
        monkeypatch.setattr(Child, "start", busy)
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: origin._child is not child, deadline=20)
        assert len(tries) == 3
        await origin.close(20)

    asyncio.run(main())


def test_closing_a_demo_that_was_never_started_does_nothing() -> None:
    async def main() -> None:
        await DemoOrigin(log=None, environment={}, spawn=BackgroundTasks().spawn).close(1)

    asyncio.run(main())
