"""Defaults of all lobbies and labels of all objects, as options of the operator."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lobby_operator.kube.lobby_defaults import merged_template, read_defaults, read_labels

VALID: dict[str, Any] = {
    "labels": {"team": "platform"},
    "resources": {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": 0}},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    "env": [
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "TZ", "value": "UTC"},
    ],
    "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
}


def test_valid_defaults_are_read_as_they_are() -> None:
    assert read_defaults(json.dumps(VALID)) == VALID
    assert read_defaults("{}") == {}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("resources", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({"command": ["sh"]}, "has an invalid field: command: unknown field"),
        ({"resources": {"requests": {"cpu": "much"}}}, "has an invalid field: resources.requests.cpu: 'much'"),
        ({"tolerations": [{"effect": "No"}]}, "has an invalid field: tolerations[0].effect: 'No'"),
        ({"labels": {"lobby-gateway.io/lobby": "x"}}, "has an invalid field: labels: "),
        ({"env": {"A": "b"}}, "has an invalid field: env: is not a list"),
        ({"env": ["A"]}, "has an invalid field: env[0].name: is not the name of a variable"),
        ({"env": [{"name": "A"}]}, "has an invalid field: env[0]: A needs one of value and valueFrom"),
        ({"env": [{"name": "A", "value": "", "valueFrom": {}}]}, "env[0]: A needs one of value and valueFrom"),
        ({"volumes": [{"emptyDir": {}}]}, "has an invalid field: volumes[0].name: missing"),
        ({"volumes": [{"name": "token"}]}, "has an invalid field: volumes[0].name: token is taken"),
        ({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "volumeMounts[0].name: is not one of the volumes"),
        (
            {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "a"}]},
            "volumeMounts[0].mountPath: is not an absolute path",
        ),
    ],
)
def test_invalid_defaults_are_refused_with_one_line_that_names_the_field(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has)") as refused:
        read_defaults(given if isinstance(given, str) else json.dumps(given))
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_labels_are_read_from_json() -> None:
    labels = {"app.kubernetes.io/instance": "trial", "team": "", "example.com/cost": "a.b"}
    assert read_labels(json.dumps(labels)) == labels


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("team=a", "is not JSON"),
        ('{"a b": "c"}', "contains 'a b', which is not the key of a label"),
        ('{"a": "b c"}', "contains a: 'b c', which is not the value of a label"),
        ('{"a": 1}', "contains a: 1, which is not the value of a label"),
        ('{"lobby-gateway.io/lobby": "x"}', "contains lobby-gateway.io/lobby, which the operator sets"),
        ('{"app.kubernetes.io/name": "x"}', "contains app.kubernetes.io/name, which the operator sets"),
    ],
)
def test_other_labels_are_refused(given: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|contains)") as refused:
        read_labels(given)
    assert str(refused.value) == problem


def test_merging_changes_neither_defaults_nor_template() -> None:
    before = json.dumps(VALID)
    template: dict[str, Any] = {"labels": {"team": "feeds"}}
    merged_template(VALID, template)["labels"]["added"] = "later"
    assert json.dumps(VALID) == before
    assert template == {"labels": {"team": "feeds"}}
