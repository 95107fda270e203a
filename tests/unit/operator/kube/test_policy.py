"""What a Lobby may ask of the cluster: nothing that reaches other pods, unless the administrator listed it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.kube.support import resource

from lobby_operator.kube.policy import violations
from lobby_operator.settings import PolicySettings

DEFAULT = PolicySettings()
EVERYTHING = PolicySettings(
    max_replicas=10_000,
    env=("*",),
    labels=("*",),
    annotations=("*",),
    node_labels=("*",),
    tolerations=("*",),
    priority_classes=("*",),
    pod_affinity=True,
    max_resources={},
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODE_NAME = {"key": "metadata.name", "operator": "In", "values": ["control-plane-1"]}
EVERYONE = {"topologyKey": "topology.kubernetes.io/zone", "namespaceSelector": {}, "labelSelector": {}}

ABUSES: dict[str, tuple[dict[str, Any], str]] = {
    "priority": (
        {"priorityClassName": "system-node-critical"},
        "spec.template.priorityClassName: system-node-critical is not allowed; accepted here: nothing",
    ),
    "every taint": (
        {"tolerations": [{"operator": "Exists"}]},
        ("spec.template.tolerations: every key is not allowed; accepted here: node.kubernetes.io/not-ready, "
        "node.kubernetes.io/unreachable"),
    ),
    "a reserved node": (
        {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
        ("spec.template.tolerations: node-role.kubernetes.io/control-plane is not allowed; "
        "accepted here: node.kubernetes.io/not-ready, node.kubernetes.io/unreachable"),
    ),
    "labels that others select": (
        {"labels": {"app": "payments"}},
        "spec.template.labels: app is not allowed; accepted here: app.kubernetes.io/part-of, app.kubernetes.io/version",
    ),
    "another controller": (
        {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec.template.annotations: sidecar.istio.io/inject is not allowed; accepted here: nothing",
    ),
    "the interpreter": (
        {"env": [{"name": "PYTHONWARNINGS", "value": "all:0:antigravity.x:0:0"}]},
        "spec.template.env: PYTHONWARNINGS is not allowed; accepted here: LOBBY_LOG_LEVEL, LOBBY_LOG_STYLE, TZ",
    ),
    "the linker": (
        {"env": [{"name": "LD_PRELOAD", "value": "x.so"}]},
        "spec.template.env: LD_PRELOAD is not allowed; accepted here: LOBBY_LOG_LEVEL, LOBBY_LOG_STYLE, TZ",
    ),
    "one node": (
        {"nodeSelector": {"kubernetes.io/hostname": "a"}},
        ("spec.template.nodeSelector: kubernetes.io/hostname is not allowed; accepted here: kubernetes.io/arch, "
        "topology.kubernetes.io/region, topology.kubernetes.io/zone"),
    ),
    "one node by affinity": (
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchFields": [NODE_NAME]}]}}}},
        ("spec.template.affinity.nodeAffinity: metadata.name is not allowed; accepted here: kubernetes.io/arch, "
        "topology.kubernetes.io/region, topology.kubernetes.io/zone"),
    ),
    "reserved nodes by preference": (
        {"affinity": {"nodeAffinity": {PREFERRED: [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}}
        ]}}},
        ("spec.template.affinity.nodeAffinity: pool is not allowed; accepted here: kubernetes.io/arch, "
        "topology.kubernetes.io/region, topology.kubernetes.io/zone"),
    ),
    "nobody else in the zone": (
        {"affinity": {"podAntiAffinity": {REQUIRED: [EVERYONE]}}},
        ("spec.template.affinity.podAntiAffinity: is not allowed; accepted here: nodeAffinity, and "
        "topologySpreadConstraints of the template"),
    ),
    "next to someone": (
        {"affinity": {"podAffinity": {REQUIRED: [EVERYONE]}}},
        ("spec.template.affinity.podAffinity: is not allowed; accepted here: nodeAffinity, and "
        "topologySpreadConstraints of the template"),
    ),
    "a whole node": (
        {"resources": {"requests": {"cpu": "64", "memory": "1Ti"}}},
        "spec.template.resources.requests.cpu: 64 is too large; accepted here: at most 4",
    ),
    "a quantity beyond any machine": (
        {"resources": {"limits": {"memory": "1e99999999999999999999"}}},
        "spec.template.resources.limits.memory: 1e99999999999999999999 is too large; accepted here: at most 4Gi",
    ),
    "no memory limit": (
        {"resources": {"limits": {"memory": "0"}}},
        "spec.template.resources.limits.memory: 0 removes the limit; accepted here: more than 0, at most 4Gi",
    ),
}  # fmt: skip


def found(policy: PolicySettings, template: dict[str, Any], **spec: Any) -> list[str]:
    return violations(resource(template=template, **spec)["spec"], policy)


@pytest.mark.parametrize(("template", "problem"), ABUSES.values(), ids=ABUSES)
def test_template_that_reaches_beyond_its_own_pods_is_refused(template: dict[str, Any], problem: str) -> None:
    assert found(DEFAULT, template)[0] == problem


@pytest.mark.parametrize("template", [template for template, _ in ABUSES.values()], ids=ABUSES)
def test_administrator_may_allow_anything(template: dict[str, Any]) -> None:
    assert found(EVERYTHING, template) == []


@pytest.mark.parametrize(
    "template",
    [
        {},
        {"labels": {"app.kubernetes.io/part-of": "feeds"}},
        {"env": [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}, {"name": "TZ", "value": "UTC"}]},
        {"nodeSelector": {"topology.kubernetes.io/zone": "a"}},
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}
        ]}}}},
        {"affinity": {"nodeAffinity": {}, "podAffinity": {}, "podAntiAffinity": {}}},
        {"tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 5}]},
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]},
        {"resources": {"requests": {"cpu": 1, "memory": "128Mi"}, "limits": {"cpu": "0", "memory": "4Gi"}}},
        {"imagePullSecrets": [{"name": "registry"}]},
        {"priorityClassName": ""},
    ],
    ids=str,
)  # fmt: skip
def test_what_concerns_only_the_own_pods_is_allowed(template: dict[str, Any]) -> None:
    assert found(DEFAULT, template) == []


@pytest.mark.parametrize("affinity", [5, [], {"nodeSelectorTerms": "x"}, {REQUIRED: [{"matchExpressions": [5, {}]}]}])
def test_affinity_of_any_shape_is_judged_without_an_error(affinity: Any) -> None:
    spec = {"maxReplicas": 1, "template": {"affinity": {"nodeAffinity": affinity}}}
    assert len(violations(spec, DEFAULT)) <= 1


def test_every_violation_is_named_once() -> None:
    template = {
        "labels": {"app": "a", "role": "b"},
        "tolerations": [{"operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute"}],
    }
    fields = [each.partition(" is ")[0] for each in found(DEFAULT, template, maxReplicas=10_000)]
    assert fields == [
        "spec.maxReplicas: 10000",
        "spec.template.labels: app",
        "spec.template.labels: role",
        "spec.template.tolerations: every key",
    ]


def test_number_of_lobbies_is_limited() -> None:
    assert found(DEFAULT, {}, maxReplicas=200) == []
    (problem,) = found(DEFAULT, {}, maxReplicas=201)
    assert problem == "spec.maxReplicas: 201 is too large; accepted here: at most 200"


def test_default_of_every_field_of_the_resource_is_allowed() -> None:
    assert violations(resource()["spec"], DEFAULT) == []


@pytest.mark.parametrize(
    ("pattern", "accepted"), [("team", False), ("example.com/*", True), ("example.com/team", True), ("example*", True)]
)
def test_name_in_a_list_is_exact_or_a_beginning(pattern: str, accepted: bool) -> None:
    problems = found(PolicySettings(labels=(pattern,)), {"labels": {"example.com/team": "a"}})
    assert (problems == []) is accepted


def test_values_of_variables_are_not_shown() -> None:
    (problem,) = found(DEFAULT, {"env": [{"name": "OTHER", "value": "s3cret"}]})
    assert "s3cret" not in problem
