"""Runs the Lobbies of a Kubernetes cluster (`python -m lobby_operator.kube`)."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

try:
    import kubernetes.aio  # noqa: F401  # the imports below need it; `lobby up` does not
except ModuleNotFoundError as missing:
    sys.exit(
        f"python -m lobby_operator.kube: {missing.name} is not installed; "
        "install lobby-gateway[operator] (in a checkout: make .venv/.dev)"
    )

from lobby_gateway.errors import UserError
from lobby_gateway.process import arguments, logs
from lobby_gateway.process.arguments import Accepted
from lobby_gateway.process.bind import ALL_ADDRESSES
from lobby_gateway.process.lifecycle import Shutdown, run
from lobby_gateway.process.limits import raise_descriptor_limit
from lobby_gateway.resource.schema import crd
from lobby_operator.kube.lease import LeaseLostError
from lobby_operator.kube.lobby_defaults import read_defaults, read_labels
from lobby_operator.kube.names import Resource
from lobby_operator.kube.policy import quantity
from lobby_operator.kube.process import serve
from lobby_operator.settings import (
    GREETER_SELECTOR,
    LEASE_NAME,
    MASTER_SECRET,
    ORIGIN_DENY_CIDRS,
    TOKEN_SECRET,
    AdmissionSettings,
    OperatorSettings,
    PodSettings,
    PolicySettings,
)

logger = logging.getLogger(__name__)

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Present in every pod that may call the API."""

LEASE_LOST = 3
"""Exit code of a process that lost the Lease; it should be restarted."""


def _text(pattern: str, problem: str, accepted: str) -> Accepted[str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(problem)
        return text

    return Accepted(read, accepted)


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ValueError("is not a file")
    return path


def parser() -> arguments.ArgumentParser:
    """The command line."""
    name, object_name = arguments.name, arguments.object_name
    image = _text(r"[^\s\x00-\x1f]+", "is not the name of an image", "a name such as registry/lobby:1.0")
    pair = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
    labels = _text(rf"{pair}(,{pair})*", "is not a label selector", "name=value pairs, separated by commas")
    clients_url = _text(
        r"wss?://[A-Za-z0-9.:_\[\]-]+", "is not where clients connect", "ws:// or wss://, a host, and optionally a port"
    )
    identity = _text(r"[!-~]{1,128}", "is not an identity", "up to 128 printable characters without spaces")
    command = arguments.ArgumentParser(
        prog="python -m lobby_operator.kube", description="Run the Lobbies of a Kubernetes cluster."
    )
    scope = command.add_mutually_exclusive_group()
    scope.add_argument("--namespace", type=name(), help="run the Lobbies of this namespace (this pod's own)")
    scope.add_argument("--all-namespaces", action="store_true", help="run the Lobbies of all namespaces")
    command.add_argument(
        "--lobby-namespace",
        type=name(),
        action="append",
        default=[],
        help="with --all-namespaces: a namespace that may have lobbies; may be repeated (all)",
    )
    command.add_argument(
        "--prefix-paths", action="store_true", help="serve Lobbies at /NAMESPACE/PATH; greeters need the same option"
    )
    command.add_argument(
        "--own-namespace", type=name(), help="namespace of the Lease and the greeters (this pod's own)"
    )
    command.add_argument("--lobby-image", type=image, required=True, help="image of lobbies")
    command.add_argument(
        "--lobby-image-pull-policy",
        choices=("Always", "IfNotPresent", "Never"),
        default="IfNotPresent",
        help="pull policy of that image (%(default)s)",
    )
    command.add_argument(
        "--lobby-image-pull-secret",
        type=object_name(),
        action="append",
        default=[],
        help="Secret with which to pull it; may be repeated",
    )
    command.add_argument(
        "--lobby-service-account", type=object_name(), help="service account of lobbies' pods; its token is not mounted"
    )
    command.add_argument(
        "--lobby-labels",
        type=Accepted(read_labels, "labels as a JSON object"),
        default={},
        metavar="JSON",
        help="labels of everything that the operator creates for Lobbies (none)",
    )
    command.add_argument(
        "--lobby-defaults",
        type=Accepted(read_defaults, "fields of spec.template, volumes and volumeMounts as a JSON object"),
        default={},
        metavar="JSON",
        help="what the pods of lobbies have unless spec.template of their Lobby says otherwise (nothing)",
    )
    command.add_argument(
        "--token-secret",
        type=object_name(),
        default=TOKEN_SECRET,
        help="Secret with the key of its namespace's tokens, in each namespace that has a Lobby (%(default)s)",
    )
    command.add_argument(
        "--token-key-file",
        type=Accepted(_file, "a file with at least 32 bytes in hex"),
        required=True,
        help="file with the master keys, from which the keys in those Secrets and of requests to lobbies are derived",
    )
    command.add_argument(
        "--master-secret",
        type=object_name(),
        default=MASTER_SECRET,
        help="Secret with the master keys, to which no Lobby may refer (%(default)s)",
    )
    command.add_argument(
        "--clients-url",
        type=clients_url,
        metavar="URL",
        help="where clients reach the greeters, ws:// or wss:// without a path; shown in status.url (none)",
    )
    command.add_argument(
        "--greeter-selector",
        type=labels,
        default=GREETER_SELECTOR,
        help="label selector of greeters' pods (%(default)s)",
    )
    command.add_argument("--lease-name", type=object_name(), default=LEASE_NAME, help="name of the Lease (%(default)s)")
    command.add_argument(
        "--identity",
        type=identity,
        help="identity of this operator, unique among replicas (in a pod: its name; elsewhere: random)",
    )
    _add_policy(command)
    _add_admission(command)
    command.add_argument(
        "--admin-host",
        type=arguments.address(),
        default=ALL_ADDRESSES,
        help="address of the admin port (%(default)s)",
    )
    command.add_argument(
        "--admin-port", type=arguments.port(), default=8001, help="port of probes, /metrics and /lobbies (%(default)s)"
    )
    arguments.add_admin_hosts(command)
    return command


def _add_policy(command: arguments.ArgumentParser) -> None:
    """What Lobbies may ask for: a list is separated by commas and replaces the default; the empty string allows nothing."""
    default = PolicySettings()
    group = command.add_argument_group("what Lobbies may ask for (docs/security.md)")
    key = r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?"
    names = _list(rf"\*|{key}(/?\*)?", "names, separated by commas; one may end in *, for any rest")
    for option, preset, what in (
        ("--allowed-env", default.env, "environment variables"),
        ("--allowed-labels", default.labels, "labels of pods"),
        ("--allowed-annotations", default.annotations, "annotations of pods"),
        ("--allowed-node-labels", default.node_labels, "labels in nodeSelector and nodeAffinity"),
        ("--allowed-tolerations", default.tolerations, "keys of taints to tolerate"),
        ("--allowed-priority-classes", default.priority_classes, "PriorityClasses"),
    ):
        preset_text = ",".join(preset)
        group.add_argument(
            option, type=names, default=preset, metavar="NAMES", help=f"{what} ({preset_text or 'none'})"
        )
    group.add_argument("--allow-pod-affinity", action="store_true", help="podAffinity and podAntiAffinity")
    group.add_argument(
        "--max-resources",
        type=Accepted(_quantities, "resource=quantity pairs, separated by commas"),
        default=default.max_resources,
        metavar="PAIRS",
        help="largest request and limit of a lobby "
        f"({','.join(f'{name}={most}' for name, most in default.max_resources.items())})",
    )
    group.add_argument(
        "--max-replicas",
        type=arguments.integer(1, 10_000),
        default=default.max_replicas,
        help="largest maxReplicas (%(default)s)",
    )
    group.add_argument(
        "--max-lobbies",
        type=arguments.integer(1, 1_000_000),
        default=default.max_lobbies,
        help="most lobbies in a namespace, of all its Lobbies (%(default)s)",
    )
    group.add_argument(
        "--origin-deny-cidrs",
        type=arguments.networks(),
        metavar="NETWORKS",
        help=f"networks that no origin may be in ({','.join(ORIGIN_DENY_CIDRS)}); unless empty, the address of the API "
        "server's Service is added",
    )


def _add_admission(command: arguments.ArgumentParser) -> None:
    default = AdmissionSettings()
    group = command.add_argument_group("checks of Lobbies before they are stored (docs/security.md)")
    group.add_argument(
        "--admission-service",
        type=arguments.name(),
        metavar="NAME",
        help="Service in this namespace under which the API server asks (none: nothing is checked)",
    )
    group.add_argument(
        "--admission-secret",
        type=arguments.object_name(),
        metavar="NAME",
        help="Secret with the certificate (the name of the Service)",
    )
    group.add_argument(
        "--admission-configuration",
        type=arguments.object_name(),
        metavar="NAME",
        help="ValidatingWebhookConfiguration to which the CA is written (none: cert-manager makes the certificate)",
    )
    group.add_argument(
        "--admission-port",
        type=arguments.port(free=False),
        default=default.port,
        help="port on which the API server asks (%(default)s)",
    )


def _list(pattern: str, accepted: str) -> Accepted[tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        found = tuple(text.split(",")) if text else ()
        for each in found:
            if not re.fullmatch(pattern, each):
                raise ValueError(f"contains {each!r}, which is not a name")
        return found

    return Accepted(read, accepted)


def _quantities(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split(",")] if text else []
    for name, _, most in pairs:
        if name not in ("cpu", "memory", "ephemeral-storage"):
            raise ValueError(f"contains {name!r}, which is not cpu, memory or ephemeral-storage")
        try:
            quantity(most)
        except ValueError as error:
            raise ValueError(f"contains {most!r}, which is not a quantity") from error
    return {name: most for name, _, most in pairs}


def _denied(given: Sequence[object] | None) -> tuple[str, ...]:
    """The networks that no origin may be in, with the API server; empty if the option was."""
    networks = ORIGIN_DENY_CIDRS if given is None else tuple(map(str, given))
    try:
        server = str(ipaddress.ip_network(os.environ.get("KUBERNETES_SERVICE_HOST", "")))
    except ValueError:  # not in a pod, or the cluster gives its API server a public name
        return networks
    return tuple(dict.fromkeys([*networks, server])) if networks else ()


def settings_of(options: argparse.Namespace) -> OperatorSettings:
    """The settings of a command line.

    Raises:
        UserError: its options conflict.
    """
    if options.lobby_namespace and not options.all_namespaces:
        raise UserError(
            "--lobby-namespace: can't be used without --all-namespaces; accepted: both, or --namespace NAME alone"
        )
    if options.token_secret == options.master_secret:
        raise UserError(
            f"--token-secret: {options.token_secret} is also the --master-secret; accepted: another name, since the operator "
            "overwrites this Secret"
        )
    pod_namespace = _pod_namespace()
    own = options.own_namespace or pod_namespace or options.namespace or "default"
    return OperatorSettings(
        pods=PodSettings(
            image=options.lobby_image,
            token_secret=options.token_secret,
            image_pull_policy=options.lobby_image_pull_policy,
            image_pull_secrets=tuple(options.lobby_image_pull_secret),
            service_account=options.lobby_service_account or "",
            labels=options.lobby_labels,
            defaults=options.lobby_defaults,
            origin_deny_cidrs=_denied(options.origin_deny_cidrs),
        ),
        policy=PolicySettings(
            max_replicas=options.max_replicas,
            max_lobbies=options.max_lobbies,
            env=options.allowed_env,
            labels=options.allowed_labels,
            annotations=options.allowed_annotations,
            node_labels=options.allowed_node_labels,
            tolerations=options.allowed_tolerations,
            priority_classes=options.allowed_priority_classes,
            pod_affinity=options.allow_pod_affinity,
            max_resources=options.max_resources,
        ),
        admission=AdmissionSettings(
            service=options.admission_service or "",
            secret=options.admission_secret or options.admission_service or "",
            configuration=options.admission_configuration or "",
            port=options.admission_port,
        ),
        namespace="" if options.all_namespaces else options.namespace or own,
        own_namespace=own,
        identity=options.identity or _identity(in_pod=bool(pod_namespace)),
        greeter_selector=options.greeter_selector,
        lobby_namespaces=tuple(dict.fromkeys(options.lobby_namespace)),
        prefix_paths=options.prefix_paths,
        clients_url=options.clients_url or "",
        token_key_file=options.token_key_file,
        master_secret=options.master_secret,
        admin_host=options.admin_host,
        admin_port=options.admin_port,
        admin_hosts=options.admin_hosts,
        lease_name=options.lease_name,
    )


def _identity(*, in_pod: bool) -> str:
    """In a pod, its name, which is the host name. Elsewhere one machine may run several operators, so random."""
    return socket.gethostname() if in_pod else f"{socket.gethostname()}-{secrets.token_hex(4)}"


def _pod_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return os.environ.get("POD_NAMESPACE", "")


def main(argv: Sequence[str] | None = None, *, before: Callable[[str, Resource], None] = lambda *_: None) -> int:
    """Runs an operator; returns the exit code.

    Args:
        argv: the command line.
        before: see `process.serve`.
    """
    options = parser().parse_args(argv)
    logs.configure("operator")
    raise_descriptor_limit()  # one connection to each lobby
    crd()  # reads its file now, before there is an event loop that this would block
    try:
        settings = settings_of(options)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2

    async def operate(stopping: Shutdown) -> None:
        await serve(settings, stopping, before=before)

    try:
        return run(operate)
    except LeaseLostError as error:
        logger.error("lost the Lease; exiting", extra={"problem": str(error)})  # noqa: TRY400  # no bug, no traceback
        return LEASE_LOST
