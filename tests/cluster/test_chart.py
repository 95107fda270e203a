"""The chart in a real cluster: optional objects, the upgrade of the CRD, `helm test`, and what an uninstall leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.chart import helm as chart
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import CommandFailedError, helm, kubectl
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.images import Images
from tests.cluster.support.release import CHART, NAMESPACE, RELEASE, Release, namespace
from tests.cluster.support.resources import lobby
from tests.cluster.support.waiting import eventually

DEFINITION = "crd/lobbies.lobby-gateway.io"
ITS_OWN = "lobby-gateway-chart"
FEEDS = "lobby-gateway-feeds"
OLDER = {
    "op": "add",
    "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/dropped",
    "value": {"type": "string"},
}
"""A change to the CRD that makes it one of another version."""
KINDS = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,pdb,leases,ingresses,lobbies"


@pytest.fixture(scope="module")
def own() -> Iterator[str]:
    """A namespace for a separate release, next to one for its Lobbies."""
    with namespace(ITS_OWN) as name, namespace(FEEDS):
        yield name


def names(kinds: str, *where: str) -> set[str]:
    return set(kubectl("get", kinds, *where, "-o", "name").split())


@pytest.mark.usefixtures("installed")
def test_every_optional_object_is_accepted_by_the_server(own: str) -> None:
    groups = kubectl("api-versions").split()
    given = dict(chart.EVERYTHING)
    for group, value in (("gateway.networking.k8s.io/v1", "httpRoute"), ("monitoring.coreos.com/v1", "metrics")):
        if group not in groups:
            pytest.skip(f"the cluster has no {group}, which {value} needs")
    if (
        "keda.sh/v1alpha1" not in groups
    ):  # then with the HorizontalPodAutoscaler that takes the place of its ScaledObject
        given = chart.merged(given, {"greeter": {"autoscaling": {"keda": {"enabled": False}}}})
    # A pod is accepted only if its service account exists.
    manifests = [each for each in chart.objects(given) if each["kind"] != "Pod"]
    for each in manifests:
        each["metadata"].pop("namespace", None)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    accepted = kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-n", own, "-f", "-", stdin=listed
    ).splitlines()
    assert len(accepted) == len(manifests)


def test_an_upgrade_installs_the_new_crd_and_keeps_the_token_key(installed: Release) -> None:
    def token_key() -> str:
        return kubectl("get", "secret", f"{RELEASE}-token-key", "-n", NAMESPACE, "-o", "jsonpath={.data.key}")

    key = token_key()
    older = [
        OLDER,
        {
            "op": "remove",
            "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/drainSeconds",
        },
    ]
    kubectl("patch", DEFINITION, "--type=json", "-p", json.dumps(older))
    installed.upgrade(installed.images)
    fields = json.loads(kubectl("get", DEFINITION, "-o", "json"))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert "dropped" not in fields["properties"]["spec"]["properties"]
    assert "drainSeconds" in fields["properties"]["spec"]["properties"]
    assert token_key() == key
    assert not [each for each in names("clusterroles,clusterrolebindings") if each.endswith(f"{RELEASE}-crd")]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("where", "watch"),
    [(NAMESPACE, {}), (ITS_OWN, {"watch": {"allNamespaces": True, "lobbyNamespaces": [NAMESPACE]}})],
    ids=["same-namespace", "all-namespaces"],
)
def test_a_second_release_for_the_same_lobbies_is_refused_with_a_sentence(
    own: str, where: str, watch: dict[str, object]
) -> None:
    assert own
    with pytest.raises(CommandFailedError) as refused:
        helm("install", "second", CHART, "-n", where, *(f"--set-json={key}={json.dumps(watch[key])}" for key in watch))
    assert (
        f"namespace {NAMESPACE}: release {RELEASE} of namespace {NAMESPACE} already serves its Lobbies; accepted: a "
        f"namespace that no other release serves, or to uninstall {RELEASE} first"
    ) in refused.value.output
    assert "second" not in helm("list", "--all", "--short", "-n", where)
    assert not [each for each in names(KINDS, "-n", where) if "second" in each]


@pytest.mark.usefixtures("installed")
def test_a_first_install_with_a_wrong_image_of_the_operator_is_not_held_up_and_leaves_nothing(own: str) -> None:
    before = names(KINDS, "-n", own)
    helm(
        "install", "wrong", CHART, "-n", own, "--set=operator.image.tag=wrong"
    )  # without a Job, which would wait for it
    assert not kubectl("get", "jobs", "-n", own, "-o", "name")

    def waiting() -> str:
        return kubectl(
            *("get", "pods", "-n", own, "-l", "app.kubernetes.io/component=operator"),
            *("-o", "jsonpath={.items[*].status.containerStatuses[*].state.waiting}"),
        )

    eventually(lambda: "ImagePull" in waiting() or "ErrImage" in waiting(), deadline=60, what=waiting)
    helm("uninstall", "wrong", "-n", own, "--wait", "--timeout=120s")
    eventually(lambda: names(KINDS, "-n", own) <= before, what=lambda: f"there is {names(KINDS, '-n', own) - before}")


def test_an_upgrade_to_an_image_without_the_operator_fails_at_once_says_so_and_leaves_no_job(
    installed: Release,
) -> None:
    kubectl("patch", DEFINITION, "--type=json", "-p", json.dumps([OLDER]))  # so that there is something to upgrade
    wrong = "--set=operator.image.repository=lobby-gateway-greeter"
    began = time.monotonic()
    try:
        with pytest.raises(CommandFailedError) as failed:
            helm("upgrade", RELEASE, CHART, "-n", NAMESPACE, "--reuse-values", wrong, "--timeout=150s")
        seconds = time.monotonic() - began
        assert "the operator on Kubernetes is not installed here" in failed.value.output, failed.value.output
        assert seconds < 60, "as long as the pod takes to start, and not the deadline of the Job"
        assert not kubectl(
            "get", "jobs,serviceaccounts", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=crd", "-o", "name"
        )
    finally:
        installed.upgrade(installed.images)
    FIGURES.note(f"upgrade to an image without the operator: failed after {seconds:.0f} s")


@pytest.mark.usefixtures("installed")
def test_a_release_serves_all_namespaces_and_an_uninstall_leaves_nothing(api: Api, images: Images, own: str) -> None:
    def there() -> set[str]:
        return {f"{where}/{name}" for where in (own, FEEDS) for name in names(KINDS, "-n", where)}

    before = there()
    sets = [f"--set={each}.image.tag={images.tag}" for each in ("operator", "greeter", "lobby")]
    sets += ["--set=demo.enabled=true", "--set=watch.allNamespaces=true", f"--set=watch.lobbyNamespaces={{{FEEDS}}}"]
    helm("install", "own", CHART, "-n", own, "--wait", "--timeout=150s", *sets)
    assert "Phase:          Succeeded" in helm("test", "own", "-n", own, "--timeout=90s")
    assert Cluster(api, own).pods("demo")

    cluster = Cluster(api, FEEDS)
    cluster.apply(lobby("far", f"ws://own-lobby-gateway-demo-origin.{own}.svc:9000/"))
    cluster.until_condition("far", "Ready", "True")
    greeter = "deployment/own-lobby-gateway-greeter"
    trip = (
        "python",
        "-m",
        "lobby_gateway.commands.round_trip",
        "--greeter=ws://127.0.0.1:8000",
        "--messages=2",
        "/far",
    )
    assert "2 messages" in kubectl("exec", "-n", own, greeter, "--", *trip)
    cluster.delete("lobby", "far")

    helm("uninstall", "own", "-n", own, "--wait", "--timeout=120s")
    eventually(lambda: there() <= before, what=lambda: f"nothing is left; there is {there() - before}")
    assert not [each for each in names("clusterroles,clusterrolebindings") if "own-lobby-gateway" in each]
    assert names(DEFINITION)
