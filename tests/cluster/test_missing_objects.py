"""A Secret, a key, a token Secret or a ConfigMap that pods mount is missing: it is named or restored, and the pod stays."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster, condition, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

SECRET = "not-yet-there"  # its name
LONGER_THAN_THE_LOOP = 75.0
TOKEN_SECRET = "lobby-gateway-lobby-token-key"  # its name


def with_key(name: str, origin: str) -> dict[str, Any]:
    reference = {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": "api-key"}}}
    return lobby(name, origin, replicas=1, origin_headers=[{"name": "X-Key", **reference}])


def secret(**data: str) -> dict[str, Any]:
    encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": encoded}


def until_scaling(cluster: Cluster, name: str, reason: str, part: str, *, deadline: float = 45.0) -> None:
    """Waits until the condition Scaling has a reason, and its message a part."""

    def look() -> bool:
        found = condition(cluster.get(name), "Scaling")
        return found.get("reason") == reason and part in found["message"]

    eventually(look, deadline=deadline, what=lambda: f"{reason}: {part}; {cluster.describe(name)}")


def exists(cluster: Cluster, kind: str, name: str) -> bool:
    """Whether there is an object."""
    return bool(kubectl("get", kind, name, "-n", cluster.namespace, "--ignore-not-found", "-o", "name").strip())


@pytest.mark.slow  # it is called stalled after three minutes
@pytest.mark.timeout(600)
def test_a_missing_secret_and_a_missing_key_are_named_and_the_pod_stays(cluster: Cluster, origin: str) -> None:
    cluster.delete("secret", SECRET)
    with cluster.lobby(with_key("keyless", origin)) as name:
        begun = time.monotonic()
        until_scaling(cluster, name, "SecretMissing", f"Secret {SECRET} is missing")
        named = time.monotonic() - begun
        (pod,) = cluster.pods(name)
        for kind, expected in (("Reconciling", "True"), ("Stalled", "False")):  # it may be on its way
            assert condition(cluster.get(name), kind)["status"] == expected
        cluster.apply(secret(another="x"))
        try:
            until_scaling(cluster, name, "SecretMissing", f"key api-key is missing in Secret {SECRET}", deadline=150)
            while time.monotonic() < begun + LONGER_THAN_THE_LOOP:
                assert [each["metadata"]["uid"] for each in cluster.pods(name)] == [pod["metadata"]["uid"]]
                time.sleep(1)
            cluster.until_condition(name, "Stalled", "True", deadline=200)  # after three minutes
            cluster.apply(secret(api_key="s3cret"))
            cluster.until_ready(name, 1, deadline=150)  # a kubelet retries a mount after two minutes at most
            assert [each["metadata"]["uid"] for each in cluster.pods(name)] == [pod["metadata"]["uid"]]
            cluster.until_condition(name, "Ready", "True")
            cluster.until_condition(name, "Stalled", "False")
        finally:
            cluster.delete("secret", SECRET)
    FIGURES.note(f"missing Secret: named after {named:.0f} s; the same pod started once it and its key were there")


@pytest.mark.parametrize(("kind", "deadline"), [("configmap", 20), ("poddisruptionbudget", 45)])
def test_an_object_of_a_lobby_that_is_deleted_is_written_again(
    cluster: Cluster, origin: str, kind: str, deadline: float
) -> None:
    with cluster.lobby(lobby("objectless", origin, replicas=1)) as name:
        cluster.until_ready(name, 1)
        eventually(lambda: exists(cluster, kind, f"{name}-lobby"), deadline=45, what=f"the {kind} is there")
        kubectl("delete", kind, f"{name}-lobby", "-n", cluster.namespace)
        begun = time.monotonic()
        eventually(lambda: exists(cluster, kind, f"{name}-lobby"), deadline=deadline, what=f"the {kind} is there again")
        seconds = time.monotonic() - begun
        cluster.merge(name, replicas=2)
        cluster.until_ready(name, 2)
    FIGURES.note(f"deleted {kind}: written again after {seconds:.0f} s")


def test_a_deleted_token_secret_is_restored_or_named(cluster: Cluster, origin: str) -> None:
    saved = kubectl("get", "secret", TOKEN_SECRET, "-n", cluster.namespace, "-o", "yaml")
    with cluster.lobby(lobby("tokenless", origin, replicas=1)) as name:
        cluster.until_ready(name, 1)
        kubectl("delete", "secret", TOKEN_SECRET, "-n", cluster.namespace)
        try:
            cluster.merge(name, replicas=2)
            eventually(
                lambda: (
                    exists(cluster, "secret", TOKEN_SECRET)
                    or TOKEN_SECRET in condition(cluster.get(name), "Scaling").get("message", "")
                ),
                deadline=60,
                what=lambda: f"it is noticed; {cluster.describe(name)}",
            )
            restored = exists(cluster, "secret", TOKEN_SECRET)
            FIGURES.note(f"deleted token Secret: {'written again' if restored else 'named in Scaling'}")
        finally:
            if not exists(cluster, "secret", TOKEN_SECRET):
                lines = [
                    line for line in saved.splitlines() if not line.strip().startswith(("uid:", "resourceVersion:"))
                ]
                kubectl("create", "-n", cluster.namespace, "-f", "-", stdin="\n".join(lines))
        cluster.until_ready(name, 2, deadline=150)
        assert {name_of(pod) for pod in cluster.pods(name)} == {f"{name}-1", f"{name}-2"}
