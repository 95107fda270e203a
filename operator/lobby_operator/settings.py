"""Settings of the operator that no Lobby sets: each field with unit, default and why. Of pods: `kube/pods.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lobby_operator.kube.election import LeaseSettings
from lobby_operator.kube.informer import InformerSettings
from lobby_operator.kube.names import APP, COMPONENT_LABEL, GREETER_COMPONENT, NAME_LABEL
from lobby_operator.kube.pods import PodSettings

LEASE_NAME = "lobby-operator"

TOKEN_SECRET = "lobby-gateway-token-key"  # noqa: S105  # its name, not what is in it

GREETER_SELECTOR = f"{NAME_LABEL}={APP},{COMPONENT_LABEL}={GREETER_COMPONENT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """An operator.

    Attributes:
        pods: how pods of lobbies are made.
        namespace: whose Lobbies are looked after; empty: those of all namespaces.
        own_namespace: of the Lease and of the greeters.
        identity: of this process among the operators; no other that runs has the same. A pod's name is fit for it: a
            container that is started again in the same pod goes on at once.
        greeter_selector: labels of greeters' pods.
        token_key_file: with `namespace` empty, the file with the key of seat tokens, which gets into each namespace that has a
            Lobby; None: somebody else takes it there.
        admin_host: address of the admin port.
        admin_port: the port; 0: a free one.
        lease_name: of the Lease by which operators agree on who acts.
        lease: its times.
        informer: times of lists and watches.
        stop_seconds: how long an orderly stop may take; then it ends all the same.
        lobby_admin_port: of lobbies and greeters.
    """

    pods: PodSettings
    namespace: str
    own_namespace: str
    identity: str
    greeter_selector: str = GREETER_SELECTOR
    token_key_file: Path | None = None
    admin_host: str = "0.0.0.0"  # noqa: S104  # probes, Prometheus and people come from elsewhere
    admin_port: int = 8001
    lease_name: str = LEASE_NAME
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    informer: InformerSettings = field(default_factory=InformerSettings)
    stop_seconds: float = 10.0
    lobby_admin_port: int = 8001
