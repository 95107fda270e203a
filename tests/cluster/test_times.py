"""Times from `kubectl apply` to the first message, and from "spare seats used" to "new lobby open"."""

from __future__ import annotations

import time

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

ROUNDS = 3


def first_message(crowd: Crowd) -> bool:
    """Connects a client; returns whether it was admitted and received a message."""
    (client,) = crowd.run(crowd.swarm.connect(1))
    if client.status != 101:
        return False  # 404: the greeter does not know the Lobby yet
    crowd.run(crowd.swarm.each_has(1, of=[client]))
    return True


def test_from_apply_to_the_first_message(installed: Release, cluster: Cluster, origin: str) -> None:
    times = []
    for number in range(ROUNDS):
        begun = time.monotonic()
        name = f"first-{number}"
        with cluster.lobby(lobby(name, origin)), Crowd(installed.url(f"/{name}")) as crowd:
            eventually(lambda crowd=crowd: first_message(crowd), every=0.02)  # type: ignore[misc]
            times.append(time.monotonic() - begun)
    FIGURES.note(f"kubectl apply to first message: {', '.join(f'{each:.1f}' for each in times)} s")


def test_from_spare_seats_used_to_new_lobby_open(installed: Release, cluster: Cluster, origin: str) -> None:
    seats, spare = 10, 4
    resource = lobby("spare", origin, clients_seats=seats, spareSeats=spare)
    times = []
    with cluster.lobby(resource) as name, Crowd(installed.url("/spare")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        known: set[str] = set()

        def new() -> set[str]:
            return {each["name"] for each in cluster.status(name).get("open", [])} - known

        known |= eventually(new)
        for lobbies in range(1, ROUNDS + 1):
            crowd.connect(lobbies * seats - spare - len(crowd.swarm.clients))
            eventually(
                lambda: cluster.status(name)["clients"] == len(crowd.swarm.clients), what="all seats are counted"
            )
            assert not new(), cluster.describe(name)
            crowd.connect(1)
            begun = time.monotonic()
            opened = eventually(new, every=0.02, what=lambda: cluster.describe(name))
            times.append(time.monotonic() - begun)
            known |= opened
    FIGURES.note(f"spare seats used to new lobby open: {', '.join(f'{each:.1f}' for each in times)} s")
