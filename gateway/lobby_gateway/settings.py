"""Settings of the processes that no Lobby sets: a dataclass per concern, each field with unit, default and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginSettings:
    """A lobby's connection to its origin.

    Attributes:
        linger_seconds: how long an OnDemand connection outlives its last client. Page reloads and moves of clients take less,
            so they don't cost the origin a new connection.
        stable_seconds: a connection that streamed for this long was a success, so the next wait is a first one again. An
            origin that accepts connections and drops them is not hammered: they don't last.
        min_refused_seconds: least wait after 401 or 403. Only a person can fix the cause, and many origins ban clients that
            retry too often.
        max_retry_after_seconds: longest Retry-After that is honored, so that a mistaken one can't keep a Lobby away for days.
        max_buffered_bytes: most bytes of client messages that wait for an origin that reads slowly; further ones are refused.
        unresponsive_close_seconds: how long an answer to our close frame is awaited from an origin that stopped responding.
    """

    linger_seconds: float = 10.0
    stable_seconds: float = 10.0
    min_refused_seconds: float = 60.0
    max_retry_after_seconds: float = 3600.0
    max_buffered_bytes: int = 1 << 20
    unresponsive_close_seconds: float = 0.5


ORIGIN = OriginSettings()
"""The defaults, for arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbySettings:
    """A lobby process.

    Attributes:
        origin: its connection to the origin.
        ring_messages: most messages kept for replay, resuming and slow greeters.
        ring_bytes: most bytes of them: what a lobby's memory grows by at most, however fast the origin is.
        replay_bytes: most bytes of messages sent to a client that joins or resumes: all that the ring holds.
        sweep_seconds: between two looks for silent clients. Adds to `clients.pingSeconds`.
        stop_seconds: how long an ending lobby waits at most for greeters to take their clients elsewhere, which go on getting
            the stream meanwhile. In a pod it is longer: there, another lobby may have to be started first.
        stop_spread_seconds: over how long a stopping lobby spreads the moves of its clients, and the closes of direct ones (at
            most half of `stop_seconds`), so that they don't arrive elsewhere all at once.
        drain_spread_seconds: the same for a draining lobby (at most half of the Lobby's `drainSeconds`).
    """

    origin: OriginSettings = ORIGIN
    ring_messages: int = 16384
    ring_bytes: int = 8 << 20
    replay_bytes: int = 8 << 20
    sweep_seconds: float = 2.5
    stop_seconds: float = 2.0
    stop_spread_seconds: float = 5.0
    drain_spread_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """The connection of one client.

    Attributes:
        ping_timeout_seconds: a pinged client that stays silent for this long is closed. Shorter than the minute after which
            many load balancers drop an idle connection, and long enough for a phone that changes networks.
        close_timeout_seconds: how long the client's answer to our close frame is awaited: a few round trips on a bad line.
        flood_close_timeout_seconds: the same after a flood, where neither an answer nor the end of the connection is read:
            time for the close frame to arrive.
        read_bytes: most bytes of one read. As frames of six bytes they take 3 ms, during which nothing else is served; 64 KiB
            would take 17 ms.
    """

    ping_timeout_seconds: float = 20.0
    close_timeout_seconds: float = 5.0
    flood_close_timeout_seconds: float = 1.0
    read_bytes: int = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """The memory limit of a process.

    Attributes:
        sample_seconds: between two samples of the resident memory. Each takes microseconds; clients that connect within
            a second take a few percent of the limit at most.
        group_share: default limit, as a share of what the control group may use. The rest is for work that is under way when
            the limit is reached.
    """

    sample_seconds: float = 1.0
    group_share: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class FileWatchSettings:
    """Watches of files that may be replaced while a process runs.

    Attributes:
        poll_seconds: between two looks at the files. They cost microseconds; a kubelet takes up to a minute to update a
            mounted file, so a second more makes no difference.
    """

    poll_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkServerSettings:
    """The lobby's end of a trunk, and its socket.

    Attributes:
        status_seconds: between two STATUS records. A quarter of the time after which a greeter gives up, so that lost or
            late ones don't end the trunk.
        consumer_timeout_seconds: a consumer that sends nothing for this long is given up, and its seats are free again. A busy
            greeter may pause for seconds (many handshakes at once), and giving up on it costs its clients their seats.
        resume_wait_seconds: how long to wait for messages when a position is ahead of the ring, before the answer is live: two
            lobbies of one origin are rarely further apart.
        record_bytes: about how large a record gets when batches are merged for a consumer that lags. Large enough that
            headers and system calls don't matter, small enough that other records get between.
        max_answers: most answers waiting to be sent. A consumer that claims more without reading any is broken.
        close_timeout_seconds: how long the greeter's answer to our close frame is awaited. It is near, and its clients wait.
        read_bytes: most bytes of one read: many records, or part of a large client message.
        unsent_bytes: most unsent bytes in the kernel (TCP_NOTSENT_LOWAT): enough to keep the network busy, so few that the
            stream hardly lags.
    """

    status_seconds: float = 0.5
    consumer_timeout_seconds: float = 5.0
    resume_wait_seconds: float = 1.0
    record_bytes: int = 256 << 10
    max_answers: int = 4096
    close_timeout_seconds: float = 2.0
    read_bytes: int = 65536
    unsent_bytes: int = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkConsumerSettings:
    """The greeter's end of a trunk.

    Attributes:
        open_timeout_seconds: for TCP and handshake; a lobby is near.
        max_buffered_bytes: most bytes of clients' messages that wait for a slow lobby; further messages are not accepted.
        heartbeat_seconds: between two HEARTBEAT records: a tenth of the time after which a lobby gives up.
        lobby_timeout_seconds: a lobby that sends nothing for this long is given up, and its clients get seats elsewhere. Four
            times the interval of STATUS; shorter than the lobby's own timeout, since clients wait for their stream.
        responsive_seconds: if a trunk ends and its lobby sent something within this time, the lobby may still be there and is
            asked first. Twice the interval of STATUS.
        token_seconds: lifetime of the token that opens a trunk: enough to connect, and for clocks that differ a little.
        replay_bytes: most bytes kept for clients that join; the newest message is always kept.
    """

    open_timeout_seconds: float = 3.0
    max_buffered_bytes: int = 1 << 20
    heartbeat_seconds: float = 0.5
    lobby_timeout_seconds: float = 2.0
    responsive_seconds: float = 1.0
    token_seconds: float = 30.0
    replay_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatQueueSettings:
    """How long a greeter waits for seats, and how long it believes what it learned about lobbies.

    Attributes:
        claim_seconds: a claim without an answer for this long has failed. Covers opening the trunk.
        full_seconds: a full lobby is not asked again for this long, unless there is news of it.
        draining_seconds: the same for a draining lobby; by then it has left the directory.
        min_failed_seconds: the same for a lobby that failed; doubles with each failure in a row.
        max_failed_seconds: upper limit of that. A lobby is asked after all others for this long after it failed.
        unseen_ticket_seconds: how long a redirected client counts as a client of its lobby without appearing in the directory.
        min_lost_seconds: at least how long a client whose lobby is gone waits for a new seat: time to start another lobby.
        move_interval_seconds: a draining lobby's clients start to move in batches at least this far apart. A batch shares one
            claim and one RESUME: 512 clients that move within 10 s cost at most 100 of each.
    """

    claim_seconds: float = 1.0
    full_seconds: float = 1.0
    draining_seconds: float = 10.0
    min_failed_seconds: float = 1.0
    max_failed_seconds: float = 15.0
    unseen_ticket_seconds: float = 10.0
    min_lost_seconds: float = 30.0
    move_interval_seconds: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """Limits on new clients, in lobbies and greeters.

    Attributes:
        refill_ratio: above its memory limit, a process admits clients while it has fewer than this share of those that it had
            when it reached the limit. Below 1, so that a full process doesn't hover at the limit.
        connect_burst_seconds: how many seconds' worth of `connectsPerSecond` an address may use at once after a pause: a page
            with several streams, or a team behind one NAT that reconnects after a greeter restarted.
        full_retry_seconds: Retry-After for an address with `connectionsPerAddress` connections. Nobody knows when one of them
            ends; clients that retry every 5 s cost almost nothing.
        max_addresses: most addresses whose connection rate is tracked; bounds the memory to about 10 MiB per Lobby.
    """

    refill_ratio: float = 0.9
    connect_burst_seconds: float = 5.0
    full_retry_seconds: float = 5.0
    max_addresses: int = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """The port for clients: what a connection may cost before it is a client.

    Attributes:
        timeout_seconds: from the TCP connection to the last byte of the request; a slow phone takes a second or two.
        max_header_bytes: longest request line with all headers; browsers' cookies and tokens fit.
        max_pending: most connections whose request is incomplete; the oldest makes room. Each takes about 1 KiB.
        max_lingering: most refused connections that are kept until the client has read why; more are closed at once.
        linger_seconds: how long each of those is kept: time for the refusal to arrive and be read.
        backlog: connections that the kernel keeps until they are accepted: a burst after a restart must not be refused.
        accepts_per_turn: connections accepted before clients are served again.
        accept_pause_seconds: how long accepting pauses when there is no descriptor left for another connection.
    """

    timeout_seconds: float = 10.0
    max_header_bytes: int = 16384
    max_pending: int = 4096
    max_lingering: int = 1024
    linger_seconds: float = 2.0
    backlog: int = 4096
    accepts_per_turn: int = 64
    accept_pause_seconds: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketClientSettings:
    """An outgoing WebSocket connection: to an origin, or a trunk to a lobby.

    Attributes:
        open_timeout_seconds: for DNS, TCP, TLS and handshake: far origins take a second, a lost packet another.
        close_timeout_seconds: how long the peer's answer to our close frame is awaited. Nothing depends on it, so it is short.
        read_bytes: most bytes of one read, so that a burst of an origin is passed on in few calls.
        max_head_bytes: longest head of a response to the handshake.
        max_buffered_for_pong: bytes waiting for room in the socket above which pings are not answered: a peer that pings and
            never reads must not fill the memory.
        attempt_delay_seconds: head start of one address of a host over the next; RFC 8305 §5 recommends 250 ms.
    """

    open_timeout_seconds: float = 10.0
    close_timeout_seconds: float = 2.0
    read_bytes: int = 256 << 10
    max_head_bytes: int = 65536
    max_buffered_for_pong: int = 65536
    attempt_delay_seconds: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """The admin port.

    Attributes:
        request_timeout_seconds: for a request to arrive, and for its response to be taken.
        max_body_bytes: longest body of a request; none of ours has one.
        max_connections: more are closed at once. Probes, scrapers and people need a few.
    """

    request_timeout_seconds: float = 10.0
    max_body_bytes: int = 65536
    max_connections: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpClientSettings:
    """The HTTP client. How long a whole request may take is up to its user.

    Attributes:
        connect_timeout_seconds: for TCP and TLS; on one network they take milliseconds.
        max_body_bytes: longest response that is accepted; `/seats` and `/waiting` take kilobytes.
        max_line_bytes: longest line of a streamed response.
    """

    connect_timeout_seconds: float = 5.0
    max_body_bytes: int = 4 << 20
    max_line_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How a greeter lists and watches Lobbies.

    Attributes:
        start_seconds: how long the start waits for the first list. After that the greeter accepts clients without it and
            refuses them until the list arrives.
        watch_seconds: after this long, less up to a tenth, the server ends a watch. Random, so that greeters don't return all
            at once.
        idle_seconds: a watch that has brought nothing for this long is lost. A server sends a bookmark about once a minute.
        page: Lobbies that are listed at a time; bounds the size of a response.
        connect_timeout_seconds: for TCP and TLS; the API server is near.
        response_timeout_seconds: for the head of a response, and for a whole list.
        max_list_bytes: longest page of a list; a page of the largest possible Lobbies is longer, one of real ones takes 1 MiB.
        max_event_bytes: longest event. An object in etcd has at most 1.5 MiB, which JSON may lengthen.
        min_backoff_seconds: upper bound of the first wait for a server that does not respond; it doubles each time.
        max_backoff_seconds: upper bound of any wait; a server that is back should be noticed within seconds.
    """

    start_seconds: float = 3.0
    watch_seconds: float = 300.0
    idle_seconds: float = 90.0
    page: int = 100
    connect_timeout_seconds: float = 5.0
    response_timeout_seconds: float = 10.0
    max_list_bytes: int = 64 << 20
    max_event_bytes: int = 8 << 20
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Tokens and the rotation of their keys.

    Attributes:
        ticket_seconds: lifetime of the token in a redirect: enough for a client on a slow line to connect, short enough to be
            useless when it turns up in a log later.
        activation_seconds: how long a new key only verifies before it signs, so that all processes have it by then. A kubelet
            checks once a minute whether a mounted Secret has changed, from a cache that may be as old (Kubernetes, "Mounted
            Secrets are updated automatically"); the rest is a margin.
        retired_key_seconds: how long a removed key verifies. The last process to see the change signs with the old key for
            another `activation_seconds`, tokens that live for `ticket_seconds`.
        used_tokens: most used tokens that a lobby remembers, 80 bytes each.
    """

    ticket_seconds: int = 30
    activation_seconds: float = 180.0
    retired_key_seconds: float = 420.0
    used_tokens: int = 65_536


TOKEN_KEY_VARIABLE = "LOBBY_TOKEN_KEY"  # noqa: S105  # the name of the variable, not its value
"""Environment variable with the key that signs seat tokens: at least 32 bytes in hex."""
