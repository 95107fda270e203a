"""Pods that the scheduler or the kubelet holds are left to them, with the reason in the status."""

from __future__ import annotations

import time

from tests.cluster.support.cluster import Cluster, condition, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

PATIENCE = 20.0
"""Seconds: several times the `startSeconds` of these Lobbies."""


def test_a_pod_without_a_node_stays_and_the_reason_is_named(cluster: Cluster, origin: str) -> None:
    huge = {"resources": {"requests": {"cpu": "4", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}}
    other = {"nodeSelector": {"type": "nowhere"}}
    with cluster.lobby(lobby("homeless", origin, replicas=1, startSeconds=5, template={**huge, **other})) as name:
        begun = time.monotonic()
        found = eventually(
            lambda: seen if (seen := condition(cluster.get(name), "Scaling")).get("reason") == "Unschedulable" else {},
            deadline=45,
            what=lambda: f"the reason is named; {cluster.describe(name)}",
        )
        named = time.monotonic() - begun
        assert "waits for a node: Unschedulable: 0/" in found["message"]
        seen = cluster.get(name)
        assert condition(seen, "Reconciling")["status"] == "True"
        assert condition(seen, "Stalled")["status"] == "False"
        (pod,) = cluster.pods(name)
        while time.monotonic() < begun + PATIENCE:
            assert [each["metadata"]["uid"] for each in cluster.pods(name)] == [pod["metadata"]["uid"]]
            time.sleep(1)
        cluster.merge(name, template={**SMALL, "nodeSelector": None})
        cluster.until_ready(name, 1)
        cluster.until_condition(name, "Ready", "True")
    FIGURES.note(f"pending pod: named after {named:.0f} s, left alone for {PATIENCE:.0f} s")


def test_an_image_that_cannot_be_pulled_is_named_and_the_pod_stays(cluster: Cluster, origin: str) -> None:
    """The image of a pod is changed while it waits for a node of a type that there is not yet."""
    template = {**SMALL, "nodeSelector": {"type": "new"}}
    with cluster.lobby(lobby("imageless", origin, replicas=1, startSeconds=5, template=template)) as name:
        (pod,) = eventually(lambda: cluster.pods(name), what="the pod is there")
        kubectl("set", "image", f"pod/{name_of(pod)}", "lobby=nobody/has-this:1", "-n", cluster.namespace)
        node = cluster.other_node()
        kubectl("label", "node", node, "type=new", "--overwrite")
        try:
            found = eventually(
                lambda: (
                    seen
                    if (seen := condition(cluster.get(name), "Scaling")).get("reason") == "ImageUnavailable"
                    else {}
                ),
                deadline=60,
                what=lambda: f"the reason is named; {cluster.describe(name)}",
            )
            assert "nobody/has-this:1" in found["message"]
            assert condition(cluster.get(name), "Stalled")["status"] == "False"  # for three minutes
            begun = time.monotonic()
            while time.monotonic() < begun + 20:  # startSeconds is 5
                assert [each["metadata"]["uid"] for each in cluster.pods(name)] == [pod["metadata"]["uid"]]
                time.sleep(1)
        finally:
            kubectl("label", "node", node, "type-")
