"""Pods that have the name of a lobby and are not one: they are left alone, and another number is taken."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.support.cluster import OF_LOBBY, Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import POD_SECURITY, SECURITY, lobby
from tests.cluster.support.waiting import eventually


def event_notes(cluster: Cluster, lobby_name: str) -> list[str]:
    """Texts of the Events NameTaken of a Lobby."""
    events = json.loads(kubectl("get", "events", "-n", cluster.namespace, "-o", "json"))["items"]
    ours = [each for each in events if each["reason"] == "NameTaken" and each["involvedObject"]["name"] == lobby_name]
    return [each["message"] for each in ours]


def test_a_quarantined_lobby_does_not_block_its_lobby(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("quarantined", origin, replicas=2)) as name:
        cluster.until_ready(name, 2)
        last = f"{name}-2"
        kubectl("label", "pod", last, "-n", cluster.namespace, f"{OF_LOBBY}-")
        try:
            cluster.until_ready(name, 2)
            assert {name_of(pod) for pod in cluster.pods(name)} == {f"{name}-1", f"{name}-3"}
            notes = eventually(lambda: event_notes(cluster, name), deadline=20, what="an Event says so")
            assert any("labels were changed" in note and last in note for note in notes), notes
            pod = json.loads(kubectl("get", "pod", last, "-n", cluster.namespace, "-o", "json"))
            assert "deletionTimestamp" not in pod["metadata"]
        finally:
            cluster.delete("pod", last)


def test_a_pod_of_a_stateful_set_and_an_orphan_do_not_block_a_lobby(
    cluster: Cluster, origin: str, installed: Any
) -> None:
    name = "blocked"
    container = {"name": "app", "image": installed.images.lobby, "imagePullPolicy": "IfNotPresent"}
    container |= {"command": ["sleep", "3600"], "securityContext": SECURITY}
    spec = {"containers": [container], "securityContext": {**POD_SECURITY, "runAsUser": 65532}}
    stateful_set = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "replicas": 2,  # blocked-0 and blocked-1
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {**spec, "terminationGracePeriodSeconds": 1},
            },
        },
    }
    orphan = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-2", "labels": {OF_LOBBY: name, "app.kubernetes.io/name": "lobby-gateway"}},
        "spec": {**spec, "terminationGracePeriodSeconds": 1},
    }
    cluster.apply(stateful_set, orphan)
    try:
        kubectl("wait", "--for=create", f"pod/{name}-1", "-n", cluster.namespace, "--timeout=30s", deadline=40)
        before = {
            each: json.loads(kubectl("get", "pod", each, "-n", cluster.namespace, "-o", "json"))["metadata"]["uid"]
            for each in (f"{name}-1", f"{name}-2")
        }
        cluster.apply(lobby(name, origin, replicas=1))
        cluster.until_condition(name, "Ready", "True")
        lobbies = cluster.status(name)["lobbies"]
        assert [each["name"] for each in lobbies] == [f"{name}-3"], lobbies
        notes = eventually(lambda: event_notes(cluster, name), deadline=20, what="an Event says so")
        assert all(any(each in note for note in notes) for each in before), notes
        for each, uid in before.items():
            pod = json.loads(kubectl("get", "pod", each, "-n", cluster.namespace, "-o", "json"))
            assert pod["metadata"]["uid"] == uid
            assert "deletionTimestamp" not in pod["metadata"]
        FIGURES.note(f"names of others: skipped {', '.join(before)}")
    finally:
        cluster.delete("lobby", name)
        cluster.delete("statefulset", name)
        cluster.delete("pod", f"{name}-2")
