"""An origin's credentials come from a Secret: lobbies use them, follow a rotation, and leak them nowhere."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.cluster.support import vault
from tests.cluster.support.cluster import NAME, Cluster, name_of
from tests.cluster.support.commands import kubectl
from tests.cluster.support.crowd import Crowd
from tests.cluster.support.figures import FIGURES
from tests.cluster.support.release import Release
from tests.cluster.support.resources import ORIGIN_PORT, lobby, origin_pod, origin_url, service
from tests.cluster.support.waiting import eventually

CLIENTS = 20
VAULT = "vault"
SECRET = "vault-credentials"
WRONG = "wrong-credentials"
MOUNTED = "/etc/lobby/secrets/LOBBY_SECRET_VAULT_CREDENTIALS_AUTHORIZATION"
TOKEN_KEYS = ("lobby-gateway-token-key", "lobby-gateway-lobby-token-key")


def digest(secret: str) -> str:
    """The name by which the origin reports a credential."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_resource(name: str, value: str) -> dict[str, Any]:
    """The Secret of the origin's credentials."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"authorization": value}}


def lobby_with_secret(name: str, secret: str, cluster: Cluster, **spec: Any) -> dict[str, Any]:
    """A Lobby whose origin needs the secret, in a header and in the query."""
    reference = {"valueFrom": {"secretKeyRef": {"name": secret, "key": "authorization"}}}
    return lobby(
        name,
        origin_url(VAULT, cluster.namespace),
        origin_headers=[{"name": "Authorization", **reference}],
        origin_query=[{"name": "key", **reference}],
        **spec,
    )


def start_vault(cluster: Cluster, image: str, *accepted: str) -> None:
    """The origin, as a pod."""
    source = Path(vault.__file__).read_text()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": VAULT}, "data": {"vault.py": source}}
    env = [{"name": "VAULT_ACCEPTS", "value": ",".join(digest(each) for each in accepted)}]
    pod = origin_pod(VAULT, image, cluster.kept_node(), ["python", "/files/vault.py"], files=VAULT, env=env)
    cluster.apply(config, pod, service(VAULT))
    kubectl("wait", "--for=condition=Ready", f"pod/{VAULT}", "-n", cluster.namespace, "--timeout=60s", deadline=70)


def everything_told(cluster: Cluster) -> dict[str, str]:
    """Everything that is visible outside the lobbies, by name."""
    namespace = cluster.namespace
    told = {
        kind: kubectl("get", kind, "-n", namespace, "-o", "json", "--show-managed-fields")
        for kind in ("lobbies", "pods", "configmaps", "events", "poddisruptionbudgets", "leases.coordination.k8s.io")
    }
    for pod in cluster.labeled(NAME):
        name = name_of(pod)
        told[f"log of {name}"] = kubectl("logs", name, "-n", namespace)
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        paths = {
            "lobby": ["/metrics", "/seats"],
            "greeter": ["/metrics", "/waiting"],
            "operator": ["/metrics", "/lobbies"],
        }
        for path in paths.get(component, []):
            told[f"{path} of {name}"] = cluster.api.from_pod(namespace, name, path).decode()
    return told


def disguises(secret: str) -> list[str]:
    """Forms that a secret may have in a text."""
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return [secret, encoded, quote(secret), json.dumps(secret)[1:-1], secret.encode().hex()]


def mounted(cluster: Cluster, pod: str) -> str:
    """Digest of the credentials that a lobby has mounted now."""
    code = f"import pathlib; print(pathlib.Path('{MOUNTED}').read_text(), end='')"
    return digest(kubectl("exec", pod, "-n", cluster.namespace, "--", "python", "-c", code))


def keys_of_tokens(cluster: Cluster) -> list[str]:
    """The master key, and the key of the namespace."""
    secrets = (cluster.api.get(f"/api/v1/namespaces/{cluster.namespace}/secrets/{each}") for each in TOKEN_KEYS)
    return [base64.b64decode(secret["data"]["key"]).decode().strip() for secret in secrets]


def test_a_rotation_disturbs_no_client_and_nothing_leaks(installed: Release, cluster: Cluster) -> None:
    old, new, wrong = (f"Bearer {kind}/{secrets.token_hex(16)}" for kind in ("old", "new", "wrong"))
    start_vault(cluster, installed.images.lobby, old, new)

    def vault_says(path: str) -> bytes:
        return cluster.api.from_pod(cluster.namespace, VAULT, path, port=ORIGIN_PORT)

    def seen_by_origin() -> dict[str, int]:
        counts: dict[str, int] = json.loads(vault_says("/seen"))
        return counts

    try:
        cluster.apply(secret_resource(SECRET, old), secret_resource(WRONG, wrong))
        with (
            cluster.lobby(lobby_with_secret("secret", SECRET, cluster)) as name,
            cluster.lobby(lobby_with_secret("refused", WRONG, cluster, replicas=1, origin_connect="Always")) as refused,
            Crowd(installed.url("/secret")) as crowd,
        ):
            cluster.until_ready(name, 1)
            crowd.connect(CLIENTS)
            crowd.each_gets(4)
            assert seen_by_origin().get(digest(old)) == 1
            (pod,) = cluster.ready_pods(name)

            # The kubelet updates a changed Secret within about a minute, and at once if the Lobby changes, too.
            crowd.mark()
            cluster.apply(secret_resource(SECRET, new))
            cluster.merge(name, spareSeats=65)
            eventually(
                lambda: mounted(cluster, name_of(pod)) == digest(new), deadline=120, every=1, what="it is mounted"
            )
            vault_says(f"/revoke/{digest(old)}")
            eventually(lambda: seen_by_origin().get(digest(new)), deadline=30, what=f"{seen_by_origin()}")
            crowd.each_gets(4)
            after = crowd.seen()
            assert after.open == CLIENTS, after
            assert [each["metadata"]["uid"] for each in cluster.ready_pods(name)] == [pod["metadata"]["uid"]]
            FIGURES.note(
                f"rotation of an origin's secret: {CLIENTS} clients, none closed, {after.missing} messages missing, "
                f"longest silence {after.longest_silence:.1f} s"
            )

            # A refusal by the origin is reported everywhere, but without the credentials.
            eventually(lambda: seen_by_origin().get(digest(wrong)), deadline=30, what="the wrong secret is used")
            cluster.until_condition(refused, "OriginConnected", "False")
            for what, text in everything_told(cluster).items():
                for secret in (old, new, wrong, *keys_of_tokens(cluster)):
                    for disguise in disguises(secret):
                        assert disguise not in text, f"{what} has a secret: {disguise}"
    finally:
        cluster.delete("pod,service,configmap", VAULT)
        cluster.delete("secret", SECRET, WRONG)
