"""The objects of the chart: which exist, their permissions, how their pods run."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml
from tests.chart import helm
from tests.chart.helm import EVERYTHING, NAMESPACE, named, objects, pod_specs

from lobby_gateway.metrics import GREETER
from lobby_gateway.resource.schema import crd, validate_and_default
from lobby_operator.kube import names
from lobby_operator.kube.command import parser, settings_of
from lobby_operator.kube.handlers import ADMISSION_PATH
from lobby_operator.settings import ORIGIN_DENY_CIDRS, AdmissionSettings, OperatorSettings, PodSettings, PolicySettings

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


def test_the_icon_is_the_picture_of_the_docs() -> None:
    kind, _, content = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())["icon"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content) == (helm.ROOT / "docs" / "icon.svg").read_bytes()


def test_annotations_of_the_chart_name_its_images_and_its_resource() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    told = {key: value for key, value in chart["annotations"].items() if key.startswith("artifacthub.io/")}
    assert {each["image"] for each in yaml.safe_load(told["artifacthub.io/images"])} == images(
        {"demo": {"enabled": True}}
    )
    (resource,) = yaml.safe_load(told["artifacthub.io/crds"])
    definition = crd()
    assert (resource["name"], resource["kind"]) == (definition["metadata"]["name"], definition["spec"]["names"]["kind"])
    assert resource["version"] == definition["spec"]["versions"][0]["name"]
    for example in yaml.safe_load(told["artifacthub.io/crdsExamples"]):
        assert validate_and_default(example, "example")["kind"] == resource["kind"]
    assert chart["home"].startswith("https://")
    assert chart["sources"]


@each_case
def test_no_rbac_rule_has_wildcards_or_secrets(given: dict[str, Any]) -> None:
    roles = [each for each in objects(given) if each["kind"] in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not [word for word in words if "*" in word], role["metadata"]["name"]
            assert not {"pods/exec", "serviceaccounts", "roles", "nodes"} & set(rule["resources"])
            if "secrets" in rule["resources"]:
                (name,) = rule["resourceNames"]  # never the master key
                assert name in ("trial-lobby-gateway-lobby-token-key", "trial-lobby-gateway-admission")
                assert not {"create", "list", "watch", "delete"} & set(rule["verbs"])


@pytest.mark.parametrize("namespaces", [[], ["feeds", "lab"]])
def test_with_all_namespaces_only_lobbies_are_accessible_everywhere(namespaces: list[str]) -> None:
    watch = {"allNamespaces": True, "lobbyNamespaces": namespaces}
    found = objects(
        {
            "watch": watch,
            "admission": {"enabled": False},
            "crds": {"upgrade": False},
            "rbac": {"aggregateClusterRoles": False},
        }
    )
    cluster_wide = {each["metadata"]["name"]: each["rules"] for each in found if each["kind"] == "ClusterRole"}
    assert set(cluster_wide) == {f"{NAMESPACE}-trial-lobby-gateway-{who}" for who in ("operator", "greeter")}
    for rules in cluster_wide.values():
        for rule in rules:
            assert rule["apiGroups"] == ["lobby-gateway.io"]
    roles = {each["metadata"]["namespace"]: each for each in found if named_operator(each, "Role")}
    assert set(roles) == {NAMESPACE, *namespaces}
    for role in roles.values():
        assert {"pods", "configmaps", "secrets"} <= {name for rule in role["rules"] for name in rule["resources"]}
    bindings = {each["metadata"]["namespace"]: each for each in found if named_operator(each, "RoleBinding")}
    assert set(bindings) == {NAMESPACE, *namespaces}
    for binding in bindings.values():
        account = {"kind": "ServiceAccount", "name": "trial-lobby-gateway-operator", "namespace": NAMESPACE}
        assert binding["subjects"] == [account]


def named_operator(each: helm.Object, kind: str) -> bool:
    return bool(each["kind"] == kind and each["metadata"]["name"] == "trial-lobby-gateway-operator")


def test_the_operator_knows_the_namespaces_that_its_roles_are_in() -> None:
    def options(given: dict[str, Any]) -> list[str]:
        spec = pod_specs(objects(given))["Deployment trial-lobby-gateway-operator"]
        return [each for each in spec["containers"][0]["args"] if "namespace" in each]

    assert options({}) == [f"--namespace={NAMESPACE}"]
    assert options(ALL_NAMESPACES) == [
        "--all-namespaces",
        "--lobby-namespace=feeds",
        f"--lobby-namespace={NAMESPACE}",
    ]


def test_operators_and_greeters_prefix_paths_together() -> None:
    for prefix in (False, True):
        specs = pod_specs(objects({"watch": {"prefixPaths": prefix}}))
        for who in ("operator", "greeter"):
            arguments = specs[f"Deployment trial-lobby-gateway-{who}"]["containers"][0]["args"]
            assert ("--prefix-paths" in arguments) is prefix, who


def aggregated(each: helm.Object) -> set[str]:
    """The built-in roles that a ClusterRole is part of."""
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    return {
        key.removeprefix(prefix)
        for key, value in each["metadata"]["labels"].items()
        if key.startswith(prefix) and value == "true"
    }


def test_built_in_roles_get_rights_to_lobbies_and_nothing_else() -> None:
    roles = {each["metadata"]["name"]: each for each in objects() if aggregated(each)}
    assert {name: aggregated(each) for name, each in roles.items()} == {
        f"{NAMESPACE}-trial-lobby-gateway-view": {"view", "edit", "admin"},
        f"{NAMESPACE}-trial-lobby-gateway-edit": {"edit", "admin"},
    }
    rights = {
        name: {(verb, what) for rule in each["rules"] for verb in rule["verbs"] for what in rule["resources"]}
        for name, each in roles.items()
    }
    view, edit = (rights[f"{NAMESPACE}-trial-lobby-gateway-{who}"] for who in ("view", "edit"))
    assert {verb for verb, _ in view} == {"get", "list", "watch"}
    assert {("create", "lobbies"), ("delete", "lobbies"), ("patch", "lobbies/scale")} <= edit
    assert {what for _, what in view | edit} == {"lobbies", "lobbies/status", "lobbies/scale"}
    assert not [verb for verb, what in edit if what == "lobbies/status"]
    assert {group for each in roles.values() for rule in each["rules"] for group in rule["apiGroups"]} == {
        "lobby-gateway.io"
    }
    assert not [each for each in objects({"rbac": {"aggregateClusterRoles": False}}) if aggregated(each)]


def test_permissions_are_namespaced_unless_all_namespaces_are_watched() -> None:
    hooks = ("pre-install,pre-upgrade",)
    cluster_wide = [
        each["metadata"]["name"]
        for each in objects()
        if each["kind"].startswith("ClusterRole")
        and not aggregated(each)
        and not each["metadata"]["name"].endswith("-admission")
        and each["metadata"].get("annotations", {}).get("helm.sh/hook") not in hooks
    ]
    assert not cluster_wide
    none = {"crds": {"upgrade": False}, "admission": {"enabled": False}, "rbac": {"aggregateClusterRoles": False}}
    kinds = {each["kind"] for each in objects(helm.merged(EVERYTHING, none))}
    assert not [each for each in kinds if each.startswith("Cluster") or each.endswith("WebhookConfiguration")]
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
    keys = [each["data"]["key"] for each in found if each["kind"] == "Secret" and "data" in each]
    assert keys
    for where, spec in pod_specs(found).items():
        said = yaml.safe_dump(spec)
        assert "secretKeyRef" not in said, where  # as a file: a variable of the environment is seen by more
        assert not [key for key in keys if key in said], where


def test_the_master_key_is_long_and_in_no_other_namespace() -> None:
    secrets = [each for each in objects(ALL_NAMESPACES) if each["kind"] == "Secret"]
    (master,) = (each for each in secrets if "data" in each)
    assert master["metadata"]["name"] == "trial-lobby-gateway-token-key"
    assert master["metadata"].get("namespace", NAMESPACE) == NAMESPACE
    assert re.fullmatch(r"[A-Za-z0-9+/=]{88}", master["data"]["key"])


def test_each_namespace_has_a_secret_that_the_operator_fills_and_knows_as_ours() -> None:
    found = [
        each
        for each in objects({**ALL_NAMESPACES, "admission": {"enabled": False}})
        if each["kind"] == "Secret" and "data" not in each
    ]
    assert {each["metadata"]["namespace"] for each in found} == {NAMESPACE, "feeds"}
    for each in found:
        assert each["metadata"]["name"] == "trial-lobby-gateway-lobby-token-key"
        assert names.TOKEN_SECRET_LABELS.items() <= each["metadata"]["labels"].items()


@pytest.mark.parametrize("existing", ["", "mine"])
def test_only_operators_and_greeters_mount_the_master_key(existing: str) -> None:
    found = objects(helm.merged(EVERYTHING, {"tokenKey": {"existingSecret": existing}}))
    name = existing or "trial-lobby-gateway-token-key"
    mounting = {
        where
        for where, spec in pod_specs(found).items()
        if {"name": "token-key", "secret": {"secretName": name}} in spec.get("volumes", [])
    }
    assert mounting == {"Deployment trial-lobby-gateway-operator", "Deployment trial-lobby-gateway-greeter"}
    for where in mounting:
        assert "--token-key-file=/etc/lobby/token/key" in pod_specs(found)[where]["containers"][0]["args"]
    operator = pod_specs(found)["Deployment trial-lobby-gateway-operator"]["containers"][0]["args"]
    assert f"--master-secret={name}" in operator
    assert [each["metadata"]["name"] for each in found if each["kind"] == "Secret" and "data" in each] == (
        [] if existing else [name]
    )


def test_greeter_is_replaced_before_it_terminates_and_has_time_to() -> None:
    greeter = named(objects(), "Deployment", "-greeter")["spec"]
    assert greeter["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = greeter["template"]["spec"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    [stop] = [each for each in pod["containers"][0]["args"] if each.startswith("--stop-seconds=")]
    assert pod["terminationGracePeriodSeconds"] == waits + int(stop.removeprefix("--stop-seconds=")) + 15
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == greeter["selector"]["matchLabels"]


def test_new_version_of_the_chart_alone_restarts_no_pod() -> None:
    for each in objects(EVERYTHING):
        if each["kind"] == "Deployment":
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert labels == {**each["spec"]["selector"]["matchLabels"], "app.kubernetes.io/part-of": "lobby-gateway"}


@each_case
def test_the_first_probe_waits_until_a_process_usually_listens(given: dict[str, Any]) -> None:
    # A probe that fails is a Warning in the Events of the pod.
    for where, spec in pod_specs(objects(given)).items():
        for container in spec["containers"]:
            first = container.get("startupProbe") or container.get("readinessProbe")
            assert first is None or first["initialDelaySeconds"] >= 2, where


def test_autoscaled_greeter_has_no_fixed_replicas() -> None:
    assert "replicas" not in named(objects(EVERYTHING), "Deployment", "-greeter")["spec"]
    assert named(objects(), "Deployment", "-greeter")["spec"]["replicas"] == 2


@each_case
def test_only_operator_and_prometheus_can_reach_admin_ports(given: dict[str, Any]) -> None:
    policies = [each for each in objects(given) if each["kind"] == "NetworkPolicy"]
    assert len(policies) >= 3
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
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


def egress(given: dict[str, Any]) -> list[helm.Object]:
    (policy,) = [each for each in objects(given) if each["metadata"]["name"].endswith("-lobby-egress")]
    assert policy["spec"]["policyTypes"] == ["Egress"]
    assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "lobby"
    rules: list[helm.Object] = policy["spec"]["egress"]
    return rules


def test_egress_of_lobbies_is_limited_on_request_only() -> None:
    assert not [each for each in objects() if each["metadata"]["name"].endswith("-egress")]
    dns, v4, v6, lobbies = egress({"networkPolicy": {"lobbyEgress": {"enabled": True}}})
    (peer,) = lobbies["to"]  # a lobby may take the stream from another one of its namespace
    assert (lobbies["ports"], set(peer)) == ([{"port": "clients"}], {"podSelector"})
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "lobby"
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert dns["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    for rule, private in ((v4, ["10.96.0.1", "169.254.169.254", "192.168.0.1"]), (v6, ["fd00::1", "fe80::1"])):
        (peer,) = rule["to"]
        networks = [ip_network(each) for each in peer["ipBlock"]["except"]]
        assert peer["ipBlock"]["cidr"] in ("0.0.0.0/0", "::/0")
        assert {network.version for network in networks} == {ip_network(peer["ipBlock"]["cidr"]).version}
        assert all(any(ip_address(each) in network for network in networks) for each in private)


def test_egress_to_origins_in_the_cluster_can_be_added() -> None:
    lobby_egress = {
        "enabled": True,
        "cidrs": ["203.0.113.0/24"],
        "to": [{"podSelector": {"matchLabels": {"app": "feed"}}}],
    }
    _, network, added, _, demo = egress({"networkPolicy": {"lobbyEgress": lobby_egress}, "demo": {"enabled": True}})
    assert network == {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}
    assert added == {"to": lobby_egress["to"]}
    assert demo["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "demo-origin"


def test_egress_is_limited_in_every_namespace_with_lobbies() -> None:
    given = helm.merged(ALL_NAMESPACES, {"networkPolicy": {"lobbyEgress": {"enabled": True}}})
    found = [each for each in objects(given) if each["metadata"]["name"].endswith("-lobby-egress")]
    assert {each["metadata"]["namespace"] for each in found} == {NAMESPACE, "feeds"}


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
    option = "--token-key-file="  # a file of the pod; any file will do, since it is not read yet
    read = [each.replace("$$(", "$(") for each in container["args"]]  # by the kubelet
    here = [f"{option}{__file__}" if each.startswith(option) else each for each in read]
    return settings_of(parser().parse_args(here))


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


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "ws://trial-lobby-gateway-greeter.gateway.svc"),
        ({"ingress": {"enabled": True, "hosts": ["*.example.com"]}}, "ws://trial-lobby-gateway-greeter.gateway.svc"),
        (
            {"ingress": {"enabled": True, "hosts": ["*.example.com", "a.example.com"], "tls": [{"secretName": "t"}]}},
            "wss://a.example.com",
        ),
        (
            {
                "httpRoute": {
                    "enabled": True,
                    "parentRefs": [{"name": "web"}],
                    "hostnames": ["*.example.com", "b.example.com"],
                }
            },
            "ws://b.example.com",
        ),
        (
            {"ingress": {"hosts": ["a.example.com"]}, "httpRoute": {"hostnames": ["b.example.com"]}},
            "ws://trial-lobby-gateway-greeter.gateway.svc",
        ),
    ],
    ids=["neither", "wildcard-only", "ingress", "route", "disabled"],
)
def test_the_url_of_lobbies_has_a_host_that_clients_can_connect_to(given: dict[str, Any], url: str) -> None:
    assert operator(given).clients_url == url


def test_helm_test_connects_to_the_declared_lobbies() -> None:
    def arguments(given: dict[str, Any]) -> list[str]:
        (container,) = named(objects(given), "Pod", "-round-trip")["spec"]["containers"]
        return [each for each in container["args"] if each.startswith("/")]

    origin = {"url": "wss://feed.example.com/"}
    assert arguments({}) == []
    assert arguments({"demo": {"enabled": True}}) == ["/demo"]
    lobbies = {"lobbies": {"a": {"origin": origin}, "b": {"origin": origin, "path": "/c"}}}
    assert arguments(lobbies) == ["/a", "/c"]
    prefixed = {"watch": {"prefixPaths": True}}
    assert arguments({**lobbies, **prefixed}) == [f"/{NAMESPACE}/a", f"/{NAMESPACE}/c"]
    assert arguments({"demo": {"enabled": True}, **prefixed}) == [f"/{NAMESPACE}/demo"]


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


def test_every_object_and_pod_has_the_recommended_and_the_common_labels() -> None:
    given = helm.merged(EVERYTHING, {**ALL_NAMESPACES, "commonLabels": {"team": "data"}})
    found = objects(given)
    wanted = {"app.kubernetes.io/instance": "trial", "app.kubernetes.io/part-of": "lobby-gateway", "team": "data"}
    for each in found:
        where = f"{each['kind']} {each['metadata']['name']}"
        assert wanted.items() <= each["metadata"]["labels"].items(), where
        if "template" in each.get("spec", {}) and each["kind"] != "Lobby":
            assert wanted.items() <= each["spec"]["template"]["metadata"]["labels"].items(), where
        assert "team" not in each.get("spec", {}).get("selector", {}).get("matchLabels", {}), where


def test_common_labels_and_labels_of_a_component_may_name_the_same_key() -> None:
    given = {"commonLabels": {"team": "data"}, "operator": {"podLabels": {"team": "operations"}}}
    operator = named(objects(given), "Deployment", "-operator")
    assert operator["metadata"]["labels"]["team"] == "data"
    assert operator["spec"]["template"]["metadata"]["labels"]["team"] == "operations"


def test_name_override_names_objects_and_their_label_and_nothing_that_the_operator_finds_by_it() -> None:
    found = objects(helm.merged(EVERYTHING, {"nameOverride": "gate"}))
    named_otherwise = {"lobby-operator", "demo", "prices"}
    for each in found:
        name = each["metadata"]["name"]
        assert "trial-gate" in name or name in named_otherwise
    for component in ("operator", "greeter"):
        deployment = named(found, "Deployment", f"-{component}")["spec"]
        assert deployment["selector"]["matchLabels"]["app.kubernetes.io/name"] == "gate"
        policy = named(found, "NetworkPolicy", f"-{component}")["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    (monitor,) = (each for each in found if each["kind"] == "PodMonitor")
    assert monitor["spec"]["selector"]["matchExpressions"][0]["values"] == ["lobby-gateway", "gate"]
    keys = [
        each for each in found if each["kind"] == "Secret" and each["metadata"]["name"].endswith("-lobby-token-key")
    ]
    assert keys
    assert all(names.TOKEN_SECRET_LABELS.items() <= each["metadata"]["labels"].items() for each in keys)


def images(given: dict[str, Any]) -> set[str]:
    """The images of all pods, lobbies' among them."""
    specs = pod_specs(objects(given)).values()
    options = [each for spec in specs for container in spec["containers"] for each in container.get("args", [])]
    lobby = [each.removeprefix("--lobby-image=") for each in options if each.startswith("--lobby-image=")]
    return {container["image"] for spec in specs for container in spec["containers"]} | set(lobby)


def test_images_come_from_their_own_registry_or_from_that_of_all() -> None:
    plain = {f"lobby-gateway-{component}:0.1.0" for component in ("operator", "greeter", "lobby")}
    demo = {"demo": {"enabled": True}}
    assert images(demo) == plain
    everywhere = {**demo, "global": {"imageRegistry": "registry.example.com:5000/team"}}
    assert images(everywhere) == {f"registry.example.com:5000/team/{each}" for each in plain}
    one = {**demo, "greeter": {"image": {"registry": "mirror.example.com"}}}
    assert images(one) == {f"mirror.example.com/{each}" if "greeter" in each else each for each in plain}
    both = helm.merged(one, {"global": {"imageRegistry": "registry.example.com:5000/team"}})
    assert images(both) == images(everywhere)
    digest = f"sha256:{64 * 'a'}"
    pinned = helm.merged(everywhere, {"greeter": {"image": {"digest": digest}}})
    assert f"registry.example.com:5000/team/lobby-gateway-greeter@{digest}" in images(pinned)


def test_secrets_of_the_registry_are_those_of_every_pod() -> None:
    secrets = [{"name": "registry"}, {"name": "mirror.example.com"}]
    found = objects(helm.merged(EVERYTHING, {"imagePullSecrets": secrets}))
    assert all(spec["imagePullSecrets"] == secrets for spec in pod_specs(found).values())
    (container,) = named(found, "Deployment", "-operator")["spec"]["template"]["spec"]["containers"]
    options = [each for each in container["args"] if each.startswith("--lobby-image-pull-secret=")]
    assert options == [f"--lobby-image-pull-secret={each['name']}" for each in secrets]


@pytest.mark.parametrize("component", ["operator", "greeter"])
def test_extra_variables_and_volumes_are_added(component: str) -> None:
    env = [{"name": "A", "value": "b"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    volume = {"name": "ca", "configMap": {"name": "ca"}}
    mount = {"name": "ca", "mountPath": "/etc/ca", "readOnly": True}
    given = {
        "admission": {"enabled": False},
        component: {"extraEnv": env, "extraVolumes": [volume], "extraVolumeMounts": [mount]},
    }
    spec = pod_specs(objects(given))[f"Deployment trial-lobby-gateway-{component}"]
    (container,) = spec["containers"]
    assert container["env"] == [{"name": "LOBBY_LOG_LEVEL", "value": "info"}, *env]
    assert [each["name"] for each in spec["volumes"]] == ["token-key", "ca"]
    assert spec["volumes"][1] == volume
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/etc/lobby/token", "/etc/ca"]


def test_defaults_of_lobbies_reach_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    plain = operator().pods
    own = PodSettings(image=plain.image, token_secret=plain.token_secret)
    assert plain.defaults == {"resources": {"requests": own.requests, "limits": own.limits}}
    assert plain.labels == {"app.kubernetes.io/instance": "trial", "app.kubernetes.io/part-of": "lobby-gateway"}
    lobby = {
        "resources": {"requests": {"cpu": "7m"}},
        "podLabels": {"tier": "edge"},
        "podAnnotations": {"example.com/note": "<a & b>"},
        "nodeSelector": {"pool": "lobbies"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
        "extraEnv": [{"name": "PATH_OF", "value": "$(HOME)/a"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    }
    made = operator({"lobby": lobby, "commonLabels": {"team": "data"}}).pods
    assert made.labels["team"] == "data"
    assert made.defaults == {
        # Merged with the chart's own, as Helm does.
        "resources": {"requests": {"cpu": "7m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "labels": lobby["podLabels"],
        "annotations": lobby["podAnnotations"],
        **{key: lobby[key] for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName")},
        "topologySpreadConstraints": lobby["topologySpreadConstraints"],
        "env": lobby["extraEnv"],
        "volumes": lobby["extraVolumes"],
        "volumeMounts": lobby["extraVolumeMounts"],
    }


def autoscaler(**given: Any) -> helm.Object:
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    (found,) = (
        each for each in objects({"greeter": {"autoscaling": {"enabled": True, **given}}}) if each["kind"] in kinds
    )
    return found


def test_greeters_are_scaled_by_cpu_clients_or_both() -> None:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    target = {"type": "AverageValue", "averageValue": "5000"}
    clients = {"type": "Pods", "pods": {"metric": {"name": "greeter_clients"}, "target": target}}
    assert autoscaler()["spec"]["metrics"] == [cpu]
    assert autoscaler(targetClients=5000)["spec"]["metrics"] == [cpu, clients]
    assert autoscaler(targetClients=5000, targetCPUUtilizationPercentage=0)["spec"]["metrics"] == [clients]
    assert "greeter_clients" in {definition.name for definition in GREETER}


def test_keda_scales_greeters_by_the_clients_that_prometheus_counts() -> None:
    keda = {"enabled": True, "serverAddress": "http://prometheus:9090", "authenticationRef": {"name": "reader"}}
    found = autoscaler(targetClients=5000, keda=keda, minReplicas=3)
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = found["spec"]
    greeter = named(objects(), "Deployment", "-greeter")["metadata"]["name"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": greeter}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (3, 10)
    clients, cpu = spec["triggers"]
    assert clients["metadata"] == {
        "serverAddress": "http://prometheus:9090",
        "query": f'sum(greeter_clients{{namespace="{NAMESPACE}",pod=~"{greeter}-.+"}})',
        "threshold": "5000",
    }
    assert clients["authenticationRef"] == {"name": "reader"}
    assert cpu == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == autoscaler()["spec"]["behavior"]


# Admission


ADMISSION = "trial-lobby-gateway-admission"


def webhook(given: dict[str, Any] | None = None) -> helm.Object:
    (configuration,) = [each for each in objects(given) if each["kind"] == "ValidatingWebhookConfiguration"]
    (found,) = configuration["webhooks"]
    return dict(found)


def test_admission_never_blocks_and_asks_about_the_lobbies_of_the_release_only() -> None:
    asked = webhook({"watch": {"allNamespaces": True, "lobbyNamespaces": ["feeds"]}})
    assert asked["failurePolicy"] == "Ignore"
    assert asked["timeoutSeconds"] <= 2
    (selected,) = asked["namespaceSelector"]["matchExpressions"]
    assert selected == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["feeds", NAMESPACE]}
    (rule,) = asked["rules"]
    assert (rule["resources"], rule["operations"]) == (["lobbies"], ["CREATE", "UPDATE"])
    assert asked["clientConfig"]["service"]["path"] == f"/{ADMISSION_PATH}"


def test_admission_reaches_the_operators_through_their_service_and_policy() -> None:
    found = objects()
    service = webhook()["clientConfig"]["service"]
    (there,) = [each for each in found if each["kind"] == "Service" and each["metadata"]["name"] == service["name"]]
    pod = named(found, "Deployment", "-operator")["spec"]["template"]
    assert there["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = there["spec"]["ports"]
    assert port["port"] == service["port"]
    (container,) = pod["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports[port["targetPort"]] == AdmissionSettings().port
    rules = named(found, "NetworkPolicy", "-operator")["spec"]["ingress"]
    assert {"ports": [{"port": "admission"}]} in rules
    limited = objects({"admission": {"apiServerCidrs": ["10.0.0.0/24"]}})
    rules = named(limited, "NetworkPolicy", "-operator")["spec"]["ingress"]
    assert {"ports": [{"port": "admission"}], "from": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]} in rules


def test_the_operator_may_write_one_secret_and_one_configuration_for_admission() -> None:
    found = objects()
    rules = [rule for each in found if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    (configurations,) = [rule for rule in rules if rule["resources"] == ["validatingwebhookconfigurations"]]
    assert configurations["resourceNames"] == [f"{NAMESPACE}-{ADMISSION}"]
    assert set(configurations["verbs"]) == {"get", "patch"}
    (secrets,) = [rule for rule in rules if rule.get("resourceNames") == [ADMISSION]]
    assert set(secrets["verbs"]) == {"get", "patch"}
    (secret,) = [each for each in found if each["kind"] == "Secret" and each["metadata"]["name"] == ADMISSION]
    assert "data" not in secret  # the operator fills it
    options = operator().admission
    assert (options.service, options.secret) == (ADMISSION, ADMISSION)
    assert options.configuration == configurations["resourceNames"][0]


def test_with_cert_manager_the_operator_writes_nothing_for_admission() -> None:
    found = objects({"admission": {"certManager": {"enabled": True}}})
    rules = [rule for each in found if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    assert not [rule for rule in rules if "validatingwebhookconfigurations" in rule["resources"]]
    (secrets,) = [rule for rule in rules if rule.get("resourceNames") == [ADMISSION]]
    assert secrets["verbs"] == ["get"]
    assert not [each for each in found if each["kind"] == "Secret" and each["metadata"]["name"] == ADMISSION]
    (certificate,) = [each for each in found if each["kind"] == "Certificate"]
    assert certificate["spec"]["secretName"] == ADMISSION
    assert f"{ADMISSION}.{NAMESPACE}.svc" in certificate["spec"]["dnsNames"]
    (issuer,) = [each for each in found if each["kind"] == "Issuer"]
    assert certificate["spec"]["issuerRef"] == {"name": issuer["metadata"]["name"]}
    (configuration,) = [each for each in found if each["kind"] == "ValidatingWebhookConfiguration"]
    injected = {"cert-manager.io/inject-ca-from": f"{NAMESPACE}/{ADMISSION}"}
    assert configuration["metadata"]["annotations"] == injected
    assert operator({"admission": {"certManager": {"enabled": True}}}).admission.configuration == ""
    own = {"name": "ours", "kind": "ClusterIssuer"}
    found = objects({"admission": {"certManager": {"enabled": True, "issuerRef": own}}})
    assert [each["spec"]["issuerRef"] for each in found if each["kind"] == "Certificate"] == [own]
    assert not [each for each in found if each["kind"] == "Issuer"]


def test_without_admission_nothing_of_it_is_left() -> None:
    assert not [each for each in objects({"admission": {"enabled": False}}) if "admission" in json.dumps(each)]
