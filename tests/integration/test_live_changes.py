"""Changes while a lobby runs, as in a pod: its Lobby, secrets of the origin, token keys. No client is disconnected."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.lobby import greeter_process, lobby_process, new_key, with_open
from tests.support.mounted_volume import MountedVolume
from tests.support.origins import FakeOrigin, Refuse, ticking
from tests.support.processes import finished
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.resource.schema import validate_and_default

VARIABLE = "LOBBY_SECRET_FEED_KEY"
KEY_HEADER = [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}]


class Pod:
    """The volumes mounted in a lobby's pod."""

    def __init__(self, folder: Path, resource: dict[str, Any], key: str, secret: str) -> None:
        self.config = MountedVolume(folder / "config", lobby__json=json.dumps(validate_and_default(resource, "test")))
        self.token = MountedVolume(folder / "token", key=key)
        self.secrets = MountedVolume(folder / "secrets", **{VARIABLE: secret})
        self.options = (
            "--follow-file",
            *("--token-key-file", str(self.token / "key")),
            *("--secrets-directory", str(self.secrets.path)),
        )

    def change(self, resource: dict[str, Any]) -> None:
        self.config.replace(lobby__json=json.dumps(validate_and_default(resource, "test")))


def test_seats_are_added_and_removed_while_clients_are_connected(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, ticking(origin, interval=0.02):
            small, large = (
                lobby_resource("prices", origin.url, clients_seats=seats, waitSeconds=30) for seats in (3, 8)
            )
            key = new_key()
            pod = Pod(tmp_path, small, key, "unused")
            async with (
                lobby_process(small, key=key, file=pod.config / "lobby.json", options=pod.options) as lobby,
                greeter_process(key=key) as greeter,
                Swarm(greeter.url("/prices")) as swarm,
            ):
                greeter.set_directory(with_open(small, lobby))
                await swarm.connect_all(3)
                more = asyncio.create_task(swarm.connect_all(5))
                await until(lambda: len(swarm.clients) == 8)
                await asyncio.to_thread(pod.change, large)
                await more  # announced over the trunk; the directory has not changed
                await asyncio.to_thread(pod.change, small)
                await until(lambda: seats_are(lobby.seats, 3))
                await swarm.each_has(20)
                assert (len(swarm.open), swarm.gaps, swarm.disorder) == (8, 0, 0), swarm.summary()
                assert len(origin.connections) == 1

    async def seats_are(seats: Any, count: int) -> bool:
        return bool((await seats())["seats"] == count)

    run(main(), deadline=60)


def test_rotated_secret_ends_a_refusal_without_disconnects(tmp_path: Path) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, origin_headers=KEY_HEADER)
            key = new_key()
            pod = Pod(tmp_path, resource, key, "first-key\n")
            async with (
                lobby_process(resource, key=key, file=pod.config / "lobby.json", options=pod.options) as lobby,
                Swarm(lobby.client_url) as swarm,
            ):
                await swarm.connect_all(5)
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(3)
                    await asyncio.to_thread(pod.secrets.replace, **{VARIABLE: "second-key\n"})
                    await swarm.each_gets(60)  # 3 s, enough for the file watch to notice
                    assert len(origin.connections) == 1, "the stream was interrupted"
                origin.refuse = Refuse(401)
                origin.kill_connections()
                await lobby.until_origin("Refused")
                origin.refuse = None
                await asyncio.to_thread(pod.secrets.replace, **{VARIABLE: "third-key\n"})
                await lobby.until_origin("Connected", deadline=10)
                async with ticking(origin, interval=0.05):
                    await swarm.each_gets(3)
                assert [each.headers["x-key"] for each in origin.connections] == ["first-key", "third-key"]
                assert len(swarm.open) == 5, swarm.summary()
                assert all(value not in lobby.process.tail(1000) for value in ("first-key", "second-key", "third-key"))

    run(main(), deadline=60)


def test_token_keys_are_rotated_while_clients_connect(tmp_path: Path) -> None:
    old, new = new_key(), new_key()

    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url)
            pod = Pod(tmp_path, resource, old, "unused")
            keys = ("--token-key-file", str(pod.token / "key"))
            file = pod.config / "lobby.json"
            async with (
                lobby_process(resource, file=file, options=pod.options) as lobby,  # the file overrides the variable
                greeter_process(key=new_key(), options=keys) as greeter,
                Swarm(greeter.url("/prices")) as swarm,
            ):
                greeter.set_directory(with_open(resource, lobby))
                await swarm.connect_all(2)
                await asyncio.to_thread(pod.token.replace, key=f"{new}\n")
                await lobby.process.logged("replaced the token keys")
                await greeter.process.logged("replaced the token keys")
                await swarm.close(swarm.open)
                greeter.set_directory({**validate_and_default(resource, "test"), "status": {}})
                await lobby.until_clients(0)
                greeter.set_directory(with_open(resource, lobby))
                await swarm.connect_all(2)
                async with ticking(origin, interval=0.05):
                    await swarm.each_has(3, of=swarm.open)

    run(main(), deadline=60)


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "key key of Secret feed is missing; accepted: a value in the file "),
        ("not UTF-8: \udcff\udcfe", "key key of Secret feed is not UTF-8; accepted: UTF-8 text"),
    ],
)
def test_unusable_secret_at_start_is_the_reason_until_it_is_replaced(tmp_path: Path, secret: str, problem: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin:
            resource = lobby_resource("prices", origin.url, origin_headers=KEY_HEADER, origin_connect="Always")
            key = new_key()
            pod = Pod(tmp_path, resource, key, "")
            await asyncio.to_thread((pod.secrets / VARIABLE).write_bytes, secret.encode(errors="surrogateescape"))
            async with lobby_process(resource, key=key, file=pod.config / "lobby.json", options=pod.options) as lobby:
                report = await lobby.until_origin("Waiting")
                assert report["reason"].startswith(f"spec.origin.headers[0].valueFrom.secretKeyRef: {problem}")
                await asyncio.to_thread(pod.secrets.replace, **{VARIABLE: "first\n"})
                await lobby.until_origin("Connected")
                assert [each.headers["x-key"] for each in origin.connections] == ["first"]
                assert len(origin.attempts) == 1

    run(main(), deadline=60)


def test_missing_environment_variable_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "lobby.json"
    resource = lobby_resource("prices", "ws://127.0.0.1:9/", origin_headers=KEY_HEADER)
    file.write_text(json.dumps(validate_and_default(resource, "test")))
    arguments = ("-m", "lobby_gateway.lobby", "--file", str(file), "--validated", "--name", "prices-1")
    code, _, err = run(finished(sys.executable, *arguments, env={"LOBBY_TOKEN_KEY": new_key()}), deadline=40)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("spec.origin.headers[0].valueFrom.secretKeyRef: ")
    assert line.endswith(f"a value in the environment variable {VARIABLE}")
