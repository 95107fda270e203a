"""The chart as Argo CD installs it: rendered without a cluster, applied server-side, and compared with what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from tests.chart import helm as chart
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import GREETER_PODS, LOBBY_PODS, OPERATOR_PODS, Cluster, is_ready, name_of
from tests.cluster.support.commands import CommandFailedError, helm, kubectl
from tests.cluster.support.images import Images
from tests.cluster.support.release import CHART, namespace
from tests.cluster.support.waiting import eventually, stays

HERE = "lobby-gateway-argo"
RELEASE = "argo"
KEY = "argo-token-key"
SERVER_SIDE = ("--server-side", "--field-manager=argocd-controller")
TEAM = {"team": "platform"}

pytestmark = pytest.mark.timeout(420)


def everything(images: Images) -> dict[str, Any]:
    """Values that enable every object whose kind this cluster has."""
    groups = kubectl("api-versions").split()
    keda = {"enabled": "keda.sh/v1alpha1" in groups}
    own: dict[str, Any] = {
        "operator": {"image": {"tag": images.tag}},
        "greeter": {
            "image": {"tag": images.tag},
            "service": {"type": "ClusterIP"},  # nobody here makes load balancers
            "autoscaling": {"keda": keda},
        },
        "lobby": {
            "image": {"tag": images.tag},
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "extraEnv": [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}],
            "extraVolumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
            "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        },
        "commonLabels": TEAM,
        "tokenKey": {"existingSecret": KEY},
        "crds": {"upgrade": False},
        "lobbies": {"prices": {"origin": {"url": f"ws://{RELEASE}-lobby-gateway-demo-origin.{HERE}.svc:9000/"}}},
    }
    if "gateway.networking.k8s.io/v1" not in groups:
        own["httpRoute"] = {"enabled": False}
    if "monitoring.coreos.com/v1" not in groups:
        own["metrics"] = {each: {"enabled": False} for each in ("podMonitor", "prometheusRule")}
    return chart.merged(chart.EVERYTHING, own)


def rendered(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What Argo CD syncs: the chart with its CRD, without the test."""
    values = [f"--set-json={key}={json.dumps(value)}" for key, value in given.items()]
    version = json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]  # which Argo CD passes on
    text = helm("template", RELEASE, CHART, "-n", HERE, "--include-crds", "--kube-version", version, *values)
    found = [each for each in yaml.safe_load_all(text) if each]
    hooks = {each["metadata"].get("annotations", {}).get("helm.sh/hook") for each in found}
    assert hooks == {None, "test"}  # it would run others before there is anything
    return [each for each in found if "helm.sh/hook" not in each["metadata"].get("annotations", {})]


@pytest.fixture
def here(api: Api) -> Iterator[Cluster]:
    """A namespace with the master key, which Argo CD can't look up."""
    with namespace(HERE) as name:
        kubectl("create", "secret", "generic", KEY, "-n", name, f"--from-literal=key={64 * 'a'}")
        yield Cluster(api, name)


@pytest.mark.usefixtures("installed")
def test_what_is_synced_is_accepted_runs_and_does_not_drift(here: Cluster, images: Images) -> None:
    wanted = rendered(everything(images))
    secrets = [each for each in wanted if each["kind"] == "Secret"]
    assert len(secrets) == 2  # the namespace's key and the certificate of admission, which the operator fills
    assert not [each for each in secrets if "data" in each]
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted})

    def applied(*options: str) -> list[str]:
        done = kubectl("apply", *SERVER_SIDE, "--validate=strict", *options, "-n", HERE, "-f", "-", stdin=manifests)
        return done.splitlines()

    def drift() -> str:
        try:
            return kubectl("diff", *SERVER_SIDE, "-n", HERE, "-f", "-", stdin=manifests)
        except CommandFailedError as error:
            return str(error)

    try:
        assert len(applied("--dry-run=server", "--force-conflicts")) == len(wanted)
        applied("--force-conflicts")  # of the CRD, which the installed release has made
        for name in ("demo", "prices"):
            here.until_condition(name, "Ready", "True", deadline=120)
        eventually(
            lambda: all(is_ready(pod) for each in (OPERATOR_PODS, GREETER_PODS) for pod in here.labeled(each)),
            deadline=60,
        )
        assert drift() == ""
        # Nobody else, the operator in particular, claims a field that Argo CD has set: no conflict without force.
        assert all(line.endswith("serverside-applied (server dry run)") for line in applied("--dry-run=server"))
        stays(lambda: drift() == "", seconds=10, what=drift)

        (pod,) = here.ready_pods("prices")
        container = pod["spec"]["containers"][0]
        assert container["resources"]["requests"] == {"cpu": "10m", "memory": "48Mi"}
        assert {"name": "LOBBY_LOG_LEVEL", "value": "debug"} in container["env"]
        assert "/scratch" in [each["mountPath"] for each in container["volumeMounts"]]
        assert "dedicated" in [each.get("key") for each in pod["spec"]["tolerations"]]
        for kind in ("pod", "configmap", "poddisruptionbudget"):
            owned = f"{kind}s,-n,{HERE},-l,lobby-gateway.io/lobby=prices,-o,json".split(",")
            items = json.loads(kubectl("get", *owned))["items"]
            assert items, kind
            assert all(TEAM.items() <= each["metadata"]["labels"].items() for each in items), kind
        until_every_line_has_time_and_level(here)
    finally:
        kubectl("delete", "lobbies", "--all", "-n", HERE, "--wait=true", deadline=90)
        mine = [each for each in wanted if each["kind"] != "CustomResourceDefinition"]
        gone = json.dumps({"apiVersion": "v1", "kind": "List", "items": mine})
        kubectl("delete", "-n", HERE, "--ignore-not-found", "--wait=false", "-f", "-", stdin=gone)


def until_every_line_has_time_and_level(here: Cluster) -> None:
    """Each line of each process is JSON with time and level, and the first one has the version."""
    for labels in (OPERATOR_PODS, GREETER_PODS, LOBBY_PODS):
        for pod in here.labeled(labels):
            lines = kubectl("logs", name_of(pod), "-n", here.namespace).splitlines()
            assert lines, name_of(pod)
            found = [json.loads(line) for line in lines]
            assert all(each["time"] and each["level"] for each in found), name_of(pod)
            found = [each for each in found if "event" not in each]  # without the line that tells a parent the ports
            assert found[0]["version"], name_of(pod)
            assert not [each for each in found[1:] if "version" in each], name_of(pod)
            (build,) = build_info(here, name_of(pod))
            assert f'version="{found[0]["version"]}"' in build


def build_info(here: Cluster, pod: str) -> list[str]:
    """The line of `/metrics` with the version of a process."""
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{here.namespace}/pods/{pod}:8001/proxy/metrics")
    return [line for line in text.splitlines() if "_build_info{" in line]
