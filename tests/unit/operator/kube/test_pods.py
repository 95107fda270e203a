"""Manifests of pods and ConfigMaps, and their digests. That the API server accepts them is tested in a cluster."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.kube.support import SETTINGS, UID, lobby, resource

from lobby_gateway.lobby.command import parser
from lobby_gateway.resource.spec import lobby_from_resource
from lobby_gateway.settings import LobbySettings
from lobby_operator.kube import pods
from lobby_operator.kube.pods import config_map, configured, live_digest, pod_manifest, revision
from lobby_operator.settings import PodSettings


def made(settings: PodSettings = SETTINGS, **spec: Any) -> dict[str, Any]:
    return pod_manifest(lobby(**spec), "prices-1", settings, config="0123456789")


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def secret_files(pod: dict[str, Any]) -> dict[tuple[str, str], str]:
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "secrets"]
    return {
        (source["secret"]["name"], item["key"]): item["path"]
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


def test_a_pod_has_labels_and_an_owner_reference() -> None:
    metadata = made()["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("prices-1", "shop")
    revision = pods.revision(lobby(), SETTINGS)
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "lobby-gateway",
        "app.kubernetes.io/component": "lobby",
        "app.kubernetes.io/managed-by": "lobby-operator",
        "lobby-gateway.io/lobby": "prices",
        "lobby-gateway.io/revision": revision,
    }
    assert metadata["annotations"] == {
        "lobby-gateway.io/config": "0123456789",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
    }
    (owner,) = metadata["ownerReferences"]
    assert owner == {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "name": "prices",
        "uid": UID,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def test_a_pod_meets_the_restricted_standard() -> None:
    pod = made()
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["enableServiceLinks"] is False
    kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "projected"}


def test_a_dead_lobby_is_replaced_and_never_restarted() -> None:
    assert made()["spec"]["restartPolicy"] == "Never"


def test_a_lobby_has_time_to_stop() -> None:
    args = container(made())["args"]
    stop = int(args[args.index("--stop-seconds") + 1])
    assert LobbySettings().stop_seconds < stop
    assert made()["spec"]["terminationGracePeriodSeconds"] > stop + 10


def test_the_command_names_all_files_and_ports() -> None:
    args = container(made())["args"]
    given = dict(itertools.pairwise(args))
    assert args[-2:] == ["--name", "prices-1"]
    assert given["--file"] == "/etc/lobby/config/lobby.json"
    assert given["--token-key-file"] == "/etc/lobby/token/key"
    assert (given["--host"], given["--port"]) == ("::", "8000")
    assert (given["--admin-host"], given["--admin-port"]) == ("::", "8001")
    assert {"--validated", "--follow-file"} <= set(args)
    assert container(made())["command"] == ["python", "-I", "-B", "-m", "lobby_gateway.lobby"]


def test_no_variable_of_the_template_makes_the_interpreter_run_something_else(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    module = tmp_path / "sitecustomize.py"
    module.write_text(f"open({str(ran)!r}, 'w').close()\n")
    harmful = {
        # A warning filter imports the module of its category, and this module starts a browser.
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "BROWSER": f"/bin/sh -c 'touch {ran}' %s",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(module),
        "PYTHONBREAKPOINT": "sitecustomize.x",
    }
    variables = [{"name": name, "value": value} for name, value in harmful.items()]
    only = container(made(template={"env": variables}))
    environment = {each["name"]: each["value"] for each in only["env"]}
    done = subprocess.run(
        [sys.executable, *only["command"][1:], "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not ran.exists()


def test_denied_networks_reach_the_process_of_every_lobby() -> None:
    args = container(made())["args"]
    text = args[args.index("--origin-deny-cidrs") + 1]
    networks = parser().parse_args([*args]).origin_deny_cidrs
    assert text.split(",") == [str(each) for each in networks] == list(SETTINGS.origin_deny_cidrs)
    assert "--origin-deny-cidrs" not in container(made(replace(SETTINGS, origin_deny_cidrs=())))["args"]


def test_the_declared_ports_are_those_it_listens_on() -> None:
    ports = {port["name"]: port["containerPort"] for port in container(made())["ports"]}
    assert ports == {"clients": 8000, "admin": 8001}


def test_probes_use_the_admin_port() -> None:
    pod = container(made())
    paths = {probe: pod[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: asked["path"] for probe, asked in paths.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {asked["port"] for asked in paths.values()} == {"admin"}
    assert pod["startupProbe"]["initialDelaySeconds"] >= 2, "each probe that fails is a Warning in the pod's Events"


def test_files_are_mounted_as_directories_which_the_kubelet_updates() -> None:
    pod = made()
    mounts = {mount["name"]: mount for mount in container(pod)["volumeMounts"]}
    assert {name: mount["mountPath"] for name, mount in mounts.items()} == {
        "config": "/etc/lobby/config",
        "token": "/etc/lobby/token",
    }
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts.values())
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["config"]["configMap"] == {"name": "prices-lobby"}
    assert volumes["token"]["secret"] == {"secretName": "token", "items": [{"key": "key", "path": "key"}]}


def test_each_key_of_a_secret_is_a_file_named_by_its_variable() -> None:
    key = {"secretKeyRef": {"name": "feed", "key": "api-key"}}
    pod = made(
        origin={
            "headers": [{"name": "Authorization", "valueFrom": key}],
            "secrets": [
                {"name": "KEY", **key},
                {"name": "OTHER", "secretKeyRef": {"name": "feed", "key": "other"}},
            ],
            "tls": {"caSecretRef": {"name": "ca"}, "clientCertSecretRef": {"name": "client"}},
        }
    )
    assert secret_files(pod) == {
        ("feed", "api-key"): "LOBBY_SECRET_FEED_API_KEY",
        ("feed", "other"): "LOBBY_SECRET_FEED_OTHER",
        ("ca", "ca.crt"): "LOBBY_SECRET_CA_CA_CRT",
        ("client", "tls.crt"): "LOBBY_SECRET_CLIENT_TLS_CRT",
        ("client", "tls.key"): "LOBBY_SECRET_CLIENT_TLS_KEY",
    }
    args = container(pod)["args"]
    assert args[args.index("--secrets-directory") + 1] == "/etc/lobby/secrets"
    assert container(pod)["volumeMounts"][-1]["mountPath"] == "/etc/lobby/secrets"


def test_without_secrets_there_is_no_secrets_directory() -> None:
    assert "--secrets-directory" not in container(made())["args"]


def test_resources_have_defaults_and_no_limit_on_cpu() -> None:
    resources = container(made())["resources"]
    assert resources == {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def test_resources_of_the_template_override_single_defaults() -> None:
    wanted = {"requests": {"memory": "128Mi"}, "limits": {"cpu": 2, "ephemeral-storage": "1Gi"}}
    assert container(made(template={"resources": wanted}))["resources"] == {
        "requests": {"cpu": "25m", "memory": "128Mi"},
        "limits": {"memory": "256Mi", "cpu": 2, "ephemeral-storage": "1Gi"},
    }


@pytest.mark.parametrize("none", [0, "0"])
def test_a_limit_of_0_removes_the_limit(none: Any) -> None:
    assert container(made(template={"resources": {"limits": {"memory": none}}}))["resources"]["limits"] == {}


def test_the_template_is_merged_in() -> None:
    toleration = {"key": "dedicated", "operator": "Exists"}
    affinity: dict[str, Any] = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    }
    pod = made(
        replace(SETTINGS, image_pull_secrets=("mine", "both")),
        template={
            "labels": {"team": "feeds"},
            "annotations": {"example.com/note": "x"},
            "env": [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [toleration],
            "affinity": affinity,
            "priorityClassName": "feeds",
            "imagePullSecrets": [{"name": "both"}, {"name": "theirs"}],
        },
    )
    assert pod["metadata"]["labels"]["team"] == "feeds"
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "lobby"
    assert pod["metadata"]["annotations"]["example.com/note"] == "x"
    assert pod["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    assert container(pod)["env"] == [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}]
    spec = pod["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"disk": "ssd"}, [toleration])
    assert (spec["affinity"], spec["priorityClassName"]) == (affinity, "feeds")
    assert spec["imagePullSecrets"] == [{"name": "mine"}, {"name": "both"}, {"name": "theirs"}]


def test_defaults_of_all_lobbies_hold_unless_the_template_says_otherwise() -> None:
    pool = {"key": "dedicated", "operator": "Equal", "value": "lobbies", "effect": "NoSchedule"}
    down = {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}
    certificates = {"name": "certificates", "configMap": {"name": "ca"}}
    mount = {"name": "certificates", "mountPath": "/etc/ca", "readOnly": True}
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    defaults = {
        "labels": {"team": "platform", "cost": "shared"},
        "annotations": {"example.com/note": "all"},
        "nodeSelector": {"pool": "lobbies", "disk": "hdd"},
        "tolerations": [pool],
        "affinity": {"podAffinity": {}},
        "priorityClassName": "platform",
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "512Mi"}},
        "env": [{"name": "LOBBY_LOG_LEVEL", "value": "warning"}, node],
        "volumes": [certificates],
        "volumeMounts": [mount],
    }
    settings = replace(SETTINGS, labels={"team": "all", "app.kubernetes.io/instance": "trial"}, defaults=defaults)
    plain = made(settings)
    assert plain["metadata"]["labels"].items() >= {"cost": "shared", "app.kubernetes.io/instance": "trial"}.items()
    assert plain["metadata"]["labels"]["team"] == "platform"
    assert plain["metadata"]["annotations"]["example.com/note"] == "all"
    spec = plain["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == (defaults["nodeSelector"], [pool])
    assert (spec["affinity"], spec["priorityClassName"]) == ({"podAffinity": {}}, "platform")
    assert [volume["name"] for volume in spec["volumes"]] == ["config", "token", "certificates"]
    assert [each["name"] for each in container(plain)["volumeMounts"]] == ["config", "token", "certificates"]
    assert container(plain)["env"] == defaults["env"]
    wanted = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
    assert container(plain)["resources"] == wanted

    own = made(
        settings,
        template={
            "labels": {"team": "feeds"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [down, pool],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "feeds",
            "resources": {"limits": {"memory": "1Gi"}},
            "env": [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}],
        },
    )
    assert own["metadata"]["labels"]["team"] == "feeds"
    spec = own["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"pool": "lobbies", "disk": "ssd"}, [pool, down])
    assert (spec["affinity"], spec["priorityClassName"]) == ({"nodeAffinity": {}}, "feeds")
    assert container(own)["env"] == [{"name": "LOBBY_LOG_LEVEL", "value": "debug"}, node]
    assert container(own)["resources"] == {
        "requests": {"cpu": "10m", "memory": "64Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert revision(lobby(), settings) != revision(lobby(), SETTINGS)


def test_labels_of_the_operator_cannot_be_replaced_by_defaults() -> None:
    settings = replace(
        SETTINGS, labels={"lobby-gateway.io/lobby": "other"}, defaults={"labels": {"lobby-gateway.io/revision": "x"}}
    )
    labels = made(settings)["metadata"]["labels"]
    assert labels["lobby-gateway.io/lobby"] == "prices"
    assert labels["lobby-gateway.io/revision"] == revision(lobby(), settings)


def test_avoided_nodes_are_added_to_the_templates_affinity() -> None:
    kind, other = "preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution"
    near = {"weight": 3, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}
    must: dict[str, Any] = {"nodeSelectorTerms": []}
    given = {"nodeAffinity": {kind: [near], other: must}, "podAffinity": {}}
    wanted = lobby(template={"affinity": given})
    pod = pod_manifest(wanted, "prices-1", SETTINGS, config="0", avoid=["node-1", "node-2"])
    away = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in ("node-1", "node-2")]
    assert pod["spec"]["affinity"] == {
        "nodeAffinity": {kind: [near, {"weight": 100, "preference": {"matchFields": away}}], other: must},
        "podAffinity": {},
    }
    plain = pod_manifest(wanted, "prices-1", SETTINGS, config="0")
    assert plain["spec"]["affinity"] == given
    assert plain["metadata"] == pod["metadata"]  # both are made from the same


def test_lobbies_are_spread_over_zones_and_nodes() -> None:
    constraints = made()["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {each["whenUnsatisfiable"] for each in constraints} == {"ScheduleAnyway"}
    assert constraints[0]["labelSelector"]["matchLabels"]["lobby-gateway.io/lobby"] == "prices"


def test_each_revision_is_spread_by_itself() -> None:
    pod = made()
    for constraint in pod["spec"]["topologySpreadConstraints"]:
        assert constraint["matchLabelKeys"] == ["lobby-gateway.io/revision"]
        assert set(constraint["matchLabelKeys"]) <= set(pod["metadata"]["labels"])


def test_a_spread_of_the_template_replaces_the_default() -> None:
    given = {"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    (constraint,) = made(template={"topologySpreadConstraints": [given]})["spec"]["topologySpreadConstraints"]
    assert constraint.items() >= given.items()
    assert constraint["labelSelector"]["matchLabels"]["lobby-gateway.io/lobby"] == "prices"
    own = {**given, "labelSelector": {"matchLabels": {"a": "b"}}}
    (constraint,) = made(template={"topologySpreadConstraints": [own]})["spec"]["topologySpreadConstraints"]
    assert constraint == own
    assert made(template={"topologySpreadConstraints": []})["spec"]["topologySpreadConstraints"] == []


def test_the_cluster_may_choose_when_the_image_is_pulled() -> None:
    assert container(made())["imagePullPolicy"] == "IfNotPresent"
    assert "imagePullPolicy" not in container(made(replace(SETTINGS, image_pull_policy="")))


def test_the_service_account_is_the_one_for_lobbies() -> None:
    assert "serviceAccountName" not in made()["spec"]
    assert made(replace(SETTINGS, service_account="lobbies"))["spec"]["serviceAccountName"] == "lobbies"


def test_a_lobby_of_this_version_understands_its_command() -> None:
    key = {"secretKeyRef": {"name": "feed", "key": "api-key"}}
    args = container(made(origin={"secrets": [{"name": "KEY", **key}]}))["args"]
    known = {option for action in parser()._actions for option in action.option_strings}
    assert {each for each in args if each.startswith("--")} <= known


def document(given: dict[str, Any]) -> dict[str, Any]:
    loaded = json.loads(config_map(lobby_from_resource(given), given)["data"]["lobby.json"])
    assert isinstance(loaded, dict)
    return loaded


def test_the_config_map_belongs_to_the_lobby() -> None:
    metadata = config_map(lobby(), resource(), {"team": "data"})["metadata"]
    assert metadata["labels"]["team"] == "data"
    assert (metadata["name"], metadata["namespace"]) == ("prices-lobby", "shop")
    assert metadata["ownerReferences"][0]["uid"] == UID


def test_a_lobby_process_can_read_the_config_map() -> None:
    made = lobby_from_resource(document(resource(clients={"seats": 7}, template={"labels": {"a": "b"}})))
    assert made == lobby(clients={"seats": 7})


def test_a_status_or_label_does_not_change_the_config_map() -> None:
    given = resource()
    other = {**given, "status": {"clients": 5}, "metadata": {**given["metadata"], "resourceVersion": "8", "labels": {}}}
    assert document(other) == document(given)


def test_the_template_is_not_in_the_config_map() -> None:
    assert document(resource(template={"labels": {"a": "b"}})) == document(resource())


def test_the_config_map_has_the_whole_last_valid_spec() -> None:
    given = resource(path="/p", clients={"seats": 7}, template={"labels": {"team": "data"}})
    stored = config_map(lobby_from_resource(given), given)
    found = configured(stored, UID)
    assert found is not None
    assert found["spec"] == given["spec"]
    again = lobby_from_resource(found)
    assert again == lobby_from_resource(given)
    assert revision(again, SETTINGS) == revision(lobby_from_resource(given), SETTINGS)


def without(stored: dict[str, Any], *path: str) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(stored)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return made


def test_a_config_map_that_does_not_have_the_whole_spec_is_not_used() -> None:
    stored = config_map(lobby(path="/p"), resource(path="/p"))
    assert configured(stored, UID) is not None
    assert configured(stored, "of another Lobby of that name") is None
    for path in (("data",), ("data", "lobby.json"), ("metadata", "annotations"), ("metadata", "ownerReferences")):
        assert configured(without(stored, *path), UID) is None
    for text in ("", "[]", "{}", '{"spec": 5}', stored["data"]["lobby.json"].replace("/p", "")):
        assert configured({**stored, "data": {"lobby.json": text}}, UID) is None


PLAIN = revision(lobby(), SETTINGS)


def test_a_revision_fits_a_label_and_is_deterministic() -> None:
    assert revision(lobby(), SETTINGS) == PLAIN
    assert len(PLAIN) == 10
    assert set(PLAIN) <= set("0123456789abcdef")


def test_every_pod_of_a_revision_carries_it() -> None:
    for name, config in (("prices-1", "a"), ("prices-2", "b")):
        pod = pod_manifest(lobby(), name, SETTINGS, config=config)
        assert pod["metadata"]["labels"]["lobby-gateway.io/revision"] == PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"origin": {"url": "wss://other.example.com"}},
        {"origin": {"headers": [{"name": "A", "value": "b"}]}},
        {"origin": {"staleSeconds": 5}},
        {"origin": {"onConnect": [{"expect": {"json": {"/a": 1}}}]}},
        {"template": {"labels": {"a": "b"}}},
        {"template": {"resources": {"limits": {"cpu": 1}}}},
        {"template": {"env": [{"name": "A", "value": "b"}]}},
    ],
    ids=str,
)
def test_another_origin_or_template_changes_the_revision(spec: dict[str, Any]) -> None:
    assert revision(lobby(**spec), SETTINGS) != PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"image": "registry.example/lobby:2"},
        {"token_secret": "other"},
        {"limits": {"memory": "1Gi"}},
        {"image_pull_secrets": ("a",)},
        {"origin_deny_cidrs": ("10.0.0.0/8",)},
    ],
    ids=str,
)
def test_other_settings_change_the_revision(change: dict[str, Any]) -> None:
    assert revision(lobby(), replace(SETTINGS, **change)) != PLAIN


@pytest.mark.parametrize(
    "spec",
    [
        {"clients": {"seats": 5, "queue": {"messages": 3}}},
        {"replicas": 3},
        {"maxReplicas": 5},
        {"spareSeats": 1},
        {"placement": "Latest"},
        {"routing": {"mode": "Redirect"}},
        {"drainSeconds": 1},
        {"path": "/other"},
        {"waitSeconds": 1},
        {"emptySeconds": 1},
        {"compaction": {"enabled": False}},
    ],
    ids=str,
)
def test_live_fields_do_not_change_the_revision(spec: dict[str, Any]) -> None:
    assert revision(lobby(**spec), SETTINGS) == PLAIN


@pytest.mark.parametrize(
    "spec",
    [{"clients": {"seats": 5}}, {"routing": {"mode": "Redirect"}}, {"drainSeconds": 1}, {"path": "/other"}],
    ids=str,
)
def test_fields_that_lobbies_follow_change_the_live_digest(spec: dict[str, Any]) -> None:
    assert live_digest(resource(**spec)) != live_digest(resource())


@pytest.mark.parametrize("spec", [{"replicas": 3}, {"maxReplicas": 5}, {"spareSeats": 1}, {"template": {"labels": {}}}])
def test_fields_that_only_the_operator_reads_do_not_change_the_live_digest(spec: dict[str, Any]) -> None:
    assert live_digest(resource(**spec)) == live_digest(resource())
