"""`helm upgrade` to new images: every operator, greeter and lobby is replaced."""

from __future__ import annotations

from tests.cluster.failures.conftest import CLIENTS, LOBBIES, Load
from tests.cluster.support.images import Images
from tests.cluster.support.waiting import eventually


def test_every_lobby_is_replaced_and_new_clients_are_always_admitted(load: Load) -> None:
    cluster = load.cluster
    new = Images(tag=f"{load.release.images.tag}-2")
    new.build()
    # The greeters are replaced, too: their clients reconnect, and are counted as closed.
    with load.disruption(
        "helm upgrade to new images", made=lambda count: LOBBIES <= count <= 2 * LOBBIES, lost=CLIENTS, settle=240
    ):
        load.release.upgrade(new)
        eventually(
            lambda: {pod["spec"]["containers"][0]["image"] for pod in load.pods()} == {new.lobby},
            deadline=240,
            what=lambda: f"every lobby has the new image; {cluster.describe(load.name)}",
        )
