"""Events: each names the pod that it is about, and a normal start leaves no Warning."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from tests.cluster.support.cluster import GREETER_PODS, OPERATOR_PODS, Cluster, Pod, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.faults import kill_process
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

LISTENS = {"lobby is open", "listening", "started"}  # log messages of a lobby, a greeter and an operator
EVENTS = "/apis/events.k8s.io/v1/namespaces/{}/events"


def events(cluster: Cluster, *, kind: str = "", reason: str = "") -> list[dict[str, Any]]:
    """Events of the namespace about objects of a kind, with a reason; all, if these are empty."""
    items: list[dict[str, Any]] = cluster.api.get(EVENTS.format(cluster.namespace))["items"]
    return [
        each
        for each in items
        if each["regarding"].get("kind") == (kind or each["regarding"].get("kind"))
        and each.get("reason") == (reason or each.get("reason"))
    ]


def test_each_event_names_its_pod_and_says_why_one_ended(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("eventful", origin, replicas=2, spareSeats=0)) as name:
        cluster.until_ready(name, 2)
        pods = sorted(name_of(pod) for pod in cluster.pods(name))
        eventually(lambda: events(cluster, kind="Lobby", reason="BelowReplicas"), what="an Event of their creation")
        created = [
            each["note"] for each in events(cluster, kind="Lobby", reason="BelowReplicas") if name in each["note"]
        ]
        assert all(any(pod in note for note in created) for pod in pods), created

        for pod in pods:  # one after the other: the second is no repetition of the first
            kill_process(pod, "lobby_gateway.lobby")
            ended = eventually(
                lambda pod=pod: [  # type: ignore[misc]
                    each for each in events(cluster, kind="Lobby", reason="Ended") if each["note"].startswith(f"{pod}:")
                ],
                what=lambda: str([each["note"] for each in events(cluster, kind="Lobby", reason="Ended")]),
            )
            (event,) = ended
            assert event["related"] == {
                "kind": "Pod",
                "namespace": cluster.namespace,
                "name": pod,
                "apiVersion": "v1",
            }
            assert event["type"] == "Warning"
            # The kubelet may tell of the end, and why, after the operator has found the lobby gone.
            assert "137" in event["note"] or event["note"] == f"{pod}: deleting: it has ended", event["note"]
            cluster.until_ready(name, 2)


def seconds_until_listening(cluster: Cluster, pod: Pod) -> float:
    """How long the process of a pod took from its start until it listened, according to its log."""
    running = pod["status"]["containerStatuses"][0]["state"]["running"]
    lines = [
        json.loads(line)
        for line in kubectl("logs", name_of(pod), "-n", cluster.namespace).splitlines()
        if line.startswith("{")
    ]
    listens = next(line["time"] for line in lines if line.get("message") in LISTENS)
    return (datetime.fromisoformat(listens) - datetime.fromisoformat(running["startedAt"])).total_seconds()


def test_a_start_leaves_no_warning_unless_it_takes_long(cluster: Cluster, origin: str) -> None:
    with cluster.lobby(lobby("quiet", origin)) as name:
        cluster.until_ready(name, 1)
        pods = [*cluster.pods(name), *cluster.labeled(GREETER_PODS), *cluster.labeled(OPERATOR_PODS)]
        unhealthy = {
            each["regarding"].get("uid"): each["note"] for each in events(cluster, kind="Pod", reason="Unhealthy")
        }
        quick = 0
        for pod in pods:
            delay = pod["spec"]["containers"][0]["startupProbe"]["initialDelaySeconds"]
            if seconds_until_listening(cluster, pod) < delay:
                quick += 1
                assert pod["metadata"]["uid"] not in unhealthy, (name_of(pod), unhealthy)
        if not quick:
            pytest.skip("every process took longer to start than its probe waits: this machine is busy")
