"""Objects of other people are never overwritten, whatever their names."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.support.kube_api import FakeKubeApi
from tests.unit.operator.kube.support import UID, connected, lobby

from lobby_operator.kube import names
from lobby_operator.kube.client import KubeApi
from lobby_operator.kube.names import CONFIG_MAPS
from lobby_operator.kube.owned_object import NameTakenError, OwnedObject, belongs_to

PATH = "/api/v1/namespaces/shop/configmaps/prices-lobby"
THEIRS = {"metadata": {"labels": {"team": "trading"}}, "data": {"mine": "yes"}}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def manifest(value: str = "1") -> dict[str, Any]:
    return {"metadata": names.owned_metadata(lobby(), "prices-lobby"), "data": {"key": value}}


def object_of(api: KubeApi) -> OwnedObject:
    return OwnedObject(api, CONFIG_MAPS, "shop", "prices-lobby", lambda found: belongs_to(lobby(), found))


def data(server: FakeKubeApi) -> Any:
    return server.objects[PATH]["data"]


def test_a_missing_object_is_created_and_an_own_one_updated() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            one = object_of(api)
            await one.write(manifest("1"))
            await one.write(manifest("2"))
            assert data(server) == {"key": "2"}
            await object_of(api).write(manifest("3"))  # another process
            assert data(server) == {"key": "3"}
            assert [asked.method for asked in server.asked] == ["GET", "POST", "PATCH", "GET", "PATCH"]

    run(main())


def test_an_object_of_someone_else_is_left_alone_and_named() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(PATH, copy.deepcopy(THEIRS))
            with pytest.raises(NameTakenError) as raised:
                await object_of(api).write(manifest())
            assert str(raised.value) == (
                "the ConfigMap prices-lobby in namespace shop was created by someone else, so it is not changed; "
                "accepted: no ConfigMap of that name"
            )
            assert data(server) == THEIRS["data"]
            assert "ownerReferences" not in server.objects[PATH]["metadata"]
            assert not server.requests("PATCH")

    run(main())


def test_an_object_that_someone_else_created_in_its_place_is_left_alone() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            one = object_of(api)
            await one.write(manifest())
            server.remove(PATH)
            server.put(PATH, copy.deepcopy(THEIRS))
            with pytest.raises(NameTakenError):
                await one.write(manifest("2"))
            assert data(server) == THEIRS["data"]

    run(main())


def test_a_deleted_object_is_created_again() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            one = object_of(api)
            await one.write(manifest())
            server.remove(PATH)
            await one.write(manifest("2"))
            assert data(server) == {"key": "2"}

    run(main())


def test_a_name_that_is_free_again_is_used() -> None:
    async def main() -> None:
        async with connected() as (server, api):
            server.put(PATH, copy.deepcopy(THEIRS))
            one = object_of(api)
            with pytest.raises(NameTakenError):
                await one.write(manifest())
            server.remove(PATH)
            await one.write(manifest())
            assert data(server) == {"key": "1"}

    run(main())


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        (names.owned_metadata(lobby(), ""), True),
        (names.owned_metadata(lobby(uid="an-earlier-one"), ""), False),
        ({"labels": names.owned_metadata(lobby(), "")["labels"]}, True),  # orphaned
        ({"labels": names.owned_metadata(lobby("other"), "")["labels"]}, False),
        ({"labels": names.lobby_labels("prices")}, False),
        ({"ownerReferences": [{"uid": UID}]}, False),
        ({"ownerReferences": [{"uid": UID, "controller": True}]}, True),
        ({"labels": None}, False),
        ({}, False),
    ],
)
def test_only_the_owner_or_all_of_our_labels_make_it_ours(metadata: dict[str, Any], ours: bool) -> None:
    assert belongs_to(lobby(), metadata) is ours
