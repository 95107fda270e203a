"""`kubectl scale lobby` sets a minimum of running lobbies."""

from __future__ import annotations

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import kubectl
from tests.cluster.support.resources import lobby


def test_scaling_up_and_down(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("scaled", origin, emptySeconds=1)) as name:
        cluster.until_ready(name, 1)
        kubectl("scale", "lobby", name, "--replicas=3", "-n", cluster.namespace)
        cluster.until_ready(name, 3)
        kubectl("wait", f"lobby/{name}", "--for=jsonpath={.status.readyReplicas}=3", "-n", cluster.namespace)
        scale = cluster.api.get(f"/apis/lobby-gateway.io/v1alpha1/namespaces/{cluster.namespace}/lobbies/{name}/scale")
        assert scale["spec"]["replicas"] == 3
        assert scale["status"]["replicas"] == 3
        selected = kubectl("get", "pods", "-l", scale["status"]["selector"], "-n", cluster.namespace, "-o", "name")
        assert len(selected.split()) == 3
        kubectl("scale", "lobby", name, "--replicas=1", "-n", cluster.namespace)
        cluster.until_ready(name, 1)
