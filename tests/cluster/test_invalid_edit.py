"""After an edit that can't be used, the last valid spec stays in force, also for operators and greeters that start then."""

from __future__ import annotations

from typing import Any

from tests.cluster.support.cluster import GREETER_PODS, OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.release import Release
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

FORBIDDEN = {**SMALL, "priorityClassName": "system-node-critical"}  # the CRD accepts it, the policy does not


def test_the_last_valid_spec_is_in_force_after_everything_was_restarted(
    installed: Release, cluster: Cluster, origin: str
) -> None:
    first = lobby("edited", origin, path="/edited", replicas=1, spareSeats=0, emptySeconds=3600)
    with cluster.lobby(first) as name:
        cluster.until_condition(name, "Ready", "True")
        cluster.until_ready(name, 1)
        (before,) = cluster.ready_pods(name)
        cluster.merge(name, path="/elsewhere", replicas=2, template=FORBIDDEN)
        refused = cluster.until_condition(name, "Scaling", "False")
        assert (refused["reason"], "spec.template.priorityClassName" in refused["message"]) == ("InvalidSpec", True)
        started = [name_of(pod) for labels in (OPERATOR_PODS, GREETER_PODS) for pod in cluster.labeled(labels)]
        cluster.delete("pod", *started)
        installed.until_whole()

        status = served(cluster, name)
        assert (status["path"], status["lastValidSpec"]["path"], status["observedGeneration"]) == (
            "/edited",
            "/edited",
            2,
        )
        with Crowd(installed.url("/edited")) as crowd:
            crowd.connect(10)
            crowd.each_gets(2)
        assert [pod["metadata"]["uid"] for pod in cluster.pods(name)] == [before["metadata"]["uid"]]
        cluster.delete("pod", name_of(before))
        cluster.until_ready(name, 1)  # the last valid spec wants one, the stored one wants two
        (after,) = cluster.ready_pods(name)
        assert revision(after) == revision(before)

        cluster.merge(name, template={"priorityClassName": None})
        cluster.until_condition(name, "Scaling", "True")
        cluster.until_ready(name, 2)
        with Crowd(installed.url("/elsewhere")) as crowd:
            crowd.connect(10)
        assert "lastValidSpec" not in cluster.status(name)


def served(cluster: Cluster, name: str) -> dict[str, Any]:
    """The status, once an operator serves the Lobby again."""
    eventually(
        lambda: [each["phase"] for each in cluster.status(name).get("lobbies", [])] == ["Ready"],
        what=lambda: cluster.describe(name),
    )
    return cluster.status(name)


def revision(pod: dict[str, Any]) -> str:
    """The revision of a lobby's pod."""
    return str(pod["metadata"]["labels"]["lobby-gateway.io/revision"])
