"""`kubectl delete lobby`: its clients are closed at once, and others are refused."""

from __future__ import annotations

import time

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import kubectl
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

CLIENTS = 600
DEADLINE = 10.0  # without it, clients hear nothing for 45 s


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_clients_are_told_that_it_was_deleted(installed: Release, cluster: Cluster, origin: str, cascade: str) -> None:
    with cluster.lobby(lobby("gone", origin)) as name, Crowd(installed.url("/gone")) as crowd:
        cluster.until_condition(name, "Ready", "True")
        crowd.connect(CLIENTS)
        crowd.each_gets(2)
        began = time.monotonic()
        # In the foreground, as Argo CD deletes, the Lobby exists until its pods are gone.
        kubectl("delete", "lobby", name, "-n", cluster.namespace, f"--cascade={cascade}", "--wait=false")
        eventually(lambda: not crowd.look(lambda: crowd.swarm.open), deadline=DEADLINE, what=crowd.summary)
        seconds = time.monotonic() - began
        ends = crowd.look(lambda: {(client.close_code, client.close_reason) for client in crowd.swarm.clients})
        assert ends == {(1001, "the Lobby was deleted")}

        def refusal() -> int | None:
            (late,) = crowd.run(crowd.swarm.connect(1))
            status: int | None = late.status
            return status

        assert refusal() == 404
        FIGURES.note(f"Lobby deleted ({cascade}): {CLIENTS} clients closed with 1001 within {seconds:.1f} s")
        eventually(lambda: not cluster.pods(name), deadline=60, what=lambda: cluster.describe(name))
