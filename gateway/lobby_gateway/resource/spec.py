"""A Lobby resource as frozen dataclasses.

The fields are those of `crds/lobbies.yaml` in snake case; see `docs/reference.md`. They have no defaults here: `schema.py`
validates and defaults a resource. That is a separate module so that a lobby, which reads a validated file, stays small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource.from_json import build


class ConnectMode(StrEnum):
    """When a lobby connects to the origin."""

    ON_DEMAND = "OnDemand"
    ALWAYS = "Always"


class Early(StrEnum):
    """What happens to messages that arrive during `onConnect` and that no step waits for."""

    DROP = "Drop"
    FORWARD = "Forward"


class Decode(StrEnum):
    """How binary messages of an origin are compressed."""

    NONE = "None"
    GZIP = "Gzip"
    ZLIB = "Zlib"
    DEFLATE = "Deflate"


class Jitter(StrEnum):
    """How much of the wait before an attempt to connect is random."""

    FULL = "Full"
    HALF = "Half"
    NONE = "None"

    @property
    def share(self) -> float:
        """The random share of the wait."""
        return {Jitter.FULL: 1.0, Jitter.HALF: 0.5, Jitter.NONE: 0.0}[self]


class Overflow(StrEnum):
    """What happens when a message may no longer wait for a client."""

    DROP_OLDEST = "DropOldest"
    DISCONNECT = "Disconnect"


class ClientMessages(StrEnum):
    """What happens to messages from clients."""

    IGNORE = "Ignore"
    FORWARD = "Forward"
    REJECT = "Reject"


class Compression(StrEnum):
    """Whether messages to clients are compressed."""

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
        name: name of the Secret.
        key: key in the Secret.
    """

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """A Secret whose keys have fixed names.

    Attributes:
        name: name of the Secret.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFrom:
    """The source of a value.

    Attributes:
        secret_key_ref: the key that holds it.
    """

    secret_key_ref: SecretKeyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedValue:
    """A header or query parameter; exactly one of `value` and `value_from` is set.

    Attributes:
        name: name of the header or parameter.
        value: the value itself; may be a secret, so `repr` omits it.
        value_from: the source of the value.
    """

    name: str
    value: str | None = field(repr=False)
    value_from: ValueFrom | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVariable:
    """A secret that `send` texts refer to as `$(name)`.

    Attributes:
        name: the name in `$(name)`.
        secret_key_ref: the key that holds it.
    """

    name: str
    secret_key_ref: SecretKeyRef


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSpec:
    """TLS settings of a `wss://` origin.

    Attributes:
        server_name: server name to request (SNI) and verify; None: the host of the URL.
        ca_secret_ref: CA certificates to verify with; None: those of the system.
        client_cert_secret_ref: Secret with `tls.crt` and `tls.key`; None: no client certificate.
        insecure_skip_verify: whether any certificate is accepted.
    """

    server_name: str | None
    ca_secret_ref: SecretKeyRef | None
    client_cert_secret_ref: SecretRef | None
    insecure_skip_verify: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySpec:
    """An HTTP proxy on the way to the origin, and of its HTTP calls.

    Attributes:
        url: its `http://` URL.
        credentials_secret_ref: the key that holds `user:password`; None: it needs none.
    """

    url: str
    credentials_secret_ref: SecretKeyRef | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectSpec:
    """Waits for a message that matches.

    Attributes:
        json: the JSON value expected at each JSON pointer (RFC 6901); empty: any message matches.
        contains: text that the message must contain; None: any.
        when: an expression that must hold; None: none.
        save: expressions for values to save of it, by name; None: none.
        keep: name under which it is kept for clients that join; None: it is not.
        early: what happens to messages that arrive meanwhile and no step waits for.
        timeout_seconds: how long to wait, in seconds.
    """

    json: Mapping[str, Any]
    contains: str | None
    when: str | None
    save: Mapping[str, str] | None
    keep: str | None
    early: Early
    timeout_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEndSpec:
    """Answers to an HTTP call that end the attempt, whatever their status.

    Attributes:
        when: an expression that holds for them.
        reason: an expression for why; None: the status.
        refused: whether trying again soon is pointless.
    """

    when: str
    reason: str | None
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSpec:
    """An HTTP call.

    Attributes:
        method: HTTP method.
        url: `http://` or `https://` URL, with `$(…)` not evaluated.
        headers: headers of the request.
        query: parameters added to the URL.
        body: the body, with `$(…)` not evaluated; None: none. It may contain a secret, so `repr` omits it.
        status: statuses of success.
        timeout_seconds: most seconds for the whole call.
        save: expressions for values to save of the answer, by name; None: none.
        end: answers that end the attempt; None: only those with another status.
    """

    method: str
    url: str
    headers: tuple[NamedValue, ...]
    query: tuple[NamedValue, ...]
    body: str | None = field(repr=False)
    status: tuple[int, ...]
    timeout_seconds: int
    save: Mapping[str, str] | None
    end: HttpEndSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeConnectStep:
    """One step before each attempt to connect.

    Attributes:
        http: an HTTP call.
    """

    http: HttpSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSpec:
    """A pause; exactly one of `seconds` and `seconds_from` is set.

    Attributes:
        seconds: how long.
        seconds_from: an expression for it.
        early: what happens to messages that arrive meanwhile.
    """

    seconds: int | None
    seconds_from: str | None
    early: Early


@dataclass(frozen=True, slots=True, kw_only=True)
class OnConnectStep:
    """One step on a new origin connection; exactly one is set.

    Attributes:
        send: a text to send, with `$(NAME)` not expanded; may contain a secret, so `repr` omits it.
        send_bytes: an expression for a binary message to send; may contain a secret, so `repr` omits it.
        expect: a message to wait for.
        wait: a pause.
        http: an HTTP call.
    """

    send: str | None = field(repr=False)
    send_bytes: str | None = field(repr=False)
    expect: ExpectSpec | None
    wait: WaitSpec | None
    http: HttpSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSpec:
    """A message that ends the origin's connection.

    Attributes:
        reason: an expression for why; None: the message itself.
        refused: whether trying again soon is pointless.
    """

    reason: str | None
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """What to do with messages of the origin that match; at least one of `contains` and `when` is set.

    Attributes:
        contains: text that the message must contain; None: any message.
        when: an expression that must hold; None: none.
        send: a text to send to the origin, with `$(…)` not evaluated; may contain a secret, so `repr` omits it.
        send_bytes: an expression for a binary message to send, likewise; at most one of the two is set.
        save: expressions for values to save of it, by name; None: none.
        keep: name under which it is kept for clients that join; None: it is not.
        forward: whether the message goes to the clients.
        renew: whether the connection is renewed, as `RenewSpec` says.
        end: ends the connection; None: it does not.
    """

    contains: str | None
    when: str | None
    send: str | None = field(repr=False)
    send_bytes: str | None = field(repr=False)
    save: Mapping[str, str] | None
    keep: str | None
    forward: bool
    renew: bool
    end: EndSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCodesSpec:
    """What the origin's close codes mean.

    Attributes:
        refused: codes after which trying again soon is pointless, beside 3000 and 3003.
    """

    refused: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedSpec:
    """A message to the origin, again and again; exactly one of `send` and `send_bytes` is set.

    Attributes:
        seconds: the interval; None: `seconds_from` is set.
        seconds_from: an expression for it.
        send: a text, with `$(…)` not evaluated; may contain a secret, so `repr` omits it.
        send_bytes: an expression for a binary message, likewise.
    """

    seconds: int | None
    seconds_from: str | None
    send: str | None = field(repr=False)
    send_bytes: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveSpec:
    """Pings to the origin.

    Attributes:
        ping_seconds: seconds between two pings; 0: no pings.
        timeout_seconds: seconds to wait for the pong.
    """

    ping_seconds: int
    timeout_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectSpec:
    """Back-off between attempts to connect: exponential with jitter.

    Attributes:
        min_milliseconds: upper bound of the first wait.
        max_milliseconds: upper bound of any wait.
        jitter: how much of each wait is random.
    """

    min_milliseconds: int
    max_milliseconds: int
    jitter: Jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectsSpec:
    """A limit of attempts to connect.

    Attributes:
        count: most attempts.
        seconds: within this time.
    """

    count: int
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginLimitsSpec:
    """What the origin allows all lobbies of the Lobby together.

    Attributes:
        connections: most connections at any moment, except during a renewal; 0: one for each lobby.
        connects: most attempts to connect within a time; None: no limit.
        sends_per_second: most messages a second to the origin on each connection; 0: no limit.
    """

    connections: int
    connects: ConnectsSpec | None
    sends_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewSpec:
    """Planned reconnects, before the origin's own limit.

    Attributes:
        every_seconds: seconds after which a connection is replaced; 0: never.
        overlap: whether the next connection is opened before the old one is closed.
    """

    every_seconds: int
    overlap: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSpec:
    """The upstream WebSocket server.

    Attributes:
        url: `ws://` or `wss://` URL.
        headers: headers of the handshake.
        query: parameters added to the URL.
        subprotocols: subprotocols to offer, preferred one first.
        tls: TLS settings of a `wss://` origin.
        proxy: the proxy on the way to it; None: that of the environment, if any.
        secrets: secrets that `send` texts refer to.
        decode: how binary messages are compressed; decoded, they are texts.
        split: what separates messages in a text; None: each text is one message.
        before_connect: steps before each attempt to connect.
        on_connect: steps on each new connection.
        on_message: rules for messages of the origin, the first match wins.
        every: messages to the origin at intervals.
        close_codes: what the origin's close codes mean.
        keepalive: pings to the origin.
        stale_seconds: seconds without a message after which the connection is closed; 0: never.
        reconnect: back-off between attempts to connect.
        connect: when to connect.
        limits: what the origin allows all lobbies together.
        renew: planned reconnects.
        max_message_bytes: largest message accepted, in bytes.
        identity: what makes two messages the same: `Content`, `None`, a JSON pointer or a CEL expression (see
            `trunk.identity`).
    """

    url: str
    headers: tuple[NamedValue, ...]
    query: tuple[NamedValue, ...]
    subprotocols: tuple[str, ...]
    tls: TlsSpec
    proxy: ProxySpec | None
    secrets: tuple[SecretVariable, ...]
    decode: Decode
    split: str | None
    before_connect: tuple[BeforeConnectStep, ...]
    on_connect: tuple[OnConnectStep, ...]
    on_message: tuple[RuleSpec, ...]
    every: tuple[TimedSpec, ...]
    close_codes: CloseCodesSpec
    keepalive: KeepaliveSpec
    stale_seconds: int
    reconnect: ReconnectSpec
    connect: ConnectMode
    limits: OriginLimitsSpec
    renew: RenewSpec
    max_message_bytes: int
    identity: str

    @property
    def keeps(self) -> tuple[str, ...]:
        """The names of messages that are kept for clients that join."""
        steps = [step.expect.keep for step in self.on_connect if step.expect is not None]
        rules = [rule.keep for rule in self.on_message]
        return tuple(dict.fromkeys(name for name in (*steps, *rules) if name))

    @property
    def stream_id(self) -> str:
        """A hash of what decides which stream the origin sends: lobbies with the same one can take each other's."""
        asked = {name: _set_fields(value) for name in _DECIDING if (value := getattr(self, name)) not in _EMPTY}
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


_DECIDING = (
    "url", "headers", "query", "subprotocols", "decode", "split", "before_connect", "on_connect", "on_message", "identity",
)  # fmt: skip
_EMPTY = ("", None, (), "None")
"""A field that is empty does not count, so that a version that adds one agrees with those before it."""


def _set_fields(value: object) -> object:
    """A value as JSON types; of dataclasses only the fields that are not empty."""
    if isinstance(value, tuple):
        return [_set_fields(each) for each in value]
    if is_dataclass(value):
        values = ((each.name, getattr(value, each.name)) for each in fields(value))
        return {name: _set_fields(each) for name, each in values if each not in _EMPTY}
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """What waits for a client whose socket is full.

    Attributes:
        messages: the newest messages that always wait.
        milliseconds: how long others wait for a client that takes what its line can carry.
        bytes: most bytes that wait.
        overflow: what happens to messages that may no longer wait.
    """

    messages: int
    milliseconds: int
    bytes: int
    overflow: Overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSpec:
    """Limits on messages from clients to the origin.

    Attributes:
        messages_per_second_per_client: most from one client, on average; 0: no limit.
        messages_per_second: most from all clients of one lobby; 0: no limit.
    """

    messages_per_second_per_client: int
    messages_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSpec:
    """Limits on clients of one address.

    Attributes:
        connections_per_address: most connections at a time; 0: no limit.
        connects_per_second: most new connections per second, on average; 0: no limit.
    """

    connections_per_address: int
    connects_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsSpec:
    """How clients are served.

    Attributes:
        seats: most clients of one lobby.
        queue: what waits for a client whose socket is full.
        batch_milliseconds: how long messages are gathered to be sent together; 0: not at all.
        messages: what happens to messages from clients.
        forward: limits on those that go to the origin.
        replay: how many of the latest messages a joining client gets first.
        ping_seconds: seconds of silence after which a client is pinged; 0: never.
        compression: whether messages to clients are compressed.
        allowed_origins: accepted `Origin` headers, in addition to the greeter's own host.
        max_message_bytes: largest message accepted from a client, in bytes.
        limits: limits on clients of one address.
    """

    seats: int
    queue: QueueSpec
    batch_milliseconds: int
    messages: ClientMessages
    forward: ForwardSpec
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
        enabled: whether to compact.
        stabilization_seconds: seconds for which a lobby must have been worth draining.
    """

    enabled: bool
    stabilization_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectSpec:
    """Settings of `RoutingMode.REDIRECT`.

    Attributes:
        url_template: URL at which clients reach a lobby, with `{ip}` and `{port}`.
    """

    url_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSpec:
    """How clients get from the greeter to a lobby.

    Attributes:
        mode: whether clients are proxied or redirected.
        redirect: settings for redirected clients.
    """

    mode: RoutingMode
    redirect: RedirectSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbySpec:
    """The desired state of a Lobby.

    Attributes:
        path: path of the greeter's URL; `/<name>` if the resource has none.
        origin: the upstream server.
        clients: how clients are served.
        replicas: fewest lobbies.
        max_replicas: most lobbies.
        spare_seats: free seats to keep ready.
        placement: which open lobby a new client is sent to.
        compaction: whether and when nearly empty lobbies are drained.
        empty_seconds: seconds that an empty lobby is kept when it is not needed.
        drain_seconds: most seconds that draining a lobby may take.
        start_seconds: seconds that a lobby may take from the start of its process to its first answer.
        routing: how clients get to a lobby.
        wait_seconds: most seconds that a client waits at a greeter for a seat.
        template: additions to the pods of lobbies, unparsed: only the operator reads it.
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
    start_seconds: int
    routing: RoutingSpec
    wait_seconds: int
    template: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lobby:
    """A Lobby resource.

    Attributes:
        name: name, unique in its namespace.
        namespace: namespace; empty in local mode.
        uid: UID, assigned by Kubernetes; empty in local mode.
        generation: generation of the spec, counted by Kubernetes; 0 in local mode.
        spec: the desired state.
    """

    name: str
    namespace: str
    uid: str
    generation: int
    spec: LobbySpec

    @property
    def key(self) -> str:
        """Its unique key: `namespace/name`, or the name in local mode."""
        return lobby_key(self.namespace, self.name)


def lobby_key(namespace: str, name: str) -> str:
    """`Lobby.key` from a namespace (empty in local mode) and a name."""
    return f"{namespace}/{name}" if namespace else name


def with_namespace_in_path(lobby: Lobby) -> Lobby:
    """The Lobby at `/<namespace><path>`, where no Lobby of another namespace can be. Without a namespace: unchanged."""
    if not lobby.namespace:
        return lobby
    return replace(lobby, spec=replace(lobby.spec, path=f"/{lobby.namespace}{lobby.spec.path}"))


def lobby_from_resource(resource: Mapping[str, Any]) -> Lobby:
    """Builds a `Lobby` from a validated and defaulted resource; `status` and unknown fields are ignored.

    Raises:
        InvalidLobbyError: a field is missing or has the wrong type: the resource was not validated and defaulted.
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
