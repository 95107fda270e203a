"""Settings of the operator that no Lobby sets: each field with its unit, its default and the reason for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LEASE_NAME = "lobby-operator"

TOKEN_SECRET = "lobby-gateway-token-key"  # noqa: S105  # its name, not its content

GREETER_SELECTOR = "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=greeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Times (seconds) and limits of the planner that no Lobby sets.

    Attributes:
        silent_seconds: a lobby that does not answer for so long is given up. It takes no new clients from the first
            missed answer on, so this may be patient: a machine under load, a stopped and continued process.
        start_seconds: a lobby that has not answered so long after its creation is silent. Pulling an image takes time.
        settle_seconds: a lobby that answers again after a silence must do so for so long before it takes clients; twice
            as long with each silence that follows soon.
        max_settle_seconds: the most of that.
        flap_seconds: a silence within so long after the one before counts as following soon.
        steady_seconds: a lobby that ends sooner after its first answer has failed to start.
        min_backoff_seconds: after the second failed start in a row the next waits so long; twice as long with each more.
        max_backoff_seconds: the most of that.
        max_starting: most lobbies that start at a time; more would only slow each other down.
        move_share: a batch of drains moves at most this share of all clients (or one lobby full, if that is more), so that
            greeters are not asked to move everybody at once.
        unreachable_seconds: free seats of a lobby that has not answered for this long do not count while clients wait, even
            if the platform says it is well. More than one answer is missing then, and a greeter takes as long to notice that
            a lobby is gone.
        greeter_report_seconds: how long the latest report of a greeter that no longer answers still counts. It may merely be
            busy; after that its clients have reconnected through another.
    """

    silent_seconds: float = 10.0
    start_seconds: float = 60.0
    settle_seconds: float = 2.0
    max_settle_seconds: float = 60.0
    flap_seconds: float = 120.0
    steady_seconds: float = 5.0
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
        max_polls_per_second: of all pollers together; about a fifth of a core. With thousands of lobbies each is polled less
            often.
        max_first_polls_per_second: of processes that have not answered yet, in addition, so that a new one is noticed at once
            among thousands.
        max_concurrent: most polls in flight. A starting operator has thousands to make, and none may time out merely because
            this process is busy.
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
        min_interval_seconds: pause after each pass: reports of many lobbies arrive at the same time, and one pass serves all.
        max_interval_seconds: longest time between two passes, so that whatever was missed is found.
        min_retry_seconds: wait before the first retry of a failed pass or action; each further wait is twice as long.
        max_retry_seconds: longest wait before a retry.
        max_concurrent_actions: most actions in flight. One that calls a lobby may wait seconds for the answer.
        active_seconds: how long after the last change lobbies and greeters are still polled at the fast interval.
    """

    min_interval_seconds: float = 0.05
    max_interval_seconds: float = 5.0
    min_retry_seconds: float = 0.2
    max_retry_seconds: float = 10.0
    max_concurrent_actions: int = 16
    active_seconds: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What pods of lobbies have in common, whatever the Lobby.

    Attributes:
        image: of the lobby process.
        token_secret: name of the Secret with the key that signs seat tokens, in the namespace of the Lobby.
        image_pull_policy: `IfNotPresent`, `Always` or `Never`; empty: as the cluster has it.
        image_pull_secrets: names of Secrets.
        service_account: name of one without rights, whose token no pod gets; empty: the namespace's `default`.
        requests: quantities by resource. A full lobby with 512 clients that read as fast as they get takes about 45 MiB.
        limits: likewise. None on CPU: it would only make all clients of a lobby wait. 256 MiB bears an origin with large
            messages and slow clients; the lobby itself turns clients away before it comes near.
    """

    image: str
    token_secret: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "64Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"memory": "256Mi"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Times of the election.

    Attributes:
        duration_seconds: without a renewal for so long, another takes the Lease.
        deadline_seconds: without a renewal for so long, the holder acts no more. What is left of the duration is for calls
            that are under way.
        renew_seconds: between two renewals, and between two looks of those who wait.
    """

    duration_seconds: int = 15
    deadline_seconds: float = 10.0
    renew_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InformerSettings:
    """Times of an informer.

    Attributes:
        watch_seconds: after so long a watch is begun anew. A tenth of it is random, so that not all do so at once.
        idle_seconds: a watch on which nothing comes for so long is lost. A server sends a bookmark about once a minute.
        page: objects that are listed at a time: it bounds the memory that an answer takes.
        min_backoff_seconds: the first wait for a server that does not answer is at most so long, each further one twice as
            long.
        max_backoff_seconds: the longest wait.
    """

    watch_seconds: float = 300.0
    idle_seconds: float = 90.0
    page: int = 500
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0


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
        polling: how lobbies and greeters are polled.
        planner: times and limits of the planner.
        reconcile: when Lobbies are reconciled, and how failures are retried.
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
    polling: PollSettings = field(default_factory=PollSettings)
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    stop_seconds: float = 10.0
    lobby_admin_port: int = 8001


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModeSettings:
    """Local mode (`lobby up`).

    Attributes:
        listen_seconds: time for a child process to announce its ports; then its start has failed. It takes 0.2 s on an idle
            machine, and longer when many start at once.
        lobby_kill_seconds: time from SIGTERM to SIGKILL for a lobby: more than it needs to close its clients in turn and then
            its origin connection.
        greeter_kill_seconds: the same for a greeter whose sibling failed to start; no client is connected yet.
        exit_seconds: time for greeters to close their clients when `lobby up` ends, and again for lobbies; what is left is
            killed. A person is waiting.
        drain_timeout_seconds: time for a lobby to answer a drain request. On one machine an answer takes a millisecond.
        min_restart_seconds: pause before a greeter that exited is restarted; doubles with each further failure.
        max_restart_seconds: the longest such pause, so that clients get in soon after the cause is gone.
        greeter_stable_seconds: a greeter that ran this long starts over with the shortest pause.
        demo_restart_seconds: pause before the demo's origin is restarted. A ticker has no reason to exit; a person killed it.
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
