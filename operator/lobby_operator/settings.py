"""Settings of the operator that no Lobby sets: one dataclass per concern, each field with its unit and a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEASE_NAME = "lobby-operator"

TOKEN_SECRET = "lobby-gateway-token-key"  # noqa: S105  # its name, not its content

GREETER_SELECTOR = "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=greeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Times and limits of the planner that no Lobby sets.

    Attributes:
        unresponsive_seconds: a lobby that has not answered for this long is given up. It takes no new clients from the
            first missed answer on, so this may be patient: a machine under load, or a process that is stopped and
            continued, recovers.
        start_seconds: a lobby that has not answered this long after its creation is unresponsive. Pulling an image takes
            time.
        recovery_seconds: how long a lobby must answer after an outage before it takes clients again; doubles with each
            outage that soon follows. Long enough to rule out a single lucky answer.
        max_recovery_seconds: longest recovery: a minute, so that a lobby that works again is not wasted.
        flap_seconds: an outage within this time after the one before counts as soon.
        min_ready_seconds: a lobby that ends sooner after its first answer counts as a failed start: a bad image or
            configuration usually shows within seconds.
        min_backoff_seconds: wait after the second failed start in a row (the first is retried at once); doubles with each
            more.
        max_backoff_seconds: longest such wait: a cure is noticed within a minute.
        max_starting: most lobbies that start at a time; more would only slow each other down.
        move_share: share of all clients that one batch of drains moves at most (or one full lobby, if that is more), so
            that greeters do not have to move everyone at once.
        unreachable_seconds: free seats of a lobby that has not answered for this long do not count while clients wait,
            even if the platform says that it is well. By then more than one answer is missing, and greeters have noticed,
            too.
        greeter_report_seconds: how long the latest report of a greeter that no longer answers still counts: it may merely
            be busy. After that its clients have reconnected through another.
    """

    unresponsive_seconds: float = 10.0
    start_seconds: float = 60.0
    recovery_seconds: float = 2.0
    max_recovery_seconds: float = 60.0
    flap_seconds: float = 120.0
    min_ready_seconds: float = 5.0
    min_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 60.0
    max_starting: int = 16
    move_share: float = 0.1
    unreachable_seconds: float = 2.0
    greeter_report_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSettings:
    """How this process polls lobbies and greeters.

    Attributes:
        timeout_seconds: how long to wait for an answer. One takes a millisecond on the same machine; a process that needs a
            second serves nobody well.
        interval_seconds: between two polls of a process while nothing changes: a lost lobby shows within a second or two.
        fast_interval_seconds: between two polls while something changes, and before the first answer.
        max_polls_per_second: of all pollers together; about a fifth of a core. With thousands of lobbies each is polled
            less often.
        max_first_polls_per_second: of processes that have not answered yet, in addition, so that a new one is noticed at
            once among thousands.
        max_concurrent: most polls in flight. A starting operator has thousands to make, and none may time out merely
            because this process is busy.
    """

    timeout_seconds: float = 1.0
    interval_seconds: float = 1.0
    fast_interval_seconds: float = 0.2
    max_polls_per_second: float = 400.0
    max_first_polls_per_second: float = 200.0
    max_concurrent: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """When a Lobby is reconciled, and how failures are retried.

    Attributes:
        min_interval_seconds: pause after each pass: reports of many lobbies arrive at the same time, and one pass serves
            all.
        max_interval_seconds: longest time between two passes, so that whatever was missed is found.
        min_retry_seconds: wait before the first retry of a failed pass or action; each further wait is twice as long.
        max_retry_seconds: longest wait before a retry.
        max_concurrent_actions: most actions in flight. One that calls a lobby may wait seconds for the answer.
        expected_seconds: how long a created or deleted lobby is expected to show in the list; then the action is planned
            again. A watch that lags more is broken.
        drain_expected_seconds: the same for a drain, which the lobby reports at the next poll; draining twice does no harm.
        active_seconds: how long after the last change lobbies and greeters are still polled at the fast interval.
    """

    min_interval_seconds: float = 0.05
    max_interval_seconds: float = 5.0
    min_retry_seconds: float = 0.2
    max_retry_seconds: float = 10.0
    max_concurrent_actions: int = 16
    expected_seconds: float = 30.0
    drain_expected_seconds: float = 5.0
    active_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What all pods of lobbies have in common, whatever the Lobby.

    Attributes:
        image: image of the lobby process.
        token_secret: name of the Secret with the key that signs seat tokens, in the namespace of the Lobby.
        image_pull_policy: `IfNotPresent`, `Always` or `Never`; empty: the cluster's default.
        image_pull_secrets: names of Secrets.
        service_account: name of a service account without rights, whose token no pod mounts; empty: the namespace's
            `default`.
        requests: quantities by resource. A full lobby whose 512 clients read as fast as they can takes about 45 MiB.
        limits: quantities by resource. None on CPU, which would only make all clients of a lobby wait. 256 MiB is enough
            for an origin with large messages and slow clients; the lobby refuses clients before it comes near that.
        lobby_stop_seconds: seconds for which a terminating lobby still serves its clients while greeters find them other
            seats. Usually they are gone at once; where it was the only lobby, its successor has to start first (3 s on an
            idle node).
        grace_margin_seconds: seconds from then to SIGKILL. Closing the origin connection takes up to 10 s; the rest is for
            a busy node.
        max_avoided_nodes: most nodes that a pod's affinity names, so that a manifest stays small whatever happens.
    """

    image: str
    token_secret: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "64Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"memory": "256Mi"})
    lobby_stop_seconds: int = 15
    grace_margin_seconds: int = 15
    max_avoided_nodes: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Calls of the Kubernetes API.

    Attributes:
        request_seconds: deadline of one call, in seconds. The server answers in milliseconds; an admission webhook may
            take up to 10 s, but there is none for the objects that the operator writes.
    """

    request_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InformerSettings:
    """Lists and watches.

    Attributes:
        watch_seconds: seconds until a watch is restarted; a tenth of it is random, so that not all are restarted at once.
            Five minutes is what clients of Kubernetes commonly ask for.
        idle_seconds: a watch that receives nothing for this many seconds counts as lost. Servers send a bookmark about
            once a minute.
        page_size: objects per page of a list, which bounds the memory of an answer. 500 is what kubectl uses.
        min_backoff_seconds: upper bound of the first wait, in seconds, after a call failed; it doubles with each failure.
            Short, since most failures are a server that restarts.
        max_backoff_seconds: longest wait, in seconds: how late the operator may notice that the server is back.
    """

    watch_seconds: float = 300.0
    idle_seconds: float = 90.0
    page_size: int = 500
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Leader election; the three defaults are those of client-go.

    Attributes:
        duration_seconds: seconds without a renewal after which another process may take the Lease.
        deadline_seconds: seconds without a renewal after which the holder stops acting. What is left of the duration is for
            calls under way.
        renew_seconds: seconds between two renewals, and between two looks of a standby.
    """

    duration_seconds: int = 15
    deadline_seconds: float = 10.0
    renew_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Events about Lobbies.

    Attributes:
        gather_seconds: seconds for which events are collected before they are written, so that alike ones become one Event.
        series_seconds: seconds for which a repeated Event only increases the count of the first one. Well below the hour
            after which servers delete Events.
        burst: Events that one Lobby may have at once, so that a Lobby in trouble cannot flood the server.
        refill_seconds: seconds until a Lobby that used up its burst may have one more Event: four a minute.
    """

    gather_seconds: float = 1.0
    series_seconds: float = 300.0
    burst: int = 20
    refill_seconds: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWriterSettings:
    """Writes of `Lobby.status`.

    Attributes:
        min_interval_seconds: seconds between two writes of one status. Each goes to all greeters, and counts change all the
            time.
        conflict_seconds: seconds to wait for the watch after a conflict; after that the write is tried again with what is
            known.
        min_backoff_seconds: upper bound of the first wait, in seconds, after a write failed; it doubles with each failure.
            Short, since greeters learn of new lobbies from the status.
        max_backoff_seconds: longest wait, in seconds: how late greeters may learn of a lobby once the server is back.
    """

    min_interval_seconds: float = 1.0
    conflict_seconds: float = 1.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyControllerSettings:
    """What one Lobby needs besides its pods, and calls of its lobbies.

    Attributes:
        resync_seconds: seconds after which the ConfigMap and the token Secret are written again although nothing changed:
            someone may have edited or deleted them. Rare, since each Lobby costs one call.
        min_backoff_seconds: shortest wait, in seconds, after that failed; it doubles with each failure. Short, since no
            pod is created before.
        max_backoff_seconds: longest wait, in seconds: a quota or an admission rule is usually fixed by a person.
        drain_timeout_seconds: seconds within which a lobby must answer a request to drain. It answers in milliseconds; a
            lobby that hangs must not delay the others for long.
    """

    resync_seconds: float = 300.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 10.0
    drain_timeout_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMaintenanceSettings:
    """Annotations of pods, and the PodDisruptionBudget.

    Attributes:
        min_interval_seconds: seconds between two rounds, so that changes that come together are written together.
        max_interval_seconds: seconds after which there is a round although nothing changed: some of it depends on the time.
        retry_seconds: seconds until the next round after one that failed. Nobody waits for it.
        max_writes: most pods written in one round: a thousand lobbies that fill at once must not delay more urgent calls.
        evictable_after_seconds: seconds for which a lobby must have been empty before the cluster autoscaler may remove its
            node. A client that reconnects is back by then.
        rewrite_seconds: seconds within which the informer must show an annotation that was written; after that it is
            written again.
        lower_budget_seconds: seconds for which there must have been fewer lobbies before the budget is lowered. An evicted
            lobby is replaced within a few seconds.
        lobbies_per_eviction: one in this many lobbies may be evicted at a time. A tenth of the clients find room elsewhere.
    """

    min_interval_seconds: float = 1.0
    max_interval_seconds: float = 15.0
    retry_seconds: float = 10.0
    max_writes: int = 50
    evictable_after_seconds: float = 30.0
    rewrite_seconds: float = 30.0
    lower_budget_seconds: float = 30.0
    lobbies_per_eviction: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """An operator on Kubernetes.

    Attributes:
        pods: how pods of lobbies are made.
        namespace: namespace whose Lobbies are reconciled; empty: all namespaces.
        own_namespace: namespace of the Lease and of the greeters.
        identity: identity of this process as a candidate for the Lease; unique among those running. A pod's name will do: a
            container that restarts in the same pod resumes at once.
        greeter_selector: label selector of greeters' pods; by default the labels that the chart sets.
        token_key_file: with `namespace` empty, the file with the key of seat tokens, which is copied as a Secret to each
            namespace that has a Lobby; None: the Secret is provided by someone else.
        admin_host: address of the admin port. All addresses: probes, Prometheus and people connect from elsewhere.
        admin_port: admin port, the same in all our processes; 0: any free port.
        lease_name: name of the Lease by which replicas agree on which of them acts.
        stop_seconds: seconds for an orderly stop; then the process ends anyway. Well below the 30 s after which Kubernetes
            kills it.
        lobby_admin_port: admin port of lobbies and greeters.
        polling: polls of lobbies and greeters.
        planner: times and limits of the planner.
        reconcile: when Lobbies are reconciled, and how failures are retried.
        api: calls of the API.
        informer: lists and watches.
        lease: leader election.
        events: Events.
        status: writes of the status.
        controller: what a Lobby needs besides its pods.
        maintenance: annotations of pods, and the PodDisruptionBudget.
    """

    pods: PodSettings
    namespace: str
    own_namespace: str
    identity: str
    greeter_selector: str = GREETER_SELECTOR
    token_key_file: Path | None = None
    admin_host: str = "0.0.0.0"  # noqa: S104  # see above
    admin_port: int = 8001
    lease_name: str = LEASE_NAME
    stop_seconds: float = 10.0
    lobby_admin_port: int = 8001
    polling: PollSettings = field(default_factory=PollSettings)
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    informer: InformerSettings = field(default_factory=InformerSettings)
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    events: EventSettings = field(default_factory=EventSettings)
    status: StatusWriterSettings = field(default_factory=StatusWriterSettings)
    controller: LobbyControllerSettings = field(default_factory=LobbyControllerSettings)
    maintenance: PodMaintenanceSettings = field(default_factory=PodMaintenanceSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModeSettings:
    """Local mode (`lobby up`).

    Attributes:
        listen_seconds: time for a child process to announce its ports; then its start has failed. It takes 0.2 s on an idle
            machine, and longer when many start at once.
        lobby_kill_seconds: time from SIGTERM to SIGKILL for a lobby: more than it needs to close its clients in turn and
            then its origin connection.
        greeter_kill_seconds: the same for a greeter whose sibling failed to start; no client is connected yet.
        exit_seconds: time for greeters to close their clients when `lobby up` ends, and again for lobbies; what is left is
            killed. A person is waiting.
        drain_timeout_seconds: time for a lobby to answer a drain request. On one machine an answer takes a millisecond.
        min_restart_seconds: pause before a greeter that exited is restarted; doubles with each further failure.
        max_restart_seconds: the longest such pause, so that clients get in soon after the cause is gone.
        greeter_stable_seconds: a greeter that ran this long starts over with the shortest pause.
        demo_restart_seconds: pause before the demo's origin is restarted. A ticker has no reason to exit; a person killed
            it.
        directory_seconds: least time between two directories sent to greeters. The counts of many lobbies change together.
        refresh_seconds: time between two updates of the live table: fluent for a reader, and cheap.
        rate_window_seconds: period over which message rates are averaged. A shorter one flickers with an origin that sends
            once a second.
        max_pending_lines: most lines kept for a terminal that is not being read; the oldest are dropped.
        terminal_close_seconds: time for the terminal to show the last lines. A terminal that is held (Ctrl-S) must not keep
            the process alive.
        seats_per_spare_seat: with `--seats`, one seat in this many is kept free. The resource's default of 64 spare seats
            suits 512 seats; it would start a dozen lobbies of 5 seats before the first client connects.
    """

    listen_seconds: float = 20.0
    lobby_kill_seconds: float = 10.0
    greeter_kill_seconds: float = 5.0
    exit_seconds: float = 5.0
    drain_timeout_seconds: float = 2.0
    min_restart_seconds: float = 0.1
    max_restart_seconds: float = 5.0
    greeter_stable_seconds: float = 10.0
    demo_restart_seconds: float = 1.0
    directory_seconds: float = 0.05
    refresh_seconds: float = 0.25
    rate_window_seconds: float = 5.0
    max_pending_lines: int = 1000
    terminal_close_seconds: float = 2.0
    seats_per_spare_seat: int = 8


LOCAL_MODE = LocalModeSettings()
"""The defaults, for arguments."""
