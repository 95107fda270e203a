"""Pods that the scheduler or the kubelet holds are left to them, with the reason in the status."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from tests.cluster.support.cluster import Cluster, condition, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

PATIENCE = 20.0
"""Seconds: several times the `startSeconds` of these Lobbies."""


HUGE = {"resources": {"requests": {"cpu": "4", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}}


def until_scaling(cluster: Cluster, name: str, reason: str) -> dict[str, Any]:
    """Waits until the condition Scaling has a reason; returns the condition."""

    def look() -> dict[str, Any]:
        found = condition(cluster.get(name), "Scaling")
        return found if found.get("reason") == reason else {}

    return eventually(look, deadline=60, what=lambda: f"{reason}; {cluster.describe(name)}")


@contextlib.contextmanager
def with_a_wrong_image(cluster: Cluster, name: str) -> Iterator[None]:
    """The image of a pod is changed while it waits for a node of a type that there is not yet."""
    (pod,) = eventually(lambda: cluster.pods(name), what="the pod is there")
    kubectl("set", "image", f"pod/{name_of(pod)}", "lobby=nobody/has-this:1", "-n", cluster.namespace)
    node = cluster.other_node()
    kubectl("label", "node", node, "type=new", "--overwrite")
    try:
        yield
    finally:
        kubectl("label", "node", node, "type-")


def test_pods_without_a_node_or_an_image_stay_and_the_reason_is_named(cluster: Cluster, origin: str) -> None:
    homeless = lobby(
        "homeless", origin, replicas=1, startSeconds=5, template={**HUGE, "nodeSelector": {"type": "nowhere"}}
    )
    imageless = lobby(
        "imageless", origin, replicas=1, startSeconds=5, template={**SMALL, "nodeSelector": {"type": "new"}}
    )
    begun = time.monotonic()
    with (
        cluster.lobby(homeless) as homeless_name,
        cluster.lobby(imageless) as imageless_name,
        with_a_wrong_image(cluster, imageless_name),
    ):
        found = until_scaling(cluster, homeless_name, "Unschedulable")
        named = time.monotonic() - begun
        assert "waits for a node: Unschedulable: 0/" in found["message"]
        assert "nobody/has-this:1" in until_scaling(cluster, imageless_name, "ImageUnavailable")["message"]
        assert condition(cluster.get(homeless_name), "Reconciling")["status"] == "True"
        names = (homeless_name, imageless_name)
        for name in names:  # that of the image for three minutes
            assert condition(cluster.get(name), "Stalled")["status"] == "False"
        pods = {name: [each["metadata"]["uid"] for each in cluster.pods(name)] for name in names}
        assert [len(each) for each in pods.values()] == [1, 1]
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert {name: [each["metadata"]["uid"] for each in cluster.pods(name)] for name in names} == pods
            time.sleep(1)
        cluster.merge(homeless_name, template={**SMALL, "nodeSelector": None})
        cluster.until_ready(homeless_name, 1)
        cluster.until_condition(homeless_name, "Ready", "True")
    FIGURES.note(f"pending pod: named after {named:.0f} s, left alone for {PATIENCE:.0f} s")
