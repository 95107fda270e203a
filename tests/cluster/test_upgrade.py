"""From the previous release to this one and back, then away: what is kept, and what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support import previous
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import OPERATOR_PODS, Cluster, name_of
from tests.cluster.support.commands import helm, kubectl
from tests.cluster.support.images import Images
from tests.cluster.support.release import CHART, namespace
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

RELEASE = "old"
NAME = f"{RELEASE}-lobby-gateway"
HERE = "lobby-gateway-upgrade"
KINDS = (
    "deployments,replicasets,pods,services,jobs,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,"
    "poddisruptionbudgets,horizontalpodautoscalers,leases,ingresses,lobbies"
)
DEFINITION = "crd/lobbies.lobby-gateway.io"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def old_source(tmp_path: Path) -> Path:
    """The source of the previous release."""
    return previous.checked_out(tmp_path)


@pytest.fixture
def here(api: Api) -> Iterator[Cluster]:
    """A namespace for a release of its own."""
    with namespace(HERE) as name:
        yield Cluster(api, name)


def objects(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Everything in the namespace but what every namespace has, by kind and name."""
    items = json.loads(kubectl("get", KINDS, "-n", cluster.namespace, "-o", "json"))["items"]
    found = {f"{each['kind']}/{each['metadata']['name']}": each for each in items}
    return {
        key: each for key, each in found.items() if key not in ("ConfigMap/kube-root-ca.crt", "ServiceAccount/default")
    }


def cluster_wide() -> set[str]:
    """The release's cluster-wide objects."""
    kinds = "clusterroles,clusterrolebindings,validatingwebhookconfigurations"
    return {each for each in kubectl("get", kinds, "-o", "name").split() if HERE in each}


def image_of(cluster: Cluster) -> set[str]:
    """Images of all pods of the release and of lobbies."""
    pods = cluster.api.list("pods", cluster.namespace)
    return {each["image"].rpartition(":")[2] for pod in pods for each in pod["spec"]["containers"]}


def until_replaced(cluster: Cluster, tag: str) -> None:
    """Waits until everything runs these images, lobbies included, and the Lobby is served."""
    eventually(
        lambda: image_of(cluster) == {tag},
        deadline=150,
        what=lambda: f"all pods run {tag}; they run {image_of(cluster)}; {cluster.diagnosis()}",
    )
    cluster.until_condition("kept", "Ready", "True", deadline=60)
    trip = (
        "python",
        "-m",
        "lobby_gateway.commands.round_trip",
        "--greeter=ws://127.0.0.1:8000",
        "--messages=2",
        "/kept",
    )
    assert "2 messages" in kubectl("exec", "-n", HERE, f"deployment/{NAME}-greeter", "--", *trip)


def token_key() -> str:
    return kubectl("get", "secret", f"{NAME}-token-key", "-n", HERE, "-o", "jsonpath={.data.key}")


@pytest.mark.usefixtures("installed")  # builds the images, and has the CRD
def test_an_upgrade_a_rollback_and_an_uninstall_of_the_previous_release(
    here: Cluster, images: Images, old_source: Path
) -> None:
    old = previous.images(old_source)
    wait = ("-n", HERE, "--wait", "--timeout=170s")
    chart = str(old_source / CHART)
    try:
        helm("install", RELEASE, chart, *wait, "--set=demo.enabled=true", *old.settings())
        kept = lobby("kept", f"ws://{NAME}-demo-origin.{HERE}.svc:9000/")
        here.apply(kept)
        until_replaced(here, old.tag)
        key = token_key()

        helm("upgrade", RELEASE, CHART, *wait, "--reset-then-reuse-values", *images.settings())
        until_replaced(here, images.tag)
        assert token_key() == key
        (pod, *_) = here.ready_pods("kept")
        labels = {"app.kubernetes.io/instance": RELEASE, "app.kubernetes.io/part-of": "lobby-gateway"}
        assert labels.items() <= pod["metadata"]["labels"].items()
        spread = pod["spec"]["topologySpreadConstraints"]
        assert {tuple(each["matchLabelKeys"]) for each in spread} == {("lobby-gateway.io/revision",)}

        helm("rollback", RELEASE, "1", *wait)
        until_replaced(here, old.tag)
        assert token_key() == key

        helm("upgrade", RELEASE, CHART, *wait, "--reset-then-reuse-values", *images.settings())
        until_replaced(here, images.tag)
    finally:
        helm("uninstall", RELEASE, "-n", HERE, "--wait", "--timeout=120s", "--ignore-not-found")

    def leftovers() -> set[str]:
        uid = here.get("kept")["metadata"]["uid"]
        owners = {
            key: [owner["uid"] for owner in each["metadata"].get("ownerReferences", [])]
            for key, each in objects(here).items()
        }
        return {key for key, found in owners.items() if uid not in found}

    eventually(
        lambda: leftovers() == {"Lobby/kept"} and not here.labeled(OPERATOR_PODS),
        deadline=60,
        what=lambda: f"only the Lobby made by hand and what it owns is left; {leftovers()}",
    )
    assert cluster_wide() == set()
    assert kubectl("get", DEFINITION, "-o", "name").strip()
    assert [name_of(pod) for pod in here.pods("kept")]
    here.delete("lobby", "kept")
    eventually(lambda: not objects(here), deadline=90, what=lambda: f"nothing is left; {set(objects(here))}")
