"""What a Lobby may not ask of the cluster: it is refused with a condition, or its origin is not contacted."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

EVERYONE = {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}, "labelSelector": {}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "priority": (
        {"priorityClassName": "system-node-critical"},
        "spec.template.priorityClassName: system-node-critical",
    ),
    "taints": ({"tolerations": [{"operator": "Exists"}]}, "spec.template.tolerations: every key"),
    "labels": ({"labels": {"app": "payments"}}, "spec.template.labels: app"),
    "annotations": ({"annotations": {"sidecar.istio.io/inject": "false"}}, "spec.template.annotations: sidecar"),
    "env": (
        {"env": [{"name": "PYTHONWARNINGS", "value": "all:0:antigravity.x:0:0"}]},
        "spec.template.env: PYTHONWARNINGS",
    ),
    "node": (
        {"nodeSelector": {"kubernetes.io/hostname": "node-1"}},
        "spec.template.nodeSelector: kubernetes.io/hostname",
    ),
    "pods": (
        {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [EVERYONE]}}},
        "spec.template.affinity.podAntiAffinity: is not allowed",
    ),
    "memory": (
        {"resources": {"limits": {"memory": "0"}}},
        "spec.template.resources.limits.memory: 0 removes the limit",
    ),
}
DENIED = {
    "metadata": "ws://169.254.169.254/latest/meta-data/",
    "loopback": "ws://127.0.0.1:8001/metrics",
    "loopback-v6": "ws://[::ffff:127.0.0.1]:8001/metrics",
    "api-server": "wss://kubernetes.default.svc/",
}


@pytest.mark.parametrize("case", REFUSED)
def test_template_beyond_the_policy_is_refused_with_a_condition(cluster: Cluster, case: str) -> None:
    template, problem = REFUSED[case]
    with cluster.lobby(lobby("greedy", "ws://origin.invalid/", template={**SMALL, **template}, replicas=1)) as name:
        refused = cluster.until_condition(name, "Scaling", "False")
        assert refused["reason"] == "InvalidSpec"
        assert problem in refused["message"]
        assert cluster.pods(name) == []
        cluster.merge(name, template=None)
        eventually(lambda: cluster.pods(name), deadline=60, what=f"{name} has a lobby once its template is allowed")


@pytest.mark.parametrize("case", DENIED)
def test_origin_in_a_denied_network_is_not_contacted(cluster: Cluster, case: str) -> None:
    with cluster.lobby(lobby(f"denied-{case}", DENIED[case], replicas=1, origin_connect="Always")) as name:
        cluster.until_condition(name, "Ready", "True")
        lost = cluster.until_condition(name, "OriginConnected", "False")
        eventually(
            lambda: "in the denied network" in cluster.until_condition(name, "OriginConnected", "False")["message"],
            deadline=30,
            what=lambda: str(lost),
        )
