"""Two thousand lobbies of one Lobby, and two hundred Lobbies: on fake nodes, where one process answers for all lobbies."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.support.api import LOBBIES, Api
from tests.cluster.support.background import background
from tests.cluster.support.cluster import OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.faults import fault, inside, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import NAMESPACE, Release
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.waiting import eventually

PODS = 2000
MANY_LOBBIES = 200
PODS_OF_A_NODE = 240
STATUS_BYTES = 64 * 1024
MOST_OF_A_DEPLOYMENT = 1.5
MADE_BY_THE_SERVER = {"nodeName", "priority", "preemptionPolicy"}
ORIGIN = "ws://origin.invalid/"
FAKE = {
    **SMALL,
    "nodeSelector": {"type": "fake"},
    "tolerations": [{"key": "fake", "operator": "Exists", "effect": "NoSchedule"}],
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    needs_faults,
]


class Meter:
    """What the active operator has done since this was created."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._begun = time.monotonic()
        self._calls, _, self._cpu = self._read()

    def _read(self) -> tuple[float, float, float]:
        for pod in self._cluster.labeled(OPERATOR_PODS):
            metrics = self._cluster.metrics(name_of(pod))
            if metrics("lobby_operator_leader"):
                names = ("lobby_operator_api_calls_total", "process_resident_memory_bytes", "process_cpu_seconds_total")
                calls, memory, cpu = (metrics(each) for each in names)
                return calls, memory, cpu
        raise LookupError("no operator is active")

    def summary(self) -> str:
        """Calls per second, memory and CPU time."""
        calls, memory, cpu = self._read()
        seconds = time.monotonic() - self._begun
        return (
            f"{seconds:.0f} s, {calls - self._calls:.0f} API calls ({(calls - self._calls) / seconds:.0f}/s), "
            f"operator {memory / 2**20:.0f} MiB, {cpu - self._cpu:.1f} s of CPU"
        )


@pytest.fixture(scope="module", autouse=True)
def fake_nodes(installed: Release) -> Iterator[None]:
    """Nodes for all lobbies, and the process that answers for them."""
    installed.until_whole()
    fault("fake-nodes", str(PODS // PODS_OF_A_NODE + 1), deadline=600)  # what simulates them is built first
    try:
        with background(
            *inside(sys.executable, "-m", "tests.cluster.support.fake_lobbies", "--port", "8001")
        ) as answers:
            answers.until_line("listening")
            yield
    finally:
        kubectl("delete", "nodes", "-l", "type=fake", "--wait=false", deadline=120)
        fault("stop", "kwok")


def ready(cluster: Cluster, name: str) -> int:
    """Number of ready lobbies in the status."""
    return int(cluster.status(name).get("readyReplicas", 0))


def of_a_deployment(api: Api, pod: dict[str, Any]) -> float:
    """Seconds until as many pods like this one are ready, made by a Deployment: what this cluster and machine can do."""
    spec = {key: value for key, value in pod["spec"].items() if key not in MADE_BY_THE_SERVER}
    spec["restartPolicy"] = "Always"  # a Deployment takes no other
    labels = {"app": "peer"}
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
    ]
    resource = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "peer", "namespace": NAMESPACE},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    begun = time.monotonic()
    api.request("POST", path, resource)
    try:
        eventually(
            lambda: int(api.get(f"{path}/peer").get("status", {}).get("readyReplicas", 0)) == PODS,
            deadline=600,
            every=1,
            what=f"{PODS} pods of a Deployment are ready",
        )
        return time.monotonic() - begun
    finally:
        api.request("DELETE", f"{path}/peer?propagationPolicy=Foreground")
        eventually(
            lambda: not api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3Dpeer&limit=1")["items"],
            deadline=300,
            every=1,
            what="the pods of the Deployment are gone",
        )


def test_two_thousand_lobbies_of_one_lobby(cluster: Cluster, api: Api) -> None:
    meter = Meter(cluster)
    begun = time.monotonic()
    resource = lobby("vast", ORIGIN, replicas=PODS, maxReplicas=PODS + 10, template=FAKE)
    with cluster.lobby(resource, deadline=400) as name:
        eventually(
            lambda: ready(cluster, name) == PODS,
            deadline=900,
            every=1,
            what=lambda: f"{ready(cluster, name)} are ready",
        )
        took = time.monotonic() - begun
        FIGURES.note(f"{PODS} lobbies of one Lobby ready: {meter.summary()}")
        pod = cluster.pods(name)[0]

        meter = Meter(cluster)
        time.sleep(20)
        FIGURES.note(f"{PODS} lobbies, nothing to do: {meter.summary()}")

        times = []
        for pod in cluster.pods(name)[:3]:
            known = {each["metadata"]["uid"] for each in cluster.pods(name)}
            begun = time.monotonic()
            api.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name_of(pod)}?gracePeriodSeconds=0")
            eventually(
                lambda known=known: [  # type: ignore[misc]
                    each for each in cluster.ready_pods(name) if each["metadata"]["uid"] not in known
                ],
                deadline=60,
                what=f"{name_of(pod)} is replaced",
            )
            times.append(time.monotonic() - begun)
        FIGURES.note(f"one of {PODS} lobbies deleted to its successor ready: {statistics.median(times):.1f} s")
        size = len(json.dumps(cluster.status(name)))
        FIGURES.note(f"status of a Lobby with {PODS} lobbies: {size / 1024:.1f} KiB")
        assert size < STATUS_BYTES
    peer = of_a_deployment(api, pod)
    FIGURES.note(f"{PODS} such pods of a Deployment ready after {peer:.0f} s: {took / peer:.2f} of that")
    assert took < MOST_OF_A_DEPLOYMENT * peer


def test_two_hundred_lobbies(cluster: Cluster, api: Api) -> None:
    resources = [lobby(f"many-{number}", ORIGIN, template=FAKE) for number in range(MANY_LOBBIES)]

    def all_ready(value: str) -> bool:
        items: list[dict[str, Any]] = api.get(LOBBIES.format(namespace=NAMESPACE))["items"]
        conditions = [
            each
            for item in items
            if item["metadata"]["name"].startswith("many-")
            for each in item.get("status", {}).get("conditions", [])
        ]
        return len([each for each in conditions if (each["type"], each["status"]) == ("Ready", value)]) == MANY_LOBBIES

    try:
        meter = Meter(cluster)
        cluster.apply(*resources)
        eventually(lambda: all_ready("True"), deadline=300, every=0.5, what=f"{MANY_LOBBIES} Lobbies are Ready")
        FIGURES.note(f"{MANY_LOBBIES} Lobbies ready: {meter.summary()}")
        meter = Meter(cluster)
        time.sleep(20)
        FIGURES.note(f"{MANY_LOBBIES} Lobbies, nothing to do: {meter.summary()}")
    finally:
        kubectl("delete", "lobbies", *(each["metadata"]["name"] for each in resources), "-n", NAMESPACE, deadline=180)
