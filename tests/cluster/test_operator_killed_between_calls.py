"""The operator is killed after its first write, the next one after its second, and so on: the result is the same.

A run with an operator that is spared gives the expected result. Both runs use the operator's own rights and the options of its
pod, so the recorded calls also show which rights are used and which are missing.
"""

from __future__ import annotations

import base64
import contextlib
import difflib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support.api import Api
from tests.cluster.support.background import Background, background
from tests.cluster.support.cluster import LOBBY_PODS, OF_LOBBY, Cluster
from tests.cluster.support.commands import kubectl
from tests.cluster.support.faults import inside, needs_faults
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.pod_watch import PodWatch
from tests.cluster.support.release import NAMESPACE, OPERATOR_DEPLOYMENT, OPERATORS, RELEASE, Release
from tests.cluster.support.resources import SMALL, lobby
from tests.cluster.support.rights import Right, calls, rights_of
from tests.cluster.support.waiting import eventually

NAME = "chaos"
ACCOUNT = f"{RELEASE}-operator"
REVISION = "lobby-gateway.io/revision"
QUIET_SECONDS = 8.0
KEY_FILE = "--token-key-file="
# Rights that such a run need not use, and what they are for.
SELDOM: dict[Right, str] = {
    ("get", "", "pods"): "a pod's name was taken already: whose is it",
    ("create", "coordination.k8s.io", "leases"): "somebody deleted the chart's Lease",
    ("get", "lobby-gateway.io", "lobbies"): "the status was changed by somebody else",
    ("patch", "events.k8s.io", "events"): "the same happens again",
    ("list", "events.k8s.io", "events"): "a container is not created: what the kubelet says about it",
}

pytestmark = [
    pytest.mark.slow,
    needs_faults,
    pytest.mark.timeout(600),
]


class Run:
    """One run of the operator through the saboteur.

    Attributes:
        states: the state after each step.
        made: number of pods created.
        calls: the calls of the API.
        kills: how often the operator was killed.
        seconds: duration of the run.
    """

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.made = 0
        self.calls: dict[Right, set[int]] = {}
        self.kills = 0
        self.seconds = 0.0


@contextlib.contextmanager
def operators_away(cluster: Cluster) -> Iterator[None]:
    """Scales the release's own operator to zero during the block."""
    kubectl("scale", OPERATOR_DEPLOYMENT, "--replicas=0", "-n", NAMESPACE)
    kubectl("rollout", "status", OPERATOR_DEPLOYMENT, "-n", NAMESPACE, "--timeout=60s", deadline=70)
    try:
        eventually(lambda: not cluster.labeled("app.kubernetes.io/component=operator"), what="no operator runs")
        yield
    finally:
        kubectl("scale", OPERATOR_DEPLOYMENT, f"--replicas={OPERATORS}", "-n", NAMESPACE)


def command(api: Api, folder: str, file: Path, *, spare: bool) -> tuple[str, ...]:
    """The saboteur with an operator that has the options of its Deployment."""
    deployment = api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}-operator")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    service = api.get("/api/v1/namespaces/default/services/kubernetes")["spec"]
    authority = Path(folder) / "ca.crt"
    authority.write_text(api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/kube-root-ca.crt")["data"]["ca.crt"])
    secret = api.get(f"/api/v1/namespaces/{NAMESPACE}/secrets/{RELEASE}-token-key")
    key = Path(folder) / "key"
    key.write_bytes(base64.b64decode(secret["data"]["key"]))
    token = kubectl("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=1h").strip()
    environment = [f"{each['name']}={each['value']}" for each in container.get("env", []) if "value" in each]
    return inside(
        *(sys.executable, "-m", "tests.cluster.support.saboteur", "--calls", str(file), "--ca", str(authority)),
        *("--server", f"https://{service['clusterIP']}:{service['ports'][0]['port']}", "--token", token),
        *(("--spare",) if spare else ()),
        *("--", "env", *environment, "POD_NAMESPACE=" + NAMESPACE, sys.executable, "-m", "lobby_operator.kube"),
        *(f"{KEY_FILE}{key}" if each.startswith(KEY_FILE) else each for each in container.get("args", [])),
    )


def state(cluster: Cluster, origin: str) -> dict[str, Any]:
    """Everything that the operator created, without names, addresses and times."""
    status = cluster.status(NAME)
    pods = [
        {
            # A revision contains the uid of the Lobby.
            "labels": {name: value for name, value in pod["metadata"]["labels"].items() if name != REVISION},
            "annotations": sorted(pod["metadata"].get("annotations", {})),
            "owners": [owner["kind"] for owner in pod["metadata"]["ownerReferences"]],
            "image": pod["spec"]["containers"][0]["image"],
            "env": pod["spec"]["containers"][0].get("env"),
        }
        for pod in cluster.ready_pods(NAME)
    ]
    config = cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}-lobby")["data"]
    return {
        "pods": pods,
        "revisions": len({pod["metadata"]["labels"][REVISION] for pod in cluster.ready_pods(NAME)}),
        "config": json.loads(config["lobby.json"])["spec"],
        "budgets": budgets(cluster),
        "counts": {
            key: status.get(key) for key in ("replicas", "readyReplicas", "clients", "seats", "observedGeneration")
        },
        "conditions": sorted((each["type"], each["status"], each["reason"]) for each in status["conditions"]),
        "open": len(status["open"]),
        "origin": origin,
    }


def budgets(cluster: Cluster) -> list[dict[str, Any]]:
    """The disruption budgets of the Lobby."""
    there = cluster.api.get(f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets?limit=500")["items"]
    return [
        each["spec"] for each in there if any(o["name"] == NAME for o in each["metadata"].get("ownerReferences", []))
    ]


def quiet(file: Path, running: Background, *, deadline: float = 180.0) -> None:
    """Waits until the operator has written nothing for a while."""

    def writes() -> int:
        lines = file.read_text().splitlines() if file.exists() else []
        return sum(not line.startswith("GET ") and "/leases" not in line for line in lines)

    count, since = writes(), time.monotonic()

    def look() -> bool:
        nonlocal count, since
        assert running.process.poll() is None, running.text[-3000:]
        if (now := writes()) != count:
            count, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_SECONDS

    eventually(look, deadline=deadline, what=lambda: f"nothing more is written; {running.text[-2000:]}")


def run(cluster: Cluster, origin: str, *, spare: bool) -> Run:
    """From an empty namespace: two lobbies, then a new template, then one lobby, then none."""
    done = Run()
    begun = time.monotonic()
    resource = lobby(NAME, origin, replicas=2, emptySeconds=1)
    labels = f"{LOBBY_PODS},{OF_LOBBY}={NAME}"
    with tempfile.TemporaryDirectory() as folder, PodWatch(cluster.api, NAMESPACE, labels=labels) as watch:
        file = Path(folder) / "calls"
        before = watch.mark()
        with background(*command(cluster.api, folder, file, spare=spare)) as running, cluster.lobby(resource):

            def settled(count: int) -> None:
                cluster.until_ready(NAME, count, deadline=180)
                cluster.until_condition(NAME, "Ready", "True", deadline=60)
                quiet(file, running)
                # It is lowered half a minute late, and during a rollout there are more lobbies for a moment.
                eventually(
                    lambda: [each["minAvailable"] for each in budgets(cluster)] == [count - 1],
                    deadline=90,
                    what="the budget is that of the lobbies",
                )
                cluster.until_ready(NAME, count, deadline=60)
                done.states.append(state(cluster, origin))

            settled(2)
            old = {pod["metadata"]["uid"] for pod in cluster.pods(NAME)}
            cluster.merge(NAME, template={**SMALL, "labels": {"app.kubernetes.io/version": "2"}})
            eventually(
                lambda: not old & {pod["metadata"]["uid"] for pod in cluster.pods(NAME)},
                deadline=180,
                what=lambda: f"both are replaced; {cluster.describe(NAME)}; {running.text[-2000:]}",
            )
            settled(2)
            cluster.merge(NAME, replicas=1)
            settled(1)
            done.made = len(watch.made_since(before))
            done.kills = running.text.count("saboteur: the operator ended with -9")
        done.calls = calls(file)
    done.seconds = time.monotonic() - begun
    return done


@pytest.fixture(scope="module")
def runs(installed: Release, cluster: Cluster, origin: str) -> tuple[Run, Run]:
    """A run in which the operator is spared, and one in which it is killed again and again."""
    with operators_away(cluster):
        both = run(cluster, origin, spare=True), run(cluster, origin, spare=False)
    installed.until_whole()
    return both


def difference(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    """The difference of two states, for people."""
    spared, killed = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (wanted, found))
    return "\n".join(difflib.unified_diff(spared, killed, "spared", "killed", n=2, lineterm=""))


def test_the_result_is_the_same(runs: tuple[Run, Run]) -> None:
    spared, killed = runs
    assert spared.kills == 0
    assert killed.kills >= 8
    for wanted, found in zip(spared.states, killed.states, strict=True):
        assert found == wanted, difference(wanted, found)
    FIGURES.note(
        f"operator killed after its n-th write, n = 1 to 6: {killed.kills} kills, same state in {killed.seconds:.0f} s "
        f"({spared.seconds:.0f} s without)"
    )


def test_no_pod_is_created_twice(runs: tuple[Run, Run]) -> None:
    spared, killed = runs
    assert killed.made == spared.made


def test_no_call_is_forbidden(runs: tuple[Run, Run]) -> None:
    for each in runs:
        assert not {right: statuses for right, statuses in each.calls.items() if statuses & {401, 403}}


def test_every_right_is_used(runs: tuple[Run, Run], api: Api) -> None:
    used = {right for each in runs for right in each.calls}
    unused = rights_of(api, NAMESPACE, ACCOUNT) - used
    FIGURES.note(f"rights of the operator that no call used: {sorted(unused) or 'none'}")
    assert unused <= SELDOM.keys(), sorted(unused - SELDOM.keys())


def test_secrets_are_out_of_reach(api: Api, cluster: Cluster) -> None:
    assert cluster.namespace == NAMESPACE
    for account in ("operator", "greeter"):
        rights = {
            right for right in rights_of(api, NAMESPACE, f"{RELEASE}-{account}") if right[2].startswith("secrets")
        }
        # Only of the one with the key of the namespace, by name: the review below asks for any.
        assert rights == ({("get", "", "secrets"), ("patch", "", "secrets")} if account == "operator" else set())
        subject = f"--as=system:serviceaccount:{NAMESPACE}:{RELEASE}-{account}"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": subject.removeprefix("--as="),
                "resourceAttributes": {"namespace": NAMESPACE, "verb": "get", "resource": "secrets"},
            },
        }
        answer = json.loads(api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review))
        assert not answer["status"]["allowed"], answer
