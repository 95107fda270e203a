"""`helm upgrade` to new images: of everything, and of lobbies alone, which no client notices."""

from __future__ import annotations

import pytest
from tests.cluster.failures.conftest import CLIENTS, LOBBIES, Load
from tests.cluster.support.images import Images
from tests.cluster.support.waiting import eventually

SUFFIX = "-2"


def test_every_lobby_is_replaced_and_new_clients_are_always_admitted(load: Load) -> None:
    new = Images(tag=f"{load.release.images.tag}{SUFFIX}")
    new.build()
    # The greeters are replaced, too: their clients reconnect, and are counted as closed.
    with load.disruption(
        "helm upgrade to new images", made=lambda count: LOBBIES <= count <= 2 * LOBBIES, lost=CLIENTS, settle=240
    ):
        load.release.upgrade(new)
        _until_all_have(load, new.lobby)


@pytest.mark.slow  # the gate changes the template instead, which replaces lobbies in the same way
def test_no_client_notices_another_image_of_the_lobbies(load: Load) -> None:
    now = load.release.images
    other = Images(tag=now.tag.removesuffix(SUFFIX) if now.tag.endswith(SUFFIX) else f"{now.tag}{SUFFIX}")
    other.build()
    with load.disruption(
        "helm upgrade to another image of the lobbies", made=lambda count: LOBBIES <= count <= 2 * LOBBIES, settle=240
    ):
        load.release.upgrade(now, lobby=other)
        _until_all_have(load, other.lobby)


def _until_all_have(load: Load, image: str) -> None:
    eventually(
        lambda: {pod["spec"]["containers"][0]["image"] for pod in load.pods()} == {image},
        deadline=240,
        what=lambda: f"every lobby has the image {image}; {load.cluster.describe(load.name)}",
    )
