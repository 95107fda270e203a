"""A release for several namespaces: none of them can enter the lobbies of another, and the operator can't leave them."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterator

import pytest
from tests.cluster.support.api import LOBBIES, Api, ApiError
from tests.cluster.support.cluster import Cluster, condition, name_of
from tests.cluster.support.commands import CommandFailedError, helm, kubectl
from tests.cluster.support.images import Images
from tests.cluster.support.release import CHART, namespace
from tests.cluster.support.resources import lobby, origin_url, ticker

HOME, NORTH, SOUTH, OUTSIDE = (f"lobby-gateway-{name}" for name in ("home", "north", "south", "outside"))
RELEASE = "tenants"
PREFIX = f"{RELEASE}-lobby-gateway"
TICKER = "ticker"
GREETER = f"deployment/{PREFIX}-greeter"

ENTER = """
import socket, sys, time
from lobby_gateway.clients.tokens import Purpose, sign
from lobby_gateway.trunk.records import PATH, SUBPROTOCOL
address, port, lobby, key = sys.argv[1:]
token = sign(bytes.fromhex(key), purpose=Purpose.TRUNK, lobby=lobby, path=PATH, expires=time.time() + 30)
lines = [f"GET {PATH} HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade",
         "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13",
         f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", f"Authorization: Bearer {token}", "", ""]
with socket.create_connection((address, int(port)), timeout=10) as connection:
    connection.sendall("\\r\\n".join(lines).encode())
    print(connection.recv(4096).split()[1].decode())
"""
"""Opens a trunk with a key; prints the status. Runs in a greeter's pod, which may reach lobbies."""


@pytest.fixture(scope="module")
def tenants(api: Api, images: Images) -> Iterator[dict[str, Cluster]]:
    """The release, and a Lobby `prices` in each of two namespaces."""
    with namespace(HOME), namespace(NORTH), namespace(SOUTH), namespace(OUTSIDE):
        sets = [f"--set={each}.image.tag={images.tag}" for each in ("operator", "greeter", "lobby")]
        sets += [f"--set={each}.replicas=1" for each in ("operator", "greeter")]
        sets += ["--set=watch.allNamespaces=true", f"--set=watch.lobbyNamespaces={{{NORTH},{SOUTH}}}"]
        try:
            helm(
                "install", RELEASE, CHART, "-n", HOME, "--wait", "--timeout=150s", *sets, "--set=watch.prefixPaths=true"
            )
            there = {name: Cluster(api, name) for name in (HOME, NORTH, SOUTH, OUTSIDE)}
            there[HOME].apply(*ticker(TICKER, images.lobby, there[HOME].kept_node(), rate=4))
            for name in (NORTH, SOUTH):
                there[name].apply(lobby("prices", origin_url(TICKER, HOME), path="/p", replicas=1))
            for name in (NORTH, SOUTH):
                there[name].until_ready("prices", 1)
                there[name].until_condition("prices", "Ready", "True")
            yield there
        finally:
            for name in (NORTH, SOUTH, HOME, OUTSIDE):
                kubectl("delete", "lobbies", "--all", "-n", name, "--wait=true", deadline=120)
            helm("uninstall", RELEASE, "-n", HOME, "--ignore-not-found", "--wait", "--timeout=120s")


def key_in(api: Api, where: str, name: str) -> str:
    """The first key in a Secret, in hex."""
    secret = api.get(f"/api/v1/namespaces/{where}/secrets/{name}")
    return base64.b64decode(secret["data"]["key"]).decode().split()[0]


def enters(cluster: Cluster, key: str) -> int:
    """The status that the lobby of a namespace answers to a trunk with this key."""
    (pod,) = cluster.ready_pods("prices")
    claims = (pod["status"]["podIP"], "8000", f"{cluster.namespace}/{name_of(pod)}", key)
    return int(kubectl("exec", "-n", HOME, GREETER, "--", "python", "-c", ENTER, *claims))


def test_each_namespace_is_served_at_its_own_path(tenants: dict[str, Cluster]) -> None:
    for name in (NORTH, SOUTH):
        assert condition(tenants[name].get("prices"), "PathAccepted")["message"] == f"served at /{name}/p"
        trip = ("-m", "lobby_gateway.commands.round_trip", "--greeter=ws://127.0.0.1:8000", "--messages=2")
        assert "2 messages" in kubectl("exec", "-n", HOME, GREETER, "--", "python", *trip, f"/{name}/p")


def test_the_key_of_one_namespace_opens_no_lobby_of_another(api: Api, tenants: dict[str, Cluster]) -> None:
    master = key_in(api, HOME, f"{PREFIX}-token-key")
    keys = {name: key_in(api, name, f"{PREFIX}-lobby-token-key") for name in (NORTH, SOUTH)}
    for name, key in keys.items():
        assert key == hmac.digest(bytes.fromhex(master), name.encode(), "sha256").hex()
    assert enters(tenants[SOUTH], keys[NORTH]) == 401
    assert enters(tenants[NORTH], keys[SOUTH]) == 401
    assert enters(tenants[SOUTH], master) == 401
    assert enters(tenants[SOUTH], keys[SOUTH]) == 101


def test_a_lobbys_pod_has_the_key_of_its_namespace_alone(api: Api, tenants: dict[str, Cluster]) -> None:
    (pod,) = tenants[NORTH].ready_pods("prices")
    there = kubectl(
        "exec", "-n", NORTH, name_of(pod), "--", "python", "-c", "print(open('/etc/lobby/token/key').read())"
    )
    assert there.split() == [key_in(api, NORTH, f"{PREFIX}-lobby-token-key")]
    mounted = {volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume}
    assert mounted == {f"{PREFIX}-lobby-token-key"}


def can(account: str, *what: str) -> bool:
    """`kubectl auth can-i` as a service account of the release."""
    subject = f"--as=system:serviceaccount:{HOME}:{PREFIX}-{account}"
    try:
        return kubectl("auth", "can-i", *what, subject).strip() == "yes"
    except CommandFailedError as error:  # "no" has the exit code 1
        if "\nno\n" not in f"\n{error.output}\n":
            raise
        return False


@pytest.mark.usefixtures("tenants")
@pytest.mark.parametrize("where", ["kube-system", "default", OUTSIDE])
def test_the_operator_has_no_rights_but_to_lobbies_elsewhere(where: str) -> None:
    for verb in ("get", "list", "watch", "create", "patch", "delete"):
        for kind in ("pods", "configmaps", "secrets", "poddisruptionbudgets", "events.events.k8s.io"):
            assert not can("operator", verb, kind, "-n", where), (verb, kind)
    assert can("operator", "list", "lobbies", "-n", where)
    assert can("operator", "patch", "lobbies", "--subresource=status", "-n", where)
    assert not can("operator", "patch", "lobbies", "-n", where)
    for verb in ("get", "list", "create", "patch"):
        for kind in ("pods", "configmaps", "secrets"):
            assert not can("greeter", verb, kind, "-n", where), (verb, kind)


@pytest.mark.usefixtures("tenants")
@pytest.mark.parametrize("where", [HOME, NORTH])
def test_the_operator_may_run_lobbies_where_they_may_be_and_read_one_secret(where: str) -> None:
    assert can("operator", "create", "pods", "-n", where)
    assert can("operator", "get", "configmaps", "-n", where)
    assert can("operator", "get", f"secrets/{PREFIX}-lobby-token-key", "-n", where)
    for verb in ("get", "list", "watch", "create", "delete"):
        assert not can("operator", verb, "secrets", "-n", where), verb
    assert not can("operator", "get", f"secrets/{PREFIX}-token-key", "-n", where)


def test_a_lobby_elsewhere_is_not_served_and_says_so(tenants: dict[str, Cluster]) -> None:
    outside = tenants[OUTSIDE]
    with outside.lobby(lobby("prices", origin_url(TICKER, HOME), replicas=1)):
        refused = outside.until_condition("prices", "PathAccepted", "False")
        assert refused["reason"] == "NotServed"
        assert OUTSIDE in refused["message"]
        assert condition(outside.get("prices"), "Ready")["status"] == "False"
        assert not outside.pods("prices")


@pytest.mark.parametrize("secret", [f"{PREFIX}-token-key", f"{PREFIX}-lobby-token-key"])
def test_a_lobby_that_names_a_secret_with_token_keys_is_refused(tenants: dict[str, Cluster], secret: str) -> None:
    headers = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": secret, "key": "key"}}}]
    sentence = f"headers[0].valueFrom.secretKeyRef.name: {secret} holds keys of the operator; accepted: another Secret"
    with pytest.raises(CommandFailedError, match=re.escape(sentence)):
        tenants[HOME].apply(lobby("thief", origin_url(TICKER, HOME), replicas=1, origin_headers=headers))
    assert not tenants[HOME].pods("thief")


def test_objects_of_other_people_are_left_alone(tenants: dict[str, Cluster]) -> None:
    north = tenants[NORTH]
    theirs = {"metadata": {"name": "mine-lobby", "labels": {"team": "north"}}}
    north.apply({"apiVersion": "v1", "kind": "ConfigMap", **theirs, "data": {"their": "data"}})
    try:
        with north.lobby(lobby("mine", origin_url(TICKER, HOME), replicas=1)) as name:
            refused = north.until_condition(name, "Scaling", "False")
            assert "the ConfigMap mine-lobby" in refused["message"]
            assert not north.pods(name)
        there = json.loads(kubectl("get", "configmap", "mine-lobby", "-n", NORTH, "-o", "json"))
        assert there["data"] == {"their": "data"}
        assert "ownerReferences" not in there["metadata"]
    finally:
        north.delete("configmap", "mine-lobby")


@pytest.mark.parametrize("address", ["metadata.google.internal:80", "10.0.0.1", "10.0.0.1:80/x"])
def test_the_server_accepts_only_ip_addresses_in_a_status(api: Api, tenants: dict[str, Cluster], address: str) -> None:
    path = f"{LOBBIES.format(namespace=tenants[NORTH].namespace)}/prices/status"
    with pytest.raises(ApiError, match=r"status\.open\[0\]\.address"):
        api.merge(path, {"status": {"open": [{"name": "prices-1", "address": address}]}})
