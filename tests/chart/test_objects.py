"""The objects of the chart: which exist, their permissions, how their pods run."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml
from tests.chart import helm
from tests.chart.helm import EVERYTHING, NAMESPACE, named, objects, pod_specs

from lobby_operator.kube.__main__ import parser, settings_of
from lobby_operator.settings import ORIGIN_DENY_CIDRS, OperatorSettings, PolicySettings

ALL_NAMESPACES = {"watch": {"allNamespaces": True, "lobbyNamespaces": ["feeds"]}}
CASES = [{}, EVERYTHING, helm.merged(EVERYTHING, ALL_NAMESPACES)]
SNAPSHOT = helm.ROOT / "tests" / "data" / "chart" / "default.txt"

each_case = pytest.mark.parametrize("given", CASES, ids=["default", "everything", "all-namespaces"])


def lines(found: list[helm.Object]) -> list[str]:
    """One line an object, and one for each rule of a role."""
    said = []
    for each in found:
        hook = each["metadata"].get("annotations", {}).get("helm.sh/hook", "")
        said.append(f"{each['kind']} {each['metadata']['name']} {hook}".rstrip())
        for rule in each.get("rules", []):
            what = ", ".join(f"{rule['apiGroups'][0]}/{resource}" for resource in rule["resources"])
            names = f" named {', '.join(rule['resourceNames'])}" if "resourceNames" in rule else ""
            said.append(f"    {', '.join(rule['verbs'])}: {what}{names}")
    return said


def test_helm_lint_finds_nothing() -> None:
    done = helm.run("lint", "--strict", str(helm.CHART), given=EVERYTHING)
    assert done.returncode == 0, done.stdout


def test_default_render_matches_the_snapshot() -> None:
    now = "\n".join(lines(objects())) + "\n"
    assert now == SNAPSHOT.read_text(), f"if it should be so: write this to {SNAPSHOT.name}\n{now}"


def test_chart_has_a_copy_of_the_crd() -> None:
    source, copy = (folder / "crds" / "lobbies.yaml" for folder in (helm.ROOT, helm.CHART))
    assert source.read_bytes() == copy.read_bytes(), "run: make docs"


def test_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    project = (helm.ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
    assert chart["version"] == chart["appVersion"]


@each_case
def test_no_rbac_rule_has_wildcards_or_secrets(given: dict[str, Any]) -> None:
    roles = [each for each in objects(given) if each["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not [word for word in words if "*" in word], role["metadata"]["name"]
            assert not {"secrets", "pods/exec", "serviceaccounts", "roles", "nodes"} & set(rule["resources"])


def test_permissions_are_namespaced_unless_all_namespaces_are_watched() -> None:
    hooks = ("pre-install,pre-upgrade",)
    cluster_wide = [
        each["metadata"]["name"]
        for each in objects()
        if each["kind"].startswith("ClusterRole")
        and each["metadata"].get("annotations", {}).get("helm.sh/hook") not in hooks
    ]
    assert not cluster_wide
    everywhere = objects(helm.merged(EVERYTHING, ALL_NAMESPACES))
    assert named(everywhere, "ClusterRole", "-operator")["metadata"]["name"].startswith(f"{NAMESPACE}-")


@each_case
def test_lobbies_have_no_permissions_and_no_token(given: dict[str, Any]) -> None:
    found = objects(given)
    accounts = [
        each for each in found if each["kind"] == "ServiceAccount" and each["metadata"]["name"].endswith("-lobby")
    ]
    assert accounts
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    bound = [subject["name"] for each in found if "subjects" in each for subject in each["subjects"]]
    assert not [name for name in bound if name.endswith("-lobby")]


@each_case
def test_only_callers_of_the_api_have_a_token(given: dict[str, Any]) -> None:
    for where, spec in pod_specs(objects(given)).items():
        wanted = re.search(r"-(operator|greeter|crd)$", where) is not None
        assert spec.get("automountServiceAccountToken", True) is wanted, where


@each_case
def test_all_pods_meet_pod_security_restricted(given: dict[str, Any]) -> None:
    specs = pod_specs(objects(given))
    assert len(specs) >= 4
    for where, spec in specs.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], where
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["readOnlyRootFilesystem"] is True, where
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            assert "memory" in container["resources"]["limits"], where
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where


@each_case
def test_every_process_ignores_variables_of_the_interpreter(given: dict[str, Any]) -> None:
    commands = [
        container["command"]
        for spec in pod_specs(objects(given)).values()
        for container in spec["containers"]
        if "command" in container
    ]
    assert commands
    assert {tuple(command[:4]) for command in commands} == {("python", "-I", "-B", "-m")}


@each_case
def test_no_pod_spec_contains_a_secret(given: dict[str, Any]) -> None:
    found = objects(given)
    keys = [each["data"]["key"] for each in found if each["kind"] == "Secret"]
    assert keys
    for where, spec in pod_specs(found).items():
        said = yaml.safe_dump(spec)
        assert "secretKeyRef" not in said, where  # as a file: a variable of the environment is seen by more
        assert not [key for key in keys if key in said], where


def test_token_key_is_long_and_the_same_in_all_namespaces() -> None:
    found = objects(ALL_NAMESPACES)
    secrets = [each for each in found if each["kind"] == "Secret"]
    assert {each["metadata"]["namespace"] for each in secrets} == {NAMESPACE, "feeds"}
    (key,) = {each["data"]["key"] for each in secrets}
    assert re.fullmatch(r"[A-Za-z0-9+/=]{88}", key)


def test_existing_secret_replaces_the_charts() -> None:
    found = objects({"tokenKey": {"existingSecret": "mine"}})
    assert not [each for each in found if each["kind"] == "Secret"]
    volumes = pod_specs(found)["Deployment trial-lobby-gateway-greeter"]["volumes"]
    assert volumes == [{"name": "token-key", "secret": {"secretName": "mine"}}]


def test_greeter_is_replaced_before_it_terminates_and_has_time_to() -> None:
    greeter = named(objects(), "Deployment", "-greeter")["spec"]
    assert greeter["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = greeter["template"]["spec"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + 15
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == greeter["selector"]["matchLabels"]


def test_new_version_of_the_chart_alone_restarts_no_pod() -> None:
    for each in objects(EVERYTHING):
        if each["kind"] == "Deployment":
            assert set(each["spec"]["template"]["metadata"]["labels"]) == set(each["spec"]["selector"]["matchLabels"])


def test_autoscaled_greeter_has_no_fixed_replicas() -> None:
    assert "replicas" not in named(objects(EVERYTHING), "Deployment", "-greeter")["spec"]
    assert named(objects(), "Deployment", "-greeter")["spec"]["replicas"] == 2


@each_case
def test_only_operator_and_prometheus_can_reach_admin_ports(given: dict[str, Any]) -> None:
    policies = [each for each in objects(given) if each["kind"] == "NetworkPolicy"]
    assert len(policies) >= 3
    for policy in policies:
        for rule in policy["spec"]["ingress"]:
            ports = [port["port"] for port in rule["ports"]]
            if ports != ["admin"]:
                continue
            for peer in rule["from"]:
                labels = {
                    **peer.get("namespaceSelector", {}).get("matchLabels", {}),
                    **peer.get("podSelector", {}).get("matchLabels", {}),
                }
                component = labels.get("app.kubernetes.io/component")
                assert component == "operator" or labels == {"kubernetes.io/metadata.name": "monitoring"}


def test_only_greeters_can_reach_lobbies_unless_clients_are_redirected() -> None:
    for redirect in (False, True):
        policy = named(objects({"lobby": {"redirect": redirect}}), "NetworkPolicy", "-lobby")
        (clients,) = (rule for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "clients"}])
        assert ("from" not in clients) is redirect


def test_one_route_sends_all_paths_to_the_greeters() -> None:
    found = objects(EVERYTHING)
    (path,) = named(found, "Ingress", "-gateway")["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["backend"]["service"]["name"]) == ("/", "trial-lobby-gateway-greeter")
    (rule,) = named(found, "HTTPRoute", "-gateway")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [{"name": "trial-lobby-gateway-greeter", "port": 80}]


def test_lobbies_in_values_are_rendered_unchanged() -> None:
    spec = {"origin": {"url": "wss://feed.example.com/"}, "clients": {"seats": 10}}
    (lobby,) = (each for each in objects({"lobbies": {"prices": spec}}) if each["kind"] == "Lobby")
    assert (lobby["metadata"]["name"], lobby["spec"]) == ("prices", spec)


def test_image_of_lobbies_is_an_option_of_the_operator() -> None:
    (container,) = named(objects({"lobby": {"image": {"tag": "2"}}}), "Deployment", "-operator")["spec"]["template"][
        "spec"
    ]["containers"]
    assert [each for each in container["args"] if each.endswith("=lobby-gateway-lobby:2")]


def operator(given: dict[str, Any] | None = None) -> OperatorSettings:
    """The settings that the operator reads from its options."""
    (container,) = named(objects(given), "Deployment", "-operator")["spec"]["template"]["spec"]["containers"]
    return settings_of(parser().parse_args(container["args"]))


def test_policy_of_the_chart_is_that_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert operator().policy == PolicySettings()
    assert operator().pods.origin_deny_cidrs == ORIGIN_DENY_CIDRS


def test_policy_in_values_replaces_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    template = {"env": [], "labels": ["team", "example.com/*"], "podAffinity": True, "maxResources": {"memory": None}}
    made = operator({"policy": {"maxReplicas": 7, "template": template, "origin": {"denyCidrs": []}}})
    assert made.policy == dataclasses.replace(
        PolicySettings(),
        max_replicas=7,
        env=(),
        labels=("team", "example.com/*"),
        pod_affinity=True,
        max_resources={"cpu": "4", "ephemeral-storage": "1Gi"},
    )
    assert made.pods.origin_deny_cidrs == ()


def test_helm_test_connects_to_the_declared_lobbies() -> None:
    def arguments(given: dict[str, Any]) -> list[str]:
        (container,) = named(objects(given), "Pod", "-round-trip")["spec"]["containers"]
        return [each for each in container["args"] if each.startswith("/")]

    origin = {"url": "wss://feed.example.com/"}
    assert arguments({}) == []
    assert arguments({"demo": {"enabled": True}}) == ["/demo"]
    assert arguments({"lobbies": {"a": {"origin": origin}, "b": {"origin": origin, "path": "/c"}}}) == ["/a", "/c"]


def test_every_permission_is_explained_in_the_docs() -> None:
    table = re.findall(
        r"^\| [^|]*\| ([a-z, ;]+) \| ([^|]+) \|", (helm.ROOT / "docs" / "kubernetes.md").read_text(), re.M
    )
    told = {
        (verb, what)
        for verbs, whats in table
        for verb in re.findall(r"[a-z]+", verbs)
        for what in re.findall(r"`([^`]+)`", whats)
    }
    for each in objects():
        for rule in each.get("rules", []):
            for resource in rule["resources"]:
                name = "customresourcedefinition" if resource == "customresourcedefinitions" else resource
                assert {(verb, name) for verb in rule["verbs"]} <= told, each["metadata"]["name"]
