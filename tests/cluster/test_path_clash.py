"""Two Lobbies claim one path: the older one keeps it, and a condition of the later one says so."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster, condition
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.release import Release
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually


def test_the_later_lobby_has_a_condition(installed: Release, cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("older", origin, path="/shared")) as older:
        cluster.until_condition(older, "Ready", "True")
        with cluster.lobby(lobby("newer", origin, path="/shared")) as newer:
            refused = cluster.until_condition(newer, "PathAccepted", "False")
            assert refused["reason"] == "PathTaken"
            assert "/shared" in refused["message"]
            assert "older" in refused["message"]
            assert condition(cluster.get(newer), "Ready")["status"] == "False"
            assert condition(cluster.get(older), "PathAccepted")["status"] == "True"
            with Crowd(installed.url("/shared")) as crowd:
                crowd.connect(3)
                crowd.each_gets(2)
                eventually(
                    lambda: sum(report["clients"] for report in cluster.reports(older).values()) == 3,
                    what="the older Lobby has the clients",
                )
            cluster.merge(newer, path="/its-own")
            cluster.until_condition(newer, "PathAccepted", "True")
            cluster.until_condition(newer, "Ready", "True")
