"""A greeter that watches Lobbies on an API server, and keeps using what it knows while the API server is unavailable."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web as http
from tests.support import web
from tests.support.kube_api import FakeKubeApi, fake_kube_api
from tests.support.lobby import GreeterProcess, LobbyProcess, lobby_process, lobby_processes, new_key
from tests.support.origins import FakeOrigin, ticking
from tests.support.processes import running
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.up import lobby_resource
from tests.support.waiting import until

from lobby_gateway.resource.schema import validate_and_default

PATH = "/apis/lobby-gateway.io/v1alpha1/namespaces/markets/lobbies/prices"


@contextlib.asynccontextmanager
async def greeter(api: FakeKubeApi, key: str) -> AsyncIterator[GreeterProcess]:
    where = ("--directory-from-kubernetes", "--namespace", "markets", "--api-server", api.url)
    command = ("-m", "lobby_gateway.greeter", "--port", "0", "--admin-port", "0", *where)
    async with running("greeter", sys.executable, *command, env={"LOBBY_TOKEN_KEY": key}) as process:
        listening = json.loads((await process.line(r'^\{.*"listening".*\}$'))[0])
        yield GreeterProcess(
            process=process, port=listening["port"], admin=f"http://127.0.0.1:{listening['admin_port']}"
        )


def stored(resource: dict[str, Any], *lobbies: LobbyProcess) -> dict[str, Any]:
    """A Lobby as the API server stores it."""
    made = validate_and_default({**resource, "metadata": {"name": "prices", "namespace": "markets"}}, "test")
    return {**made, "status": {"open": [lobby.directory_entry for lobby in lobbies]}}


async def ready(made: GreeterProcess) -> bool:
    return (await web.get(f"{made.admin}/readyz")).status == 200


def test_clients_of_a_killed_lobby_move_while_the_api_server_is_unavailable() -> None:
    async def main() -> None:
        key = new_key()
        async with FakeOrigin() as origin, ticking(origin, interval=0.02), fake_kube_api() as api:
            resource = lobby_resource("prices", origin.url)
            resource["metadata"]["namespace"] = "markets"
            async with (
                lobby_process(resource, key=key, ends_with=None) as first,
                lobby_process(resource, key=key, number=2) as second,
            ):
                lobbies = [first, second]
                api.put(PATH, stored(resource, *lobbies))
                async with greeter(api, key) as made, Swarm(made.url("/prices")) as swarm:
                    await swarm.connect_all(20)
                    assert (await made.metrics())("greeter_clients", lobby="markets/prices") == 20
                    api.instead = lambda _: http.Response(status=503)
                    api.end_watches()
                    await made.process.logged("the known ones stay as they are")
                    await lobbies[0].until_clients(20)
                    await lobbies[0].process.destroy()
                    await lobbies[1].until_clients(20)
                    await swarm.connect_all(5)
                    await swarm.each_gets(20)
                    assert (len(swarm.open), swarm.disorder) == (25, 0), swarm.summary()
                    assert await ready(made)
                    assert (await made.metrics())("greeter_directory_current") == 0

                    api.instead = lambda _: None
                    api.put(
                        PATH, {**stored(resource, lobbies[1]), "spec": {**stored(resource)["spec"], "path": "/new"}}
                    )
                    await made.process.logged("the API server responds again")
                    async with Swarm(made.url("/new")) as others:
                        await others.connect_all(1)
                    assert (await made.metrics())("greeter_directory_current") == 1

    run(main(), deadline=60)


def test_greeter_becomes_ready_once_the_api_server_is_available() -> None:
    async def main() -> None:
        key = new_key()
        async with FakeOrigin() as origin, fake_kube_api() as api:
            resource = lobby_resource("prices", origin.url)
            resource["metadata"]["namespace"] = "markets"
            async with lobby_processes(resource, 1, key=key) as lobbies:
                api.put(PATH, stored(resource, *lobbies))
                api.instead = lambda _: http.Response(status=503)
                async with greeter(api, key) as made, Swarm(made.url("/prices")) as swarm:
                    assert not await ready(made)
                    (early,) = await swarm.connect(1)
                    assert early.status == 503
                    api.instead = lambda _: None
                    await until(lambda: ready(made), deadline=15)
                    await swarm.connect_all(1)

    run(main(), deadline=60)
