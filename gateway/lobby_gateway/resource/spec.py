"""A Lobby as frozen dataclasses: what every part of the product reads.

The fields are those of `crds/lobbies.yaml` in snake case; `docs/reference.md` says what each does. None has a default here:
`schema.py` has checked and defaulted the resource. It is apart, so that a lobby, whose file is checked, stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.from_json import build


class ConnectMode(StrEnum):
    """When a lobby connects to the origin."""

    ON_DEMAND = "OnDemand"
    ALWAYS = "Always"


class Overflow(StrEnum):
    """What happens when a slow client's mailbox is full."""

    DROP_OLDEST = "DropOldest"
    DISCONNECT = "Disconnect"


class ClientMessages(StrEnum):
    """What is done with messages from clients."""

    IGNORE = "Ignore"
    FORWARD = "Forward"
    REJECT = "Reject"


class Compression(StrEnum):
    """Whether messages to clients are deflated."""

    OFF = "Off"
    SHARED = "Shared"


class Placement(StrEnum):
    """Which open lobby a new client is sent to."""

    PACKED = "Packed"
    LATEST = "Latest"


class RoutingMode(StrEnum):
    """How clients get from the greeter to a lobby."""

    PROXY = "Proxy"
    REDIRECT = "Redirect"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """A key of a Secret.

    Attributes:
        name: of the Secret.
        key: in the Secret.
    """

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A whole Secret, whose keys have fixed names.

    Attributes:
        name: of the Secret.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFrom:
    """Where a value comes from.

    Attributes:
        secret_key_ref: the key that holds it.
    """

    secret_key_ref: SecretKeyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedValue:
    """A header or query parameter; exactly one of `value` and `value_from` is set.

    Attributes:
        name: of the header or parameter.
        value: the value itself; may be a secret, so it is not in `repr`.
        value_from: where the value comes from.
    """

    name: str
    value: str | None = field(repr=False)
    value_from: ValueFrom | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVariable:
    """A secret that `send` texts refer to as `$(name)`.

    Attributes:
        name: as in `$(name)`.
        secret_key_ref: the key that holds it.
    """

    name: str
    secret_key_ref: SecretKeyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec:
    """TLS settings of a `wss://` origin.

    Attributes:
        server_name: name asked for and verified; None for the URL's host.
        ca_secret_ref: certificates to verify by; None for the system's.
        client_cert_secret_ref: Secret with `tls.crt` and `tls.key`; None for no client certificate.
        insecure_skip_verify: any certificate is taken.
    """

    server_name: str | None
    ca_secret_ref: SecretKeyRef | None
    client_cert_secret_ref: SecretRef | None
    insecure_skip_verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSpec:
    """Waits for a message that fits.

    Attributes:
        json: JSON pointers (RFC 6901) and the JSON value that must stand there; empty: any message fits.
        timeout_seconds: how long to wait.
    """

    json: Mapping[str, Any]
    timeout_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnConnectStep:
    """One step on a new origin connection; exactly one of the two is set.

    Attributes:
        send: a text to send, with `$(NAME)` still in it; may hold a secret, so it is not in `repr`.
        expect: a message to wait for.
    """

    send: str | None = field(repr=False)
    expect: ExpectSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveSpec:
    """Pings to the origin.

    Attributes:
        ping_seconds: between two pings; 0 sends none.
        timeout_seconds: for the answer.
    """

    ping_seconds: int
    timeout_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectSpec:
    """Waits before the next try: exponential with full jitter.

    Attributes:
        min_milliseconds: upper end of the first wait.
        max_milliseconds: longest wait.
    """

    min_milliseconds: int
    max_milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSpec:
    """The upstream WebSocket server.

    Attributes:
        url: `ws://` or `wss://`.
        headers: of the handshake.
        query: parameters added to the URL.
        subprotocols: offered, the preferred one first.
        tls: of a `wss://` origin.
        secrets: that `send` texts refer to.
        on_connect: steps on each new connection.
        keepalive: pings.
        stale_seconds: without a message, then the connection ends; 0: never.
        reconnect: waits between tries.
        connect: when.
        max_message_bytes: largest message taken.
    """

    url: str
    headers: tuple[NamedValue, ...]
    query: tuple[NamedValue, ...]
    subprotocols: tuple[str, ...]
    tls: TlsSpec
    secrets: tuple[SecretVariable, ...]
    on_connect: tuple[OnConnectStep, ...]
    keepalive: KeepaliveSpec
    stale_seconds: int
    reconnect: ReconnectSpec
    connect: ConnectMode
    max_message_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """What is kept for a client that reads too slowly.

    Attributes:
        messages: the latest so many.
        overflow: what happens when there are more.
    """

    messages: int
    overflow: Overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSpec:
    """What one address may do.

    Attributes:
        connections_per_address: most connections from it at a time; 0: no limit.
        connects_per_second: new ones a second, on average; 0: no limit.
    """

    connections_per_address: int
    connects_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsSpec:
    """How clients are served.

    Attributes:
        seats: most clients of one lobby.
        queue: the mailbox of a slow client.
        messages: what is done with clients' messages.
        replay: so many of the latest messages go to a client that joins.
        ping_seconds: between two pings to a client; 0 sends none.
        compression: of messages to clients.
        allowed_origins: accepted `Origin` headers; empty: all.
        max_message_bytes: largest message taken from a client.
        limits: for one address.
    """

    seats: int
    queue: QueueSpec
    messages: ClientMessages
    replay: int
    ping_seconds: int
    compression: Compression
    allowed_origins: tuple[str, ...]
    max_message_bytes: int
    limits: LimitsSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSpec:
    """Moving the clients of nearly empty lobbies into fuller ones.

    Attributes:
        enabled: whether it is done.
        stabilization_seconds: how long a lobby must have been worth draining.
    """

    enabled: bool
    stabilization_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectSpec:
    """For `RoutingMode.REDIRECT`.

    Attributes:
        url_template: URL of a lobby as clients reach it, with `{ip}` and `{port}`.
    """

    url_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSpec:
    """How clients get from the greeter to a lobby.

    Attributes:
        mode: proxied or redirected.
        redirect: for the latter.
    """

    mode: RoutingMode
    redirect: RedirectSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbySpec:
    """What is wanted of a Lobby.

    Attributes:
        path: of the greeter's URL; where the resource has none, `/<name>`.
        origin: the upstream server.
        clients: how clients are served.
        replicas: fewest lobbies.
        max_replicas: most lobbies.
        spare_seats: seats kept free and ready.
        placement: which open lobby a new client is sent to.
        compaction: of nearly empty lobbies.
        empty_seconds: that an empty lobby which is not needed lives.
        drain_seconds: that a draining lobby may take.
        routing: how clients get to a lobby.
        wait_seconds: that a greeter holds a client for whom there is no seat yet.
        template: what is added to the pods of lobbies, as it stands in the resource: only the operator reads it.
    """

    path: str
    origin: OriginSpec
    clients: ClientsSpec
    replicas: int
    max_replicas: int
    spare_seats: int
    placement: Placement
    compaction: CompactionSpec
    empty_seconds: int
    drain_seconds: int
    routing: RoutingSpec
    wait_seconds: int
    template: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lobby:
    """A Lobby resource.

    Attributes:
        name: unique in its namespace.
        namespace: empty in local mode.
        uid: given by Kubernetes; empty in local mode.
        generation: of the spec, counted by Kubernetes; 0 in local mode.
        spec: what is wanted.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    spec: LobbySpec

    @property
    def key(self) -> str:
        """What tells it from all others: `namespace/name`, or its name in local mode."""
        return lobby_key(self.namespace, self.name)


def lobby_key(namespace: str, name: str) -> str:
    """`Lobby.key` of a name in a namespace, which is empty in local mode."""
    return f"{namespace}/{name}" if namespace else name


def lobby_from_resource(resource: Mapping[str, Any]) -> Lobby:
    """A `Lobby` from a checked and defaulted resource; `status` and unknown fields are passed over.

    Raises:
        InvalidLobbyError: a field is missing or of the wrong kind: the resource was not checked and defaulted.
    """
    try:
        metadata = resource["metadata"]
        name = str(metadata["name"])
        spec = resource["spec"]
        spec = {"path": f"/{name}", **spec}
        generation = int(metadata.get("generation", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidLobbyError(("Lobby: metadata.name and spec are required",)) from error
    return Lobby(
        name=name,
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata.get("uid", "")),
        generation=generation,
        spec=build(LobbySpec, spec, "spec"),
    )
