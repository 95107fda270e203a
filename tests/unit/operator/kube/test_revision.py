"""What needs a new pod, and what reaches a running lobby."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.kube.lobbies import SETTINGS, lobby, resource

from lobby_operator.kube.pods import live_digest, pod_manifest, revision

PLAIN = revision(lobby(), SETTINGS)


def test_a_revision_fits_into_a_label_and_is_always_the_same() -> None:
    assert revision(lobby(), SETTINGS) == PLAIN
    assert len(PLAIN) == 10
    assert set(PLAIN) <= set("0123456789abcdef")


def test_every_pod_of_a_revision_carries_it() -> None:
    for name, config in (("prices-1", "a"), ("prices-2", "b")):
        pod = pod_manifest(lobby(), name, SETTINGS, config=config)
        assert pod["metadata"]["labels"]["lobby-gateway.io/revision"] == PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"origin": {"url": "wss://other.example.com"}},
        {"origin": {"headers": [{"name": "A", "value": "b"}]}},
        {"origin": {"staleSeconds": 5}},
        {"origin": {"onConnect": [{"expect": {"json": {"/a": 1}}}]}},
        {"template": {"labels": {"a": "b"}}},
        {"template": {"resources": {"limits": {"cpu": 1}}}},
        {"template": {"env": [{"name": "A", "value": "b"}]}},
    ],
    ids=str,
)
def test_another_origin_or_template_is_another_revision(spec: dict[str, Any]) -> None:
    assert revision(lobby(**spec), SETTINGS) != PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"image": "registry.example/lobby:2"},
        {"token_secret": "other"},
        {"limits": {"memory": "1Gi"}},
        {"image_pull_secrets": ("a",)},
    ],
    ids=str,
)
def test_other_settings_are_another_revision(change: dict[str, Any]) -> None:
    assert revision(lobby(), replace(SETTINGS, **change)) != PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"clients": {"seats": 5, "queue": {"messages": 3}}},
        {"replicas": 3},
        {"maxReplicas": 5},
        {"spareSeats": 1},
        {"placement": "Latest"},
        {"routing": {"mode": "Redirect"}},
        {"drainSeconds": 1},
        {"path": "/other"},
        {"waitSeconds": 1},
        {"emptySeconds": 1},
        {"compaction": {"enabled": False}},
    ],
    ids=str,
)
def test_what_is_live_is_no_other_revision(spec: dict[str, Any]) -> None:
    assert revision(lobby(**spec), SETTINGS) == PLAIN


@pytest.mark.parametrize(
    "spec",
    [{"clients": {"seats": 5}}, {"routing": {"mode": "Redirect"}}, {"drainSeconds": 1}, {"path": "/other"}],
    ids=str,
)
def test_lobbies_are_told_of_what_they_take_on(spec: dict[str, Any]) -> None:
    assert live_digest(resource(**spec)) != live_digest(resource())


@pytest.mark.parametrize("spec", [{"replicas": 3}, {"maxReplicas": 5}, {"spareSeats": 1}, {"template": {"labels": {}}}])
def test_lobbies_are_not_told_of_what_only_the_operator_reads(spec: dict[str, Any]) -> None:
    assert live_digest(resource(**spec)) == live_digest(resource())
