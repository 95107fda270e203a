"""Settings of the operator that are not part of a Lobby: one dataclass per concern; each field has a unit and a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEASE_NAME = "lobby-operator"

MASTER_SECRET = "lobby-gateway-token-key"  # noqa: S105  # its name, not its content

TOKEN_SECRET = "lobby-gateway-lobby-token-key"  # noqa: S105  # its name, not its content

GREETER_SELECTOR = "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=greeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Times (in seconds) and limits of the planner that are not part of a Lobby.

    Attributes:
        unresponsive_seconds: a lobby that has not answered for this long is deleted. It takes no new clients from the
            first missed poll on, so this can be generous: a process on an overloaded machine, or one that was stopped and
            continued, may recover.
        unheard_seconds: once a lobby that the platform considers healthy has not answered us for this long, the silence is
            named (`LobbiesUnreachable`). If it has never answered, one more lobby is created, in case this one is broken.
            Ten seconds are many polls, even on a busy machine.
        recovery_seconds: how long a lobby must answer after an outage before it takes clients again; doubles with each
            further outage within `flap_seconds`, except while clients wait whose lobby is gone. Two seconds are several
            polls, so one lucky answer is not enough.
        max_recovery_seconds: longest recovery. A minute, so that the seats of a healthy lobby are not wasted for longer.
        flap_seconds: an outage that ends within this time of the previous recovery makes the next recovery longer. Two
            minutes: outages further apart hardly have the same cause.
        min_ready_seconds: a lobby that ends sooner after its first answer counts as a failed start: a bad image or
            configuration usually shows within seconds.
        min_backoff_seconds: wait after the second failed start in a row; doubles with each further one. The first failure
            is retried at once: it may be chance.
        max_backoff_seconds: longest such wait, so that a fix takes effect within a minute.
        lost_backoff_share: while clients wait whose lobby is gone, the longest such wait as a share of the time after which
            they are closed (`SeatQueueSettings.lost_seconds`). With a twentieth (1.5 s), many starts may fail before that.
        lost_starting: while they wait, most lobbies that start at a time after a failed start (otherwise one), so that one
            more failure does not cost them another wait.
        lost_start_share: while clients wait whose lobby is gone, a lobby that has been starting for this share of the time
            after which they are closed no longer counts, and another is started: it may hang, or its node be broken. A
            quarter (7.5 s) is longer than a usual start, and leaves time for two more.
        max_starting: most lobbies that start at a time; more would only slow each other down.
        stream_memory_seconds: how long a lobby that lost its origin connection still counts as one that has the stream, which
            a rollout must not take from its clients. A minute covers the restart of an origin.
        rollout_stalled_seconds: once a new lobby has been ready for this long without a connection to its origin, the rollout
            is said to have stopped. Ten seconds are several attempts; it goes on all the same once the lobby is connected.
        held_stalled_seconds: a lobby that waits for a Secret, a volume or its image for this long is said to be stalled, at
            which tools such as Flux give up. A Secret that another operator writes comes within seconds, and a kubelet looks
            for it two minutes later at most.
        move_share: largest share of all clients that one batch of drains moves (or one full lobby, if that is more), so
            that greeters do not have to move everyone at once.
        unreachable_seconds: while clients wait, free seats of a lobby that has not answered for this long do not count,
            even if the platform reports it as healthy. By then it has missed more than one poll, and greeters have noticed
            too.
        greeter_report_seconds: how long the latest report of a greeter that no longer answers still counts, since it may
            merely be busy. After half a minute its clients have reconnected through another greeter.
    """

    unresponsive_seconds: float = 10.0
    unheard_seconds: float = 10.0
    recovery_seconds: float = 2.0
    max_recovery_seconds: float = 60.0
    flap_seconds: float = 120.0
    min_ready_seconds: float = 5.0
    min_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 60.0
    lost_backoff_share: float = 0.05
    lost_starting: int = 2
    lost_start_share: float = 0.25
    max_starting: int = 16
    stream_memory_seconds: float = 60.0
    rollout_stalled_seconds: float = 10.0
    held_stalled_seconds: float = 180.0
    move_share: float = 0.1
    unreachable_seconds: float = 2.0
    greeter_report_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSettings:
    """How this process polls lobbies and greeters. Times are in seconds.

    Attributes:
        timeout_seconds: how long to wait for an answer. On the same machine it takes a millisecond; a process that needs a
            second is not serving its clients well.
        interval_seconds: between two polls of a process while nothing changes: a lost lobby is noticed within two seconds.
        fast_interval_seconds: between two polls while something changes, and before the first answer. Short, because
            clients may be waiting for the result.
        max_polls_per_second: limit for all pollers together; 400 polls take about a fifth of a core. With thousands of
            lobbies, each is polled less often.
        max_first_polls_per_second: separate limit for processes that have not answered yet, so that a new one among
            thousands is noticed at once.
        max_concurrent: most polls in flight. An operator that starts has thousands to make, and none of them may time out
            merely because this process is busy.
    """

    timeout_seconds: float = 1.0
    interval_seconds: float = 1.0
    fast_interval_seconds: float = 0.2
    max_polls_per_second: float = 400.0
    max_first_polls_per_second: float = 200.0
    max_concurrent: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerListSettings:
    """What lobbies are told about each other.

    Attributes:
        max_peers: most peers that a lobby is told: with thousands of lobbies, lists of all would cost more than the streams.
        full_relays: a lobby that serves this many others counts as full; as `RelaySettings.max_relays` of the lobby.
        timeout_seconds: how long to wait for a lobby's answer.
        retry_seconds: how long to wait before a lobby that did not answer is told again.
        refused_seconds: while the origin refuses a lobby, all lobbies together try at most once within this time. Each lobby
            alone waits for at least a minute, but there may be many, and lobbies that are new.
        late_seconds: how much later than it was made an attempt may reach the origin, which counts from then: names are looked
            up, and TLS has its round trips. Times of limits are longer by this.
    """

    max_peers: int = 16
    full_relays: int = 32
    timeout_seconds: float = 2.0
    retry_seconds: float = 1.0
    refused_seconds: float = 30.0
    late_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """When a Lobby is reconciled, and how failures are retried. Times are in seconds.

    Attributes:
        min_interval_seconds: pause after each pass: reports of many lobbies arrive at about the same time, and one pass
            handles them all.
        max_planning_share: largest share of the time that observing and planning may take. With thousands of lobbies a pass
            takes 50 ms, and polls, calls and other Lobbies need the same core.
        max_pause_seconds: longest pause for that reason: a pass may have been slow because the whole machine was.
        max_interval_seconds: longest time between two passes, in case a change was missed.
        min_backoff_seconds: wait before the first retry of a failed pass or action; each further wait is twice as long.
            Short, since most failures are brief.
        max_backoff_seconds: longest wait before a retry: how late the operator may notice that the cause is gone.
        max_concurrent_actions: most actions in flight for one Lobby. One that calls a lobby may wait seconds for an answer.
        expected_seconds: how long to wait until a creation or deletion shows in the list; then the action is planned
            again. A watch that lags more is broken.
        request_expected_seconds: the same for what a lobby is asked to do (drain, connect to its origin), which it reports at
            the next poll. Shorter, since asking twice does no harm.
        taken_seconds: how long a name that someone else has is not tried again. A person rarely frees one sooner, and another
            number does as well.
        active_seconds: how long lobbies and greeters are still polled at the fast interval after the last change, since
            one change often causes another.
    """

    min_interval_seconds: float = 0.05
    max_planning_share: float = 0.25
    max_pause_seconds: float = 0.5
    max_interval_seconds: float = 5.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 10.0
    max_concurrent_actions: int = 16
    expected_seconds: float = 30.0
    request_expected_seconds: float = 5.0
    taken_seconds: float = 300.0
    active_seconds: float = 3.0

    def pause_after(self, seconds: float) -> float:
        """The pause after a pass whose observing and planning took so long, in seconds."""
        pause = seconds / self.max_planning_share - seconds
        return max(self.min_interval_seconds, min(pause, self.max_pause_seconds))


ORIGIN_DENY_CIDRS = (
    *("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),  # the pod itself
    *("169.254.0.0/16", "fe80::/10"),  # link-local: the node, and the metadata service of most clouds
    *(
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
    ),  # that of AWS, GCP, Alibaba, Azure
)
"""Networks that no origin is in and that pods must not be used to reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """What Lobbies may ask for. A Lobby that asks for more is refused with a condition that names the field.

    The right to create Lobbies shall not include what the right to create pods does. Names in lists are exact, or end in `*`,
    which stands for any rest.

    Attributes:
        max_replicas: largest `maxReplicas`. Twice the default of that field: 100,000 seats.
        max_lobbies: most lobbies in one namespace, of all its Lobbies; also during a rollout, which needs a few more than
            usual.
        env: names of environment variables. By default those that a lobby reads itself; others would only reach its libraries.
        labels: keys of pod labels. By default labels for people only: Services and NetworkPolicies of others select pods by
            their labels.
        annotations: keys of pod annotations. None by default: they configure other controllers, which may change the pod.
        node_labels: keys of node labels that nodeSelector and node affinity may use. By default those of places, not those of
            single nodes or of nodes reserved for someone.
        tolerations: keys of taints. By default only those of nodes that are down, so that lobbies can leave them sooner. Other
            taints keep pods off nodes on purpose.
        priority_classes: names of PriorityClasses. None by default: a higher priority evicts others' pods.
        pod_affinity: whether affinity and anti-affinity to pods are accepted. Not by default: a required anti-affinity keeps
            others' pods away.
        max_resources: largest request and limit of one lobby by resource; a resource that is not listed has no maximum. Far
            more than a lobby uses, and less than a node has.
    """

    max_replicas: int = 200
    max_lobbies: int = 500
    env: tuple[str, ...] = ("LOBBY_LOG_LEVEL", "LOBBY_LOG_STYLE", "TZ")
    labels: tuple[str, ...] = ("app.kubernetes.io/part-of", "app.kubernetes.io/version")
    annotations: tuple[str, ...] = ()
    node_labels: tuple[str, ...] = (
        *("kubernetes.io/arch", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"),
    )
    tolerations: tuple[str, ...] = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    priority_classes: tuple[str, ...] = ()
    pod_affinity: bool = False
    max_resources: Mapping[str, str] = field(
        default_factory=lambda: {"cpu": "4", "memory": "4Gi", "ephemeral-storage": "1Gi"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """What all pods of lobbies have in common, whatever the Lobby. Times are in seconds.

    Attributes:
        image: image of the lobby process.
        token_secret: name of the Secret with the key of its namespace's tokens, in the namespace of the Lobby.
        image_pull_policy: `IfNotPresent`, `Always` or `Never`; empty: the cluster's default.
        image_pull_secrets: names of Secrets.
        service_account: name of a service account without rights, whose token no pod mounts; empty: the namespace's
            `default`.
        labels: labels of everything that the operator creates, besides its own: an administrator's, for people and bills.
        defaults: fields of `spec.template` and volumes that all lobbies have unless their Lobby says otherwise; see
            `kube/lobby_defaults.py`.
        requests: quantities by resource. A full lobby whose 512 clients read as fast as they can uses about 45 MiB, and 25m of
            a CPU if they are direct clients and get 10 messages per second (docs/performance.md).
        limits: quantities by resource. There is none on CPU, which would only make all clients of a lobby wait. 256 MiB is
            enough for an origin with large messages and slow clients; the lobby refuses clients well before that.
        lobby_stop_seconds: how long a terminating lobby still serves its clients while greeters find them other seats.
            Usually they leave at once; if it was the only lobby, its successor has to start first (3 s on an idle node).
        grace_margin_seconds: time from then to SIGKILL. Closing the origin connection takes up to 10 s; the rest is for a
            busy node.
        max_avoided_nodes: most nodes that a pod's affinity names, so that its manifest stays small.
        origin_deny_cidrs: networks that no origin may be in, whatever its name resolves to. Not private networks, since many
            origins are in the cluster or next to it.
    """

    image: str
    token_secret: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "25m", "memory": "64Mi"})
    limits: Mapping[str, str] = field(default_factory=lambda: {"memory": "256Mi"})
    lobby_stop_seconds: int = 15
    grace_margin_seconds: int = 15
    max_avoided_nodes: int = 32
    origin_deny_cidrs: tuple[str, ...] = ORIGIN_DENY_CIDRS


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Calls to the Kubernetes API.

    Attributes:
        request_seconds: deadline of one call, in seconds. The server answers in milliseconds; an admission webhook may
            take up to 10 s, but none handles the objects that the operator writes.
    """

    request_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KopfSettings:
    """Kopf, and the lists that what it tells is compared with. Times are in seconds.

    Attributes:
        watch_seconds: how long a watch lasts before it is restarted. Kubernetes clients commonly ask for five minutes.
        idle_seconds: a watch that receives nothing for this long counts as lost. Servers send a bookmark each minute.
        watch_interval_seconds: least time from one watch to the next. Kopf begins a watch that ends at once up to 1,200 times
            a second.
        page_size: objects per page of a list. Kopf makes a task for each of them, so this bounds its memory: 84 MiB instead
            of 165 for 2,000 pods.
        worker_seconds: how long such a task waits for another event of its object. Short, for the same reason.
        request_seconds: deadline of a request that is no watch. A page of a list takes milliseconds; longer than our own
            calls' deadline, since kopf repeats a list from its start.
        connect_seconds: deadline of a connection, well below `idle_seconds`.
        min_backoff_seconds: upper bound of the first wait after a failed request, or after an end of kopf; doubles with each
            failure. Short, since usually the server is merely restarting.
        max_backoff_seconds: longest wait: how late the operator may notice that the server is back.
        end_seconds: time for kopf to end its tasks; then it is left behind. It takes 0.1 s.
        audit_seconds: time from one comparison with a list to the next: how long a deleted object may stay unnoticed. For
            2,000 pods it takes 0.15 s of CPU time.
        relisted_seconds: time from a list of kopf's to the comparison that finds what was deleted before it. By then kopf has
            told all of it.
        late_seconds: a process that is about to act reads what kopf has not told for this long, and restarts it. Kopf
            usually tells within milliseconds.
        silent_seconds: kopf is restarted when the server has what it does not tell, and it has told nothing for this long.
            Longer than any wait between its requests.
        behind_seconds: kopf is restarted when it has not told of one object for this long, though it tells of others.
        blind_seconds: the process counts as stuck when an object has not been told for this long, in spite of restarts.
    """

    watch_seconds: float = 300.0
    idle_seconds: float = 70.0
    watch_interval_seconds: float = 0.5
    page_size: int = 100
    worker_seconds: float = 0.1
    request_seconds: float = 30.0
    connect_seconds: float = 5.0
    min_backoff_seconds: float = 0.25
    max_backoff_seconds: float = 5.0
    end_seconds: float = 3.0
    audit_seconds: float = 30.0
    relisted_seconds: float = 1.0
    late_seconds: float = 1.0
    silent_seconds: float = 15.0
    behind_seconds: float = 60.0
    blind_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Leader election. Times are in seconds; the defaults are those of client-go.

    Attributes:
        duration_seconds: time without a renewal after which another process may take the Lease.
        deadline_seconds: time without a renewal after which the holder stops acting. The rest of the duration is for calls
            in flight.
        renew_seconds: time between two renewals, and between two attempts of a standby.
    """

    duration_seconds: int = 15
    deadline_seconds: float = 10.0
    renew_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Events about Lobbies. Times are in seconds.

    Attributes:
        gather_seconds: how long events are collected before they are written, so that similar ones become one Event.
        series_seconds: how long a repetition only increases the count of the first Event. Well below the hour after which
            servers delete Events.
        burst: most Events of one Lobby at once, so that a Lobby in trouble cannot flood the server.
        refill_seconds: time until a Lobby that used up its burst may have one more Event. Four per minute are enough to
            follow what happens.
    """

    gather_seconds: float = 1.0
    series_seconds: float = 300.0
    burst: int = 20
    refill_seconds: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWriterSettings:
    """Writes of `Lobby.status`. Times are in seconds.

    Attributes:
        min_interval_seconds: least time between two writes of one status. Each write goes to all greeters, and counts
            change all the time.
        conflict_seconds: how long to wait for the watch after a conflict before writing again. The watch usually delivers
            within milliseconds.
        min_backoff_seconds: least wait after a failed write; a random time of up to as much is added, which doubles with
            each failure. Short, since greeters learn of new lobbies from the status.
        max_backoff_seconds: largest random time: how late greeters may learn of a lobby once the server is back.
    """

    min_interval_seconds: float = 1.0
    conflict_seconds: float = 1.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyControllerSettings:
    """What one Lobby needs besides its pods, and calls to its lobbies. Times are in seconds.

    Attributes:
        resync_seconds: time after which the ConfigMap and the token Secret are written again even if nothing changed, since
            someone may have edited or deleted them. Long, since it costs two calls per Lobby.
        min_backoff_seconds: least wait after such a write failed; a random time of up to as much is added, which doubles
            with each failure. Short, since no pod is created before it succeeds.
        max_backoff_seconds: largest random time. Usually a person has to fix a quota or an admission rule first.
        request_timeout_seconds: how long to wait for a lobby's answer to a request. It takes milliseconds, and a lobby that
            hangs must not delay the others for long.
        max_deletion_notices: most lobbies of a deleted Lobby that are told so at the same time. Each takes a connection; 2,000
            lobbies are told within a second or two.
    """

    resync_seconds: float = 300.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 10.0
    request_timeout_seconds: float = 2.0
    max_deletion_notices: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMaintenanceSettings:
    """Annotations of pods, and the PodDisruptionBudget. Times are in seconds.

    Attributes:
        min_interval_seconds: pause between two rounds, so that changes that come together are written together.
        max_interval_seconds: longest time between two rounds: some of the work depends on time alone.
        retry_seconds: pause after a round that failed. Long, since none of it is urgent.
        max_writes: most pods written in one round: a thousand lobbies that fill up at once must not delay urgent calls.
        evictable_after_seconds: how long a lobby must have been empty before the cluster autoscaler may remove its node. A
            client that reconnects is back by then.
        rewrite_seconds: how long to wait until the watch shows a written annotation; then it is written again. A watch
            that lags more is broken.
        lower_budget_seconds: how long there must have been fewer lobbies before the budget is lowered. An evicted lobby is
            replaced within a few seconds.
        lobbies_per_eviction: one in this many lobbies may be evicted at a time. A tenth of the clients find seats elsewhere.
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
class StartWatchSettings:
    """Events about pods that do not start.

    Attributes:
        poll_seconds: how long a pod may wait for the kubelet before its Events are read, and time in seconds between two
            times. Most pods start within three seconds, and a kubelet retries a mount after seconds.
        max_pods: most pods of one Lobby whose Events are read each time: they wait for the same.
    """

    poll_seconds: float = 3.0
    max_pods: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenObjectsSettings:
    """What the operator wrote and someone may delete.

    Attributes:
        config_seconds: least time in seconds between two lists of the ConfigMaps of a namespace. A list of uids from the
            server's cache is cheap.
        lists_per_second: most such lists per second, on average. With more than twenty namespaces, each is looked at less
            often, so that an idle operator stays quiet.
        rounds_per_full_check: so many of these for one look at the disruption budgets and the token Secret of each namespace.
            Nothing waits for them: a missing Secret is also noticed by the first pod that does not start.
    """

    config_seconds: float = 5.0
    lists_per_second: float = 4.0
    rounds_per_full_check: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """Checks of Lobbies before they are stored, and the certificate that this takes.

    Attributes:
        service: name of the Service, in the operator's namespace, under which the API server asks; empty: nothing is checked.
        secret: name of the Secret with the certificate.
        configuration: name of the ValidatingWebhookConfiguration whose `caBundle` is written; empty: cert-manager makes the
            certificate and writes it.
        port: port on which the API server asks.
        check_seconds: how often the Secret is read, which another replica may have written, and the configuration, which
            someone may have changed.
        first_check_seconds: the same as long as there is no certificate, right after the installation.
        certificate_days: how long a certificate is valid. Short enough that a renewal is nothing
            unusual, as with Let's Encrypt.
        renew_days: it is renewed when it is valid for less than this. A month, for an operator that is down for weeks.
        answer_seconds: deadline of an answer. It takes a millisecond; the API server waits for two seconds.
    """

    service: str = ""
    secret: str = ""
    configuration: str = ""
    port: int = 9443
    check_seconds: float = 20.0
    first_check_seconds: float = 1.0
    certificate_days: float = 90.0
    renew_days: float = 30.0
    answer_seconds: float = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Settings of an operator on Kubernetes.

    Attributes:
        pods: pods of lobbies.
        policy: what Lobbies may ask for.
        namespace: namespace whose Lobbies are reconciled; empty: all namespaces.
        own_namespace: namespace of the Lease and of the greeters.
        identity: identity of this process in the leader election; unique among those running. A pod's name is suitable: a
            container that restarts in the same pod still holds the Lease.
        lobby_namespaces: with `namespace` empty, the only namespaces that may have lobbies: the operator may access pods there
            and nowhere else. A Lobby elsewhere gets a condition that says so. Empty: all namespaces.
        prefix_paths: Lobbies are served at `/<namespace><path>`, so that no tenant can take the path of another.
        clients_url: URL at which clients reach the greeters, without a path, for `status.url`; empty: it is not known.
        greeter_selector: label selector of greeters' pods; by default the labels that the chart sets.
        token_key_file: file with the master keys of tokens. The key of each namespace that has a Lobby is derived from it and
            written as a Secret there, and requests to its lobbies are signed with it; None: neither is done.
        master_secret: name of the Secret with the master keys. No Lobby may refer to a Secret of that name.
        admin_host: address of the admin port. By default all, IPv6 and IPv4: probes, Prometheus and people connect from
            elsewhere.
        admin_hosts: names under which it may be reached, besides those that no web page can have made up.
        admin_port: admin port, by default the same as in lobbies and greeters; 0: any free port.
        lease_name: name of the Lease that decides which replica acts.
        stop_seconds: time for an orderly shutdown, in seconds; then the process exits anyway. Well below the 30 s after
            which Kubernetes kills it.
        lobby_admin_port: admin port of lobbies and greeters; the one that their pods declare.
        polling: polls of lobbies and greeters.
        planner: times and limits of the planner.
        peers: what lobbies are told about each other.
        reconcile: when Lobbies are reconciled, and how failures are retried.
        api: calls to the API.
        kopf: watches, and the lists that they are compared with.
        lease: leader election.
        events: Events.
        status: writes of the status.
        controller: what a Lobby needs besides its pods.
        maintenance: annotations of pods, and the PodDisruptionBudget.
        starts: Events about pods that do not start.
        written: what the operator wrote and someone may delete.
        admission: checks of Lobbies before they are stored.
    """

    pods: PodSettings
    policy: PolicySettings = field(default_factory=PolicySettings)
    namespace: str
    own_namespace: str
    identity: str
    lobby_namespaces: tuple[str, ...] = ()
    prefix_paths: bool = False
    clients_url: str = ""
    greeter_selector: str = GREETER_SELECTOR
    token_key_file: Path | None = None
    master_secret: str = MASTER_SECRET
    admin_host: str = "::"
    admin_hosts: tuple[str, ...] = ()
    admin_port: int = 8001
    lease_name: str = LEASE_NAME
    stop_seconds: float = 10.0
    lobby_admin_port: int = 8001
    polling: PollSettings = field(default_factory=PollSettings)
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    peers: PeerListSettings = field(default_factory=PeerListSettings)
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    kopf: KopfSettings = field(default_factory=KopfSettings)
    lease: LeaseSettings = field(default_factory=LeaseSettings)
    events: EventSettings = field(default_factory=EventSettings)
    status: StatusWriterSettings = field(default_factory=StatusWriterSettings)
    controller: LobbyControllerSettings = field(default_factory=LobbyControllerSettings)
    maintenance: PodMaintenanceSettings = field(default_factory=PodMaintenanceSettings)
    starts: StartWatchSettings = field(default_factory=StartWatchSettings)
    written: WrittenObjectsSettings = field(default_factory=WrittenObjectsSettings)
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModeSettings:
    """Local mode (`lobby up`). Times are in seconds.

    Attributes:
        listen_seconds: time for a child process to announce its ports; after that its start has failed. It takes 0.2 s on
            an idle machine, and longer when many start at once.
        lobby_kill_seconds: time from SIGTERM to SIGKILL for a lobby: more than it needs to close its clients in turn and
            then its origin connection.
        greeter_kill_seconds: the same for a greeter whose sibling failed to start; no client is connected yet.
        exit_seconds: time for greeters to close their clients when `lobby up` ends, and again for lobbies; what is left is
            killed. A person is waiting.
        request_timeout_seconds: how long to wait for a lobby's answer to a request. On one machine it takes a millisecond.
        min_restart_seconds: pause before a greeter that exited is restarted; doubles with each further failure. Short,
            since clients can't connect meanwhile.
        max_restart_seconds: the longest such pause, so that clients can connect soon after the cause is gone.
        greeter_stable_seconds: a greeter that ran this long is restarted after the shortest pause again: its exit has
            another cause.
        demo_restart_seconds: pause before the demo's origin is restarted. A ticker does not exit by itself; someone killed
            it, and may want to see lobbies reconnect.
        directory_seconds: least time between two directories sent to greeters. The counts of many lobbies change together.
        refresh_seconds: time between two updates of the live table: smooth for a reader, and cheap.
        rate_window_seconds: period over which message rates are averaged. With a shorter one, the rate of an origin that
            sends once a second flickers.
        max_pending_lines: most lines kept for a terminal that is not being read; the oldest are dropped. They fill a
            terminal's scrollback and take little memory.
        terminal_close_seconds: time for the terminal to show the last lines. A terminal that is held (Ctrl-S) must not keep
            the process alive.
        busy_seconds: a lobby that does not answer but uses the CPU counts as busy, not dead, for this long. On a machine that
            has too much to do a burst takes seconds; a loop without end must not pass for work for ever.
        seats_per_spare_seat: with `--seats`, one seat in this many is kept free. The resource's default of 64 spare seats
            suits 512 seats; it would start a dozen lobbies of 5 seats before the first client connects.
    """

    listen_seconds: float = 20.0
    lobby_kill_seconds: float = 10.0
    greeter_kill_seconds: float = 5.0
    exit_seconds: float = 5.0
    request_timeout_seconds: float = 2.0
    min_restart_seconds: float = 0.1
    max_restart_seconds: float = 5.0
    greeter_stable_seconds: float = 10.0
    demo_restart_seconds: float = 1.0
    directory_seconds: float = 0.05
    refresh_seconds: float = 0.25
    rate_window_seconds: float = 5.0
    max_pending_lines: int = 1000
    terminal_close_seconds: float = 2.0
    busy_seconds: float = 30.0
    seats_per_spare_seat: int = 8


LOCAL_MODE = LocalModeSettings()
"""The defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """`lobby simulate`: the delays of what surrounds the planner, in seconds.

    Attributes:
        tick_seconds: between two moments at which clients come and go. Below that, no decision differs.
        start_seconds: from the creation of a lobby to its first answer, on average; it varies by half. A pod whose image is
            on its node takes that long.
        api_seconds: until an action takes effect: one call of the API server, or to a lobby.
        directory_seconds: until greeters know the open lobbies: the status is written at most once a second.
        move_seconds: from a drain to the move of the clients, and between two attempts while there are no seats.
        notice_seconds: until greeters notice that a node is gone: a lobby sends something every half second, and is given up
            after two seconds of silence.
        stop_seconds: from the deletion of a lobby to its end.
        retry_seconds: least time after which a client that was refused or closed connects again, at most twice as long. What
            clients with a back-off do.
        samples: number of samples over time, for the plot.
    """

    tick_seconds: float = 0.5
    start_seconds: float = 3.0
    api_seconds: float = 0.05
    directory_seconds: float = 0.5
    move_seconds: float = 0.2
    notice_seconds: float = 2.0
    stop_seconds: float = 2.0
    retry_seconds: float = 5.0
    samples: int = 240
