from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web
from tests.support.kube_api import Asked, status
from tests.support.waiting import stays, until
from tests.unit.operator.kube.support import connected, running

from lobby_operator.kube import names
from lobby_operator.kube.names import Resource
from lobby_operator.kube.token_secret import TokenSecrets
from lobby_operator.kube.written_objects import WrittenObjects
from lobby_operator.settings import WrittenObjectsSettings

CONFIG_MAPS = "/api/v1/namespaces/shop/configmaps"
BUDGETS = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"
SECRET = "/api/v1/namespaces/shop/secrets/token"  # its path
LABELS = {"app.kubernetes.io/managed-by": "lobby-operator"}
SETTINGS = WrittenObjectsSettings(config_seconds=0.01, rounds_per_full_check=1)


class Controller:
    """Writes a ConfigMap, or another object, of this uid."""

    def __init__(self, uid: str, kind: Resource = names.CONFIG_MAPS) -> None:
        self.written = {kind: uid} if uid else {}
        self.times = 0

    def write_again(self) -> None:
        self.times += 1
        self.written = {}


def test_a_deleted_config_map_is_written_again_once() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            stored = server.put(f"{CONFIG_MAPS}/prices-lobby", {"metadata": {"name": "prices-lobby", "labels": LABELS}})
            there, gone = Controller(stored["metadata"]["uid"]), Controller("another")
            watch = WrittenObjects(
                api, ["shop"], lambda _: [there, gone, Controller("")], token_secrets=None, settings=SETTINGS
            )
            async with running(watch.run()):
                await until(lambda: gone.times)
                await until(lambda: len(server.requests("GET", "configmaps")) > 3)
                assert (there.times, gone.times) == (0, 1)
                server.remove(f"{CONFIG_MAPS}/prices-lobby")
                await until(lambda: there.times)

    asyncio.run(main())


def test_a_deleted_disruption_budget_is_written_again_once() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            metadata = {"name": "prices-lobby", "labels": LABELS}
            stored = server.put(f"{BUDGETS}/prices-lobby", {"metadata": metadata})
            lobby = Controller(stored["metadata"]["uid"], names.DISRUPTION_BUDGETS)
            watch = WrittenObjects(api, ["shop"], lambda _: [lobby], token_secrets=None, settings=SETTINGS)
            async with running(watch.run()):
                await until(lambda: len(server.requests("GET", "poddisruptionbudgets")) > 3)
                before = lobby.times
                server.remove(f"{BUDGETS}/prices-lobby")
                await until(lambda: lobby.times)
                await stays(lambda: (before, lobby.times) == (0, 1), seconds=0.1)

    asyncio.run(main())


def test_a_deleted_token_secret_is_written_again(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "key"
        await asyncio.to_thread(file.write_text, "ab" * 32)
        async with connected() as (server, api):
            secrets = TokenSecrets(api, "token", file)
            await secrets.ensure("shop")
            lobby = Controller("")
            watch = WrittenObjects(api, ["shop"], lambda _: [lobby], token_secrets=secrets, settings=SETTINGS)
            async with running(watch.run()):
                await until(lambda: len(server.requests("GET", "secrets")) > 3)
                assert not lobby.times
                server.remove(SECRET)
                await until(lambda: lobby.times)
            await secrets.ensure("shop")
            assert SECRET in server.objects

    asyncio.run(main())


def test_a_list_from_a_cache_that_lacks_a_new_config_map_is_not_believed() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            stored = server.put(f"{CONFIG_MAPS}/prices-lobby", {"metadata": {"name": "prices-lobby", "labels": LABELS}})

            def late_cache(asked: Asked) -> web.Response | None:
                if asked.query.get("resourceVersion") != "0":
                    return None
                return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

            server.instead = late_cache
            lobby = Controller(stored["metadata"]["uid"])
            watch = WrittenObjects(api, ["shop"], lambda _: [lobby], token_secrets=None, settings=SETTINGS)
            async with running(watch.run()):
                await until(lambda: len(server.requests("GET", "configmaps")) > 6)
                assert not lobby.times
                server.remove(f"{CONFIG_MAPS}/prices-lobby")
                await until(lambda: lobby.times)

    asyncio.run(main())


def test_a_namespace_without_rights_does_not_hide_what_is_deleted_in_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "key"
        await asyncio.to_thread(file.write_text, "ab" * 32)
        async with connected() as (server, api):
            secrets = TokenSecrets(api, "token", file)
            for namespace in ("closed", "shop"):
                await secrets.ensure(namespace)
            server.instead = lambda asked: status(403, "Forbidden", "no rights") if "/closed/" in asked.path else None
            lobbies = {"closed": Controller("one"), "shop": Controller("gone")}
            watch = WrittenObjects(
                api, list(lobbies), lambda each: [lobbies[each]], token_secrets=secrets, settings=SETTINGS
            )
            async with running(watch.run()):
                await until(lambda: lobbies["shop"].times == 1)  # its ConfigMap
                server.remove(SECRET)
                await until(lambda: lobbies["shop"].times == 2)
                assert not lobbies["closed"].times

    asyncio.run(main())


def test_many_namespaces_are_looked_at_less_often() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            settings = WrittenObjectsSettings(config_seconds=0.01, lists_per_second=20)
            watch = WrittenObjects(
                api, ["a", "b", "c", "d"], lambda _: [Controller("gone")], token_secrets=None, settings=settings
            )
            begun = asyncio.get_running_loop().time()
            async with running(watch.run()):
                await until(lambda: len(server.requests("GET", "/d/configmaps")) >= 4)  # two lists a round
            assert asyncio.get_running_loop().time() - begun >= 2 * 4 / 20

    asyncio.run(main())
