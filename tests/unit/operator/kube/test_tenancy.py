"""What the namespace of a Lobby decides: whether and where it is served, and which Secrets it may name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.kube.support import lobby, operator_settings

from lobby_operator.kube.tenancy import Tenancy

RULES = Tenancy(key_secrets=frozenset({"master", "token"}))


def reference(name: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "key"}}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            {"origin": {"headers": [{"name": "X", "valueFrom": reference("master")}]}},
            "spec.origin.headers[0].valueFrom.secretKeyRef",
        ),
        (
            {"origin": {"query": [{"name": "x", "valueFrom": reference("master")}]}},
            "spec.origin.query[0].valueFrom.secretKeyRef",
        ),
        ({"origin": {"secrets": [{"name": "X", **reference("master")}]}}, "spec.origin.secrets[0].secretKeyRef"),
        ({"origin": {"tls": {"caSecretRef": {"name": "master"}}}}, "spec.origin.tls.caSecretRef"),
        ({"origin": {"tls": {"clientCertSecretRef": {"name": "master"}}}}, "spec.origin.tls.clientCertSecretRef"),
        ({"template": {"imagePullSecrets": [{"name": "a"}, {"name": "master"}]}}, "spec.template.imagePullSecrets[1]"),
    ],
)
def test_a_secret_with_keys_of_tokens_is_refused_wherever_it_is_named(spec: dict[str, Any], field: str) -> None:
    assert RULES.problems(lobby(**spec)) == [
        f"{field}.name: master holds keys of the operator; accepted: another Secret"
    ]


def test_other_secrets_are_accepted() -> None:
    origin = {"headers": [{"name": "X", "valueFrom": reference("masters")}]}
    assert RULES.problems(lobby(origin=origin)) == []


def test_the_secrets_of_all_keys_are_those_of_the_settings() -> None:
    rules = Tenancy.of(operator_settings(master_secret="master"))
    assert rules.key_secrets == {"master", "token"}
    assert rules.serves("anywhere")


def test_only_the_named_namespaces_are_served() -> None:
    rules = Tenancy.of(operator_settings(namespace="", lobby_namespaces=("shop", "lab")))
    assert [rules.serves(each) for each in ("shop", "lab", "shops", "kube-system")] == [True, True, False, False]


@pytest.mark.parametrize(("prefix", "path"), [(True, "/shop/prices"), (False, "/prices")])
def test_a_path_begins_with_the_namespace_if_that_is_wanted(prefix: bool, path: str) -> None:
    assert Tenancy(prefix_paths=prefix).place(lobby()).spec.path == path
