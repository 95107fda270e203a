"""Lobbies are checked before they are stored, while NetworkPolicies are enforced; and nothing depends on it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from tests.cluster.enforced.conftest import REDIRECTING, Redirecting
from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.cluster import OPERATOR_PODS, is_ready
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

CONFIGURATION = f"{REDIRECTING}-redirect-admission"
SECRET = "redirect-admission"
LOBBIES = f"/apis/lobby-gateway.io/v1alpha1/namespaces/{REDIRECTING}/lobbies"
TRIES = 20
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "policy": (
        {"template": {"priorityClassName": "system-node-critical"}},
        "spec.template.priorityClassName: system-node-critical is not allowed; accepted here: nothing",
    ),
    "beyond-cel": (
        {"origin_onConnect": [{"send": "$(NOT_THERE)"}]},
        "NOT_THERE",
    ),
    "token-secret": (
        {"template": {"imagePullSecrets": [{"name": "redirect-token-key"}]}},
        "spec.template.imagePullSecrets[0].name: redirect-token-key holds keys of the operator; accepted: another Secret",
    ),
    "replicas": (
        {"replicas": 201, "maxReplicas": 201},
        "spec.maxReplicas: 201 is too large; accepted here: at most 200",
    ),
}


def applied(resource: dict[str, Any], *flags: str) -> str:
    """What `kubectl apply` says, if it fails; empty: it worked."""
    try:
        kubectl("apply", "-n", REDIRECTING, *flags, "-f", "-", stdin=json.dumps(resource))
    except CommandFailedError as error:
        return str(error)
    return ""


def is_accepted(api: Api, resource: dict[str, Any]) -> bool:
    """Whether the API server would store a Lobby."""
    try:
        api.request("POST", f"{LOBBIES}?dryRun=All", resource)
    except ApiError:
        return False
    return True


@pytest.fixture(scope="module")
def checked(redirecting: Redirecting) -> Redirecting:
    """The release, once the API server is answered."""
    bad = lobby("probe", redirecting.origin, template={"priorityClassName": "high"})
    eventually(lambda: applied(bad, "--dry-run=server"), deadline=60, what="a bad Lobby is refused", every=1)
    return redirecting


@pytest.mark.parametrize("case", REFUSED)
def test_kubectl_apply_says_what_the_condition_would(checked: Redirecting, case: str) -> None:
    fields, sentence = REFUSED[case]
    answer = applied(lobby(f"bad-{case}", checked.origin, **fields))
    assert 'admission webhook "lobbies.lobby-gateway.io" denied the request' in answer
    assert sentence in answer
    assert "Traceback" not in answer


def test_a_path_clash_is_refused(checked: Redirecting) -> None:
    with checked.cluster.lobby(lobby("first", checked.origin, path="/same")):
        # The operators hear of it through their watches.
        second = lobby("second", checked.origin, path="/same")
        eventually(
            lambda: "/same belongs to the older Lobby first" in applied(second, "--dry-run=server"),
            deadline=30,
            what="the path of another Lobby is refused",
        )


def test_answers_take_milliseconds(checked: Redirecting, api: Api) -> None:
    bad = lobby("slow", checked.origin, template={"priorityClassName": "high"})
    bad["metadata"]["namespace"] = REDIRECTING
    good = lobby("quick", checked.origin)
    took: dict[str, list[float]] = {"refused": [], "accepted": []}
    for name, resource in (("refused", bad), ("accepted", good)):
        for _ in range(TRIES):
            begun = time.monotonic()
            accepted = is_accepted(api, resource)
            took[name].append(1000 * (time.monotonic() - begun))
            assert accepted is (name == "accepted")
    texts = [f"{name} p50 {sorted(each)[TRIES // 2]:.0f} ms, max {max(each):.0f} ms" for name, each in took.items()]
    FIGURES.note(f"a dry-run create with admission: {'; '.join(texts)}")
    assert sorted(took["refused"])[TRIES // 2] < 1000


def test_a_new_certificate_is_made_and_trusted_and_still_refuses(checked: Redirecting, api: Api) -> None:
    path = f"/api/v1/namespaces/{REDIRECTING}/secrets/{SECRET}"
    before = api.get(path)["data"]
    kubectl("patch", "secret", SECRET, "-n", REDIRECTING, "--type=merge", "-p", '{"data":{"tls.key":"bm8="}}')
    eventually(
        lambda: api.get(path)["data"]["tls.crt"] != before["tls.crt"], deadline=90, what="a new certificate", every=1
    )
    made = api.get(path)["data"]
    webhooks = api.get(f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION}")[
        "webhooks"
    ]
    assert webhooks[0]["clientConfig"]["caBundle"] == made["ca.crt"]
    assert webhooks[0]["clientConfig"]["service"]["name"] == SECRET  # what Helm wrote
    assert len(base64.b64decode(made["ca.crt"]).split(b"BEGIN")) == 3
    bad = lobby("probe", checked.origin, template={"priorityClassName": "high"})
    eventually(
        lambda: all(applied(bad, "--dry-run=server") for _ in range(6)),  # both replicas
        deadline=90,
        what="a bad Lobby is refused with the new certificate",
        every=1,
    )


def test_without_an_operator_a_lobby_is_stored_and_its_condition_says_the_same(checked: Redirecting) -> None:
    fields, sentence = REFUSED["policy"]
    cluster = checked.cluster
    kubectl("scale", "deployment/redirect-operator", "-n", REDIRECTING, "--replicas=0")
    try:
        eventually(lambda: not cluster.labeled(OPERATOR_PODS), deadline=90, what="no operator runs")
        resource = lobby("stored", checked.origin, **fields)
        assert applied(resource) == ""
    finally:
        kubectl("scale", "deployment/redirect-operator", "-n", REDIRECTING, "--replicas=2")
    try:
        refused = cluster.until_condition("stored", "Scaling", "False")
        assert refused["message"] == f"the spec is ignored: {sentence}"
        eventually(lambda: all(map(is_ready, cluster.labeled(OPERATOR_PODS))), deadline=90, what="operators are ready")
        assert applied({**resource, "metadata": {**resource["metadata"], "labels": {"still": "editable"}}}) == ""
    finally:
        kubectl("delete", "lobby", "stored", "-n", REDIRECTING, "--wait=true", deadline=60)
