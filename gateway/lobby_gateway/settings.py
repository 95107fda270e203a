"""Settings of the processes that are not part of a Lobby: a named tuple per concern; each field with its unit and reason.

A frozen dataclass would take twice the memory for the code that is generated for it.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple


class KeptSettings(NamedTuple):
    """Messages that everybody who joins a stream gets first (`keep`).

    Attributes:
        messages: most of them, as in the CRD: each costs every client that joins a frame, and a trunk a record.
        message_bytes: largest payload. An answer to a subscription has some 100 bytes, the first message of a session some
            10 KB.
        bytes: most bytes of all frames. With 512 clients that join at once, 128 MiB wait for their sockets at worst.
    """

    messages: int = 16
    message_bytes: int = 64 << 10
    bytes: int = 256 << 10


KEPT = KeptSettings()
"""The defaults, for arguments."""


class OriginSettings(NamedTuple):
    """A lobby's connection to its origin.

    Attributes:
        linger_seconds: how long an OnDemand connection is kept after its last client disconnected. Page reloads and moves
            take less, so they don't cost the origin a new connection.
        stable_seconds: a connection that streamed for this long was a success and resets the back-off. Connections that an
            origin accepts and soon drops don't, so it is not hammered. Nor is a connection renewed earlier because the origin
            asks for it (`renew` of a rule).
        min_refused_seconds: shortest wait after a refusal (401, 403, a close code or a message that says so). Only a person
            can fix the cause, and many origins ban clients that retry too often.
        permit_ahead_seconds: how long before an attempt a permit for it is asked for (`origin.limits.connects`): the lobby
            host hears of it within a second or two.
        max_retry_after_seconds: longest Retry-After that is honored, so that a mistaken one can't stop a Lobby for days.
        max_buffered_bytes: most bytes of client messages that wait for an origin that reads slowly; more are refused, so that
            it can't fill the memory.
        waiting_sends: most messages that wait because of `origin.limits.sendsPerSecond`. More will hardly be sent in time: at
            4 a second this many take a minute.
        unresponsive_close_seconds: how long to wait for the close frame of an origin that stopped responding: it hardly comes.
        renew_jitter: a renewal (`origin.renew`) comes up to this share of its interval early, so that lobbies that were
            started together don't connect together for ever.
        judged_per_turn: most messages that are compared with what `onConnect` expects, or with the rules of `onMessage`, in
            one turn of the event loop. Parsing that many takes a few milliseconds, with expressions up to 50; one read may
            bring 100,000 tiny ones.
        decoded_per_turn: bytes of messages, once they are decoded and split, in one turn of the event loop; each counts as
            64 more. They take a few milliseconds; one read of compressed messages may hold 256 MiB.
        saved_bytes: most bytes of all saved values (`save`) as JSON: room for any token, and not for a stream.
        hidden_texts: most values that were saved earlier and are hidden in reasons and logs beside the secrets and what is
            saved now; as many signatures of timers, and of other messages. What hides them is made anew for a line that is
            shown, on the event loop, if there are new ones: 2 µs for each.
        hidden_characters: most characters of each of the three.
        hidden_handshake_characters: most characters of signatures of one connection's handshake and `onConnect`: 500 in
            hexadecimal, or 30 tokens.
        early_bytes: most bytes of messages kept until `onConnect` is done, to be forwarded then: a snapshot of an order book
            has some 100 KB.
        kept_message_bytes: largest payload of a message that is kept for clients that join (see `KeptSettings`).
        answer_bytes: longest answer to an HTTP call of `beforeConnect` or `onConnect`. Tokens and addresses have some 100
            bytes, a list of servers a few thousand.
        denied_networks: networks that no origin may be in, nor a server that is called for it. None by default, where the
            user of the machine chooses the origin; the operator sets them, since in a cluster whoever creates a Lobby would
            reach what a pod can reach.
    """

    linger_seconds: float = 10.0
    stable_seconds: float = 10.0
    min_refused_seconds: float = 60.0
    permit_ahead_seconds: float = 5.0
    max_retry_after_seconds: float = 3600.0
    max_buffered_bytes: int = 1 << 20
    waiting_sends: int = 256
    unresponsive_close_seconds: float = 0.5
    renew_jitter: float = 0.1
    judged_per_turn: int = 500
    decoded_per_turn: int = 1 << 20
    saved_bytes: int = 64 << 10
    hidden_texts: int = 256
    hidden_characters: int = 16 << 10
    hidden_handshake_characters: int = 64 << 10
    early_bytes: int = 4 << 20
    kept_message_bytes: int = KEPT.message_bytes
    answer_bytes: int = 256 << 10
    denied_networks: tuple[IPv4Network | IPv6Network, ...] = ()


ORIGIN = OriginSettings()
"""The defaults, for arguments."""


class ExpressionSettings(NamedTuple):
    """Expressions of a Lobby. The library for CEL recurses on the C stack, so what is too large would end the process.

    Attributes:
        characters: of one expression, as in the CRD for those that are fields. The longest of a known feed has 200; this many
            take up to 50 ms to compile.
        total_characters: of all expressions of a Lobby, so that checking one Lobby never blocks an operator for a second.
        least_characters: what an expression counts at least among them: a short one takes as long as a few characters.
        brackets: how deep they may be nested. Each takes up to 10 KiB of stack, so this many fit into the 128 KiB that threads
            have with musl. Those of known feeds nest 5 deep.
        chain: operators in a row, and fields of fields, including those around them. Each takes 700 bytes of stack.
        json_depth: how deep JSON may be nested that expressions see. Each level takes up to 1,500 bytes of stack; Python's
            parser accepts some 1,000 to 10,000.
        pattern_characters: of a regular expression, with its quotes. The memory for one grows with the square of its groups:
            20,000 of them take 25 GB.
    """

    characters: int = 4096
    total_characters: int = 32768
    least_characters: int = 16
    brackets: int = 10
    chain: int = 100
    json_depth: int = 100
    pattern_characters: int = 512


EXPRESSIONS = ExpressionSettings()
"""The defaults, for arguments."""


class ForwardSettings(NamedTuple):
    """Clients' messages on their way to the origin.

    Attributes:
        held_bytes: most bytes held until the origin is connected; in a greeter, for clients of one Lobby that have lost their
            lobby. As much as may wait for an origin that reads slowly.
        held_bytes_per_client: most bytes of them from one client, but always one message: enough for what a client sends when
            it connects, so little that a few clients can't take all of it.
        hold_seconds: how long a message is held. The longest wait of `origin.reconnect` by default; what a client wanted
            longer ago it may not want any more.
        blame_seconds: an origin that closes its connection within this time after a client's message may have done so because
            of it: a round trip to the other side of the earth, and time to look at the message.
        blame_messages: most messages for which it is remembered who sent them, here and over another lobby; at the default
            rate ten times as many as are needed.
        objections: after this many such closes in a row, nothing is forwarded for a while. Each costs every client the time
            of a reconnect.
        objection_seconds: seconds after which one of them is forgotten, and at most that long nothing is forwarded: with a
            reconnect of one second, the stream is there 95 % of the time whatever clients send.
    """

    held_bytes: int = 1 << 20
    held_bytes_per_client: int = 64 << 10
    hold_seconds: float = 30.0
    blame_seconds: float = 1.0
    blame_messages: int = 1024
    objections: int = 3
    objection_seconds: float = 20.0


class RelaySettings(NamedTuple):
    """Lobbies that take their stream from another lobby, and the change from one source of the stream to the next.

    Attributes:
        max_depth: most lobbies that a stream comes over on its way from the origin's connection. Two: with `max_relays` each,
            that is enough for a thousand lobbies, and each costs latency.
        max_relays: most lobbies that one lobby serves: as much work as 32 greeters, a small part of its clients.
        wait_seconds: how long a stream that has stopped waits for a source that continues it exactly, before one continues it
            as it is. Asking a peer takes milliseconds; two lobbies of one origin are rarely further apart than this.
        try_seconds: interval between two comparisons of a candidate with the stream, while another source is active.
        history_messages: most messages that a lobby without any takes from a peer, so that it can continue the streams of
            clients that come from a lobby that has ended: what an origin sends within a few seconds.
        renew_seconds: how long a renewed session may bring something else than the stream before it takes over as it is.
        renew_slow_seconds: how long the place in a renewed session is searched at most: a stream of one message in two minutes
            still gets its place.
        own_seconds: how long the place in a session of the lobby's own is searched, at least, while the stream comes from a
            peer. After that the session is closed for a while.
        own_messages: fewest messages that it has brought by then: the place is only certain after 16, and heartbeats do not
            count.
        own_slow_seconds: how long it is searched in a session that brings fewer: a stream of one message in two minutes still
            gets its place.
        min_pause_seconds: upper bound of the first pause after such a session; it doubles with each that follows. What kept
            the place from being found, such as messages that all look alike, may be over by then.
        max_pause_seconds: upper bound of any such pause.
        ask_seconds: how long to wait for a peer's answer before the next one is asked, too: several round trips.
        welcome_seconds: how long a peer may take to answer; its own `resume_wait_seconds` and a round trip.
        min_backoff_seconds: upper bound of the first wait after no peer had a stream; doubles with each round.
        max_backoff_seconds: upper bound of any such wait: another lobby may have connected meanwhile.
        linger_seconds: how long a peer's stream is kept after it was last needed, as with an origin's connection.
        candidate_messages: most messages of a candidate that are kept: at 1,000 a second, what comes in four seconds.
        candidate_bytes: most bytes of them.
    """

    max_depth: int = 2
    max_relays: int = 32
    wait_seconds: float = 1.0
    try_seconds: float = 0.05
    history_messages: int = 4096
    renew_seconds: float = 30.0
    renew_slow_seconds: float = 3600.0
    own_seconds: float = 30.0
    own_messages: int = 32
    own_slow_seconds: float = 3600.0
    min_pause_seconds: float = 60.0
    max_pause_seconds: float = 3600.0
    ask_seconds: float = 0.05
    welcome_seconds: float = 1.5
    min_backoff_seconds: float = 0.05
    max_backoff_seconds: float = 0.5
    linger_seconds: float = 10.0
    candidate_messages: int = 4096
    candidate_bytes: int = 4 << 20


RELAY = RelaySettings()
"""The defaults, for arguments."""


class IdentitySettings(NamedTuple):
    """The search for a place in a stream by the identities of messages (`origin.identity`).

    Attributes:
        index_bytes: bytes of messages whose identities are computed in one turn of the event loop; a message counts as 512
            more. JSON takes at most 5 ms, payloads 1 ms; all that a ring keeps would take half a second. An expression gets a
            part of them that takes as long.
        index_seconds: how much longer than usual a consumer waits for its place while that goes on: several times what a full
            ring takes, since other work goes on, too.
        looked_at: most messages that are searched for the 16 of a position, so that few having an identity costs little.
    """

    index_bytes: int = 64 << 10
    index_seconds: float = 3.0
    looked_at: int = 256


IDENTITIES = IdentitySettings()
"""The defaults, for arguments."""


class LobbySettings(NamedTuple):
    """A lobby process.

    Attributes:
        origin: settings of its connection to the origin.
        forward: settings of clients' messages to the origin.
        relay: settings of streams from and to other lobbies.
        ring_messages: most messages kept for replay, resuming and slow greeters.
        ring_bytes: most bytes of them: an upper bound on this memory, however fast the origin is.
        subprotocol_wait_seconds: how long a client that offers a subprotocol of the origin is kept waiting for the origin to
            choose one, since it is to be told the same. Connecting rarely takes longer; after that it gets none.
        resume_wait_seconds: how long a direct client waits to resume if its place may be ahead of this lobby; as on a trunk.
        resume_poll_seconds: interval between looks whether this lobby has caught up with such clients. Each look costs 0.1 ms
            for each of them; clients wait that long for a reconnect anyway.
        sweep_seconds: interval between checks for silent clients. Adds to `clients.pingSeconds`.
        stop_seconds: how long a stopping lobby waits at most until its clients, which keep getting the stream, have moved
            elsewhere. Longer in a pod, where another lobby may have to be started first.
        stop_spread_seconds: seconds over which a stopping lobby spreads the moves of its clients and the closes of direct ones
            (at most half of `stop_seconds`), so that they don't arrive elsewhere all at once.
        drain_spread_seconds: the same for a draining lobby (at most half of the Lobby's `drainSeconds`), which has more time.
        preconnect_seconds: how long a lobby without clients stays connected to its origin after the lobby host asked for it.
            The lobby host repeats the request after half of that, so it must be many polls long; and short, since some
            origins charge for connections.
    """

    origin: OriginSettings = ORIGIN
    forward: ForwardSettings = ForwardSettings()
    relay: RelaySettings = RELAY
    ring_messages: int = 16384
    ring_bytes: int = 8 << 20
    subprotocol_wait_seconds: float = 5.0
    resume_wait_seconds: float = 1.0
    resume_poll_seconds: float = 0.05
    sweep_seconds: float = 2.5
    stop_seconds: float = 2.0
    stop_spread_seconds: float = 5.0
    drain_spread_seconds: float = 10.0
    preconnect_seconds: float = 60.0


class ClientSettings(NamedTuple):
    """The connection of one client.

    Attributes:
        ping_timeout_seconds: a pinged client that sends nothing for this long is closed. Shorter than the minute after which
            many load balancers drop an idle connection, and long enough for a phone that changes networks.
        close_timeout_seconds: how long to wait for the client's close frame: a few round trips on a bad line.
        flood_close_timeout_seconds: the same after a flood, when nothing more is read from the client: time for our close
            frame to arrive.
        read_bytes: most bytes of one read. In frames of six bytes they take 3 ms to parse, during which no other client is
            served; 64 KiB would take 17 ms.
        deflated_read_bytes: the same for a client whose messages may be compressed. DEFLATE shrinks by 1032 at most, so they
            inflate to 2 MiB, which takes 6 ms; 16 KiB would take 50 ms.
        send_bytes: most bytes of one send of messages that waited: as many as Linux puts into one buffer, so that packets are
            full, and few enough that other clients don't wait for the copy.
        not_reading_seconds: a client whose receive window is seen closed for this long counts as not reading. A busy program
            that reads nothing for half a second loses nothing; one that stops is back at the newest messages soon after.
        silent_line_seconds: a client whose line has acknowledged nothing for this long counts as not reading. Longer than two
            retransmission timeouts on a line around the world, so that a lost packet is not taken for that.
        stalled_seconds: a client whose socket is full and that has taken nothing for this long is closed. A phone in a tunnel
            or a laptop that sleeps for a moment stays.
    """

    ping_timeout_seconds: float = 20.0
    close_timeout_seconds: float = 5.0
    flood_close_timeout_seconds: float = 1.0
    read_bytes: int = 16384
    deflated_read_bytes: int = 2048
    send_bytes: int = 65536
    not_reading_seconds: float = 1.0
    silent_line_seconds: float = 2.0
    stalled_seconds: float = 60.0


class BatchingSettings(NamedTuple):
    """Messages that are gathered to go out in one send per client.

    Attributes:
        max_bytes: once this many bytes wait, they are sent. As many as Linux puts into one buffer, like
            `ClientSettings.send_bytes`: more would save nothing, and fill the sockets of clients that keep up.
    """

    max_bytes: int = 65536


class MemorySettings(NamedTuple):
    """The memory limit of a process.

    Attributes:
        sample_seconds: interval between samples of the resident memory. Each takes microseconds; clients that connect within
            a second take a few percent of the limit at most.
        group_share: default limit, as a share of the control group's limit. The rest is for work under way when the limit is
            reached.
    """

    sample_seconds: float = 1.0
    group_share: float = 0.9


class RepeatSettings(NamedTuple):
    """Which repeated failures are logged. Times are in seconds.

    Attributes:
        remind_seconds: between two lines about problems that are known; a pause of that length ends a series that nothing
            else ends. Ten minutes: whoever looks at the log of the last quarter of an hour sees them.
        settle_seconds: a failure this soon after a success belongs to the same series. A minute is longer than any pause
            between two attempts.
        max_problems: most problems of a series that are logged when seen first, so that texts that always differ don't
            fill the log.
    """

    remind_seconds: float = 600.0
    settle_seconds: float = 60.0
    max_problems: int = 8


class FileWatchSettings(NamedTuple):
    """Watches of files that may be replaced while a process runs.

    Attributes:
        poll_seconds: interval between polls. A poll takes microseconds; a kubelet takes up to a minute to update a mounted
            file, so another second makes no difference.
    """

    poll_seconds: float = 1.0


class TrunkServerSettings(NamedTuple):
    """The lobby's end of a trunk, and its socket.

    Attributes:
        status_seconds: interval between STATUS records. A quarter of the time after which a greeter gives up, so that a late
            one doesn't end the trunk.
        consumer_timeout_seconds: a consumer that sends nothing for this long is considered lost, and its seats are released.
            A busy greeter may pause for seconds (many handshakes at once), and its clients would lose their seats.
        resume_wait_seconds: how long to wait for messages if a position is ahead of the ring, before answering live: two
            lobbies of one origin are rarely further apart.
        looks_per_second: how often a position that may be ahead is looked for meanwhile. A look takes 0.2 ms.
        looks_at_once: messages in a row after each of which it is looked for all the same: a lobby that is behind is usually
            so by a few.
        record_bytes: approximate size of a record when batches are merged for a consumer that lags: so large that headers and
            system calls don't matter, so small that other records are not delayed.
        max_answers: most answers waiting to be sent. A consumer that claims more without reading any is broken.
        close_timeout_seconds: how long to wait for the greeter's close frame. It is near, and its clients are waiting.
        read_bytes: most bytes of one read: many records, or part of a large client message.
        unsent_bytes: most unsent bytes in the kernel (TCP_NOTSENT_LOWAT): enough to keep the network busy, so few that the
            stream hardly lags.
    """

    status_seconds: float = 0.5
    consumer_timeout_seconds: float = 5.0
    resume_wait_seconds: float = 1.0
    looks_per_second: float = 50.0
    looks_at_once: int = 16
    record_bytes: int = 256 << 10
    max_answers: int = 4096
    close_timeout_seconds: float = 2.0
    read_bytes: int = 65536
    unsent_bytes: int = 256 << 10


class TrunkConsumerSettings(NamedTuple):
    """The greeter's end of a trunk.

    Attributes:
        open_timeout_seconds: most seconds for TCP and the handshake; a lobby is near.
        max_buffered_bytes: most bytes of client messages that wait for a slow lobby; more are not accepted, so that it can't
            fill the memory.
        heartbeat_seconds: interval between HEARTBEAT records: a tenth of the time after which a lobby gives up.
        lobby_timeout_seconds: a lobby that sends nothing for this long is considered lost, and its clients get seats
            elsewhere. Four times the interval of STATUS; shorter than the lobby's own timeout, since its clients wait.
        responsive_seconds: if a trunk ends less than this after its lobby sent something, the lobby may still be running and
            is asked first. Twice the interval of STATUS.
        token_seconds: lifetime of the token that opens a trunk: enough to connect, even if clocks differ a little.
        subprotocol_wait_seconds: how long a client that offers a subprotocol of the origin is kept waiting for the origin to
            choose one: as in a lobby.
        replay_bytes: most bytes of messages kept for joining clients, but always the newest message: as in a lobby.
        find_seconds: how long clients of a draining lobby stay there at most because the next one has not found their place.
            A lobby that has just connected needs 16 messages of its origin for that, which may take seconds.
        find_again_seconds: interval between two such questions. Each costs the lobby a fraction of a millisecond.
    """

    open_timeout_seconds: float = 3.0
    max_buffered_bytes: int = 1 << 20
    heartbeat_seconds: float = 0.5
    lobby_timeout_seconds: float = 2.0
    responsive_seconds: float = 1.0
    token_seconds: float = 30.0
    subprotocol_wait_seconds: float = 5.0
    replay_bytes: int = 8 << 20
    find_seconds: float = 10.0
    find_again_seconds: float = 0.1


class SeatQueueSettings(NamedTuple):
    """How long a greeter waits for seats, and how long it believes what it learned about lobbies.

    Attributes:
        claim_seconds: a claim that is not answered within this time has failed. Includes opening the trunk.
        full_seconds: a full lobby is not asked again for this long, unless it reports a free seat.
        draining_seconds: the same for a draining lobby; by then it has left the directory.
        min_failed_seconds: the same for a lobby that failed; doubles with each failure in a row.
        max_failed_seconds: upper limit of that. A lobby is asked after all others for this long after it failed.
        unseen_ticket_seconds: how long a redirected client counts as a client of its lobby without appearing in the directory.
        min_lost_seconds: shortest time that a client whose lobby is gone waits for a new seat: time to start another lobby.
        move_interval_seconds: shortest time between two batches of clients that start to move from a draining lobby. A batch
            shares one claim and one RESUME: 512 clients that move within 10 s cost at most 100 of each.
    """

    claim_seconds: float = 1.0
    full_seconds: float = 1.0
    draining_seconds: float = 10.0
    min_failed_seconds: float = 1.0
    max_failed_seconds: float = 15.0
    unseen_ticket_seconds: float = 10.0
    min_lost_seconds: float = 30.0
    move_interval_seconds: float = 0.1

    def lost_seconds(self, wait_seconds: float) -> float:
        """How long a client whose lobby is gone waits for a new seat, with this `waitSeconds` of its Lobby."""
        return max(wait_seconds, self.min_lost_seconds)


class RemovalSettings(NamedTuple):
    """How a greeter closes the clients of a deleted Lobby.

    Attributes:
        batch: clients closed in one turn of the event loop. Closing one takes about 20 µs, and clients of other Lobbies should
            not wait longer than 10 ms for their messages.
        pause_seconds: between two batches: 10,000 clients are closed within a second, and most of the time is left for others.
    """

    batch: int = 500
    pause_seconds: float = 0.05


class AdmissionSettings(NamedTuple):
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


class ListenerSettings(NamedTuple):
    """The port for clients: what a connection may cost before it is a client.

    Attributes:
        timeout_seconds: most seconds from the TCP connection to the last byte of the request; a slow phone takes one or two.
        max_header_bytes: longest request line with all headers; enough for browsers' cookies and tokens.
        max_pending: most connections with an incomplete request; beyond that the oldest is refused. Each takes about 1 KiB.
        max_lingering: most refused connections kept open until the client has read the refusal; beyond that they are closed at
            once, since each takes a descriptor.
        linger_seconds: how long each of those is kept open: time for the refusal to arrive and be read.
        backlog: most connections that the kernel queues until they are accepted: a burst after a restart must not be refused.
        accepts_per_turn: most connections accepted per turn of the event loop, so that connected clients don't wait.
        accept_pause_seconds: how long accepting pauses when the process is out of descriptors, instead of failing in a loop.
    """

    timeout_seconds: float = 10.0
    max_header_bytes: int = 16384
    max_pending: int = 4096
    max_lingering: int = 1024
    linger_seconds: float = 2.0
    backlog: int = 4096
    accepts_per_turn: int = 64
    accept_pause_seconds: float = 0.2


class WebSocketClientSettings(NamedTuple):
    """An outgoing WebSocket connection: to an origin, or a trunk to a lobby.

    Attributes:
        open_timeout_seconds: most seconds for DNS, TCP, TLS and handshake: far origins take one, a lost packet another.
        close_timeout_seconds: how long to wait for the peer's close frame. Nothing depends on it, so it is short.
        read_bytes: most bytes of one read, so that a burst of an origin is passed on in few calls.
        max_head_bytes: longest head of a response to the handshake, so that an endless one can't fill the memory.
        max_buffered_for_pong: bytes waiting for room in the socket above which pings are not answered: a peer that pings and
            never reads must not fill the memory.
        max_pongs_per_read: most pings of one read that are answered, besides the latest: each takes a system call, and a read
            may bring 130,000.
        attempt_delay_seconds: head start of an address of a host over the next one; RFC 8305 §5 recommends 250 ms.
    """

    open_timeout_seconds: float = 10.0
    close_timeout_seconds: float = 2.0
    read_bytes: int = 256 << 10
    max_head_bytes: int = 65536
    max_buffered_for_pong: int = 65536
    max_pongs_per_read: int = 256
    attempt_delay_seconds: float = 0.25


class AdminSettings(NamedTuple):
    """The admin port.

    Attributes:
        request_timeout_seconds: most seconds for a request to arrive, and for its response to be read; both take milliseconds.
        max_body_bytes: longest body of a request; ours have none.
        max_connections: most connections. Beyond that, the one that has waited longest for its peer is closed, so that
            half-open connections keep no probe out. Probes, scrapers and people need a few.
        max_connections_per_peer: most connections of one address (of a /64 network for IPv6), likewise, so that one peer
            doesn't disconnect the others. A browser with several tabs has a dozen.
        backlog: most connections that the kernel queues until they are accepted: all that one peer may open at once.
    """

    request_timeout_seconds: float = 10.0
    max_body_bytes: int = 65536
    max_connections: int = 256
    max_connections_per_peer: int = 64
    backlog: int = 1024


class HttpClientSettings(NamedTuple):
    """The HTTP client. Its user sets the timeout of a whole request.

    Attributes:
        connect_timeout_seconds: most seconds for TCP and TLS; within a network they take milliseconds.
        max_body_bytes: longest response accepted; `/seats` and `/waiting` take kilobytes.
        max_line_bytes: longest line of a streamed response, so that an endless one can't fill the memory.
    """

    connect_timeout_seconds: float = 5.0
    max_body_bytes: int = 4 << 20
    max_line_bytes: int = 8 << 20


class WatchSettings(NamedTuple):
    """How a greeter lists and watches Lobbies.

    Attributes:
        start_seconds: how long a starting greeter waits for the first list. After that it opens its ports without it, and
            refuses clients until the list arrives.
        watch_seconds: the server ends a watch after this time, minus a random tenth at most, so that greeters don't all return
            at once.
        idle_seconds: a watch without data for this long is considered lost. A server sends a bookmark about once a minute.
        page: Lobbies per page of a list; bounds the size of a response.
        connect_timeout_seconds: most seconds for TCP and TLS; the API server is near.
        response_timeout_seconds: most seconds, in addition to those, for the head of a response or a whole page of a list.
        max_list_bytes: longest page of a list; a page of the largest possible Lobbies is longer, one of real ones takes 1 MiB.
        max_event_bytes: longest event. An object in etcd has at most 1.5 MiB, which JSON may lengthen.
        min_backoff_seconds: upper bound of the first wait after a failure; doubles with each failure.
        max_backoff_seconds: upper bound of any wait: a server that responds again should be noticed within seconds.
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


class TokenSettings(NamedTuple):
    """Tokens and the rotation of their keys.

    Attributes:
        ticket_seconds: lifetime of the token in a redirect: enough for a client on a slow line to connect, short enough to be
            useless when it turns up in a log later.
        request_seconds: lifetime of the token of a request of the lobby host (to drain, say), which is sent at once.
        clock_tolerance_seconds: how long after it expires a token is still accepted, because clocks of nodes differ. Without
            it, a lobby whose clock is ahead by the lifetime of a token would accept none. With NTP it is milliseconds.
        activation_seconds: how long a new key only verifies before it signs, so that all processes have it by then. A kubelet
            checks once a minute whether a mounted Secret has changed, from a cache that may be as old (Kubernetes, "Mounted
            Secrets are updated automatically"). That happens twice in a row: the operator gets the master key, and lobbies
            get the key that it derives. The rest is a margin.
        retired_key_seconds: how long a removed key still verifies. The last process to see the change may see it
            `activation_seconds` late, sign with the old key for as long again, and its tokens live for `ticket_seconds`.
        used_tokens: most used tokens that a lobby remembers, at 80 bytes each; far more than it can have clients.
    """

    ticket_seconds: int = 30
    request_seconds: int = 30
    clock_tolerance_seconds: float = 120.0
    activation_seconds: float = 300.0
    retired_key_seconds: float = 660.0
    used_tokens: int = 65_536


TOKEN_KEY_VARIABLE = "LOBBY_TOKEN_KEY"  # noqa: S105  # the name of the variable, not its value
"""Environment variable with the key of tokens, in hex: at least 32 bytes. For a greeter the master key, for a lobby the key of
its namespace; without a namespace they are the same."""


class StreamSettings(NamedTuple):
    """The client of `lobby_gateway.client`.

    Attributes:
        min_backoff_seconds: upper bound of the first wait before it reconnects, which is random: the clients of a greeter that
            was killed come back within this time, and another greeter takes a thousand of them.
        max_backoff_seconds: upper bound of any wait; it doubles with each attempt.
        stable_seconds: a connection that lasted this long was a success and resets the back-off, as for an origin's.
        no_seat_seconds: fewest seconds to wait after 1013 (no seat became free in time); as Retry-After of the refusal.
        max_retry_after_seconds: longest Retry-After that is honored, so that a mistaken one can't stop a client for days.
        max_message_bytes: largest message accepted: the largest that a Lobby may accept from its origin.
    """

    min_backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30.0
    stable_seconds: float = 10.0
    no_seat_seconds: float = 5.0
    max_retry_after_seconds: float = 300.0
    max_message_bytes: int = 64 << 20


class BenchSettings(NamedTuple):
    """The clients of `lobby bench`.

    Attributes:
        timed_clients: clients whose latency is measured, evenly spread over all. Waiting for every client would take as much
            CPU time as the server, or more; 64 give stable percentiles.
        max_connecting: most handshakes under way at once: enough to keep the server busy, and less than its backlog.
        handshake_seconds: how long a client may take to connect.
        max_redirects: most redirects a client follows; greeters need one.
        turn_seconds: between two updates of the progress bar.
        max_events: most sockets handled per turn.
        longest_pause_seconds: most time between two reads of the clients that are not timed.
        shortest_pause_seconds: least time between them; below it, reading would take a whole core.
        hurry_bytes: if one of these clients had more bytes waiting, the pause is halved. Receive buffers hold at least
            64 KiB, so they never fill up.
        metrics_seconds: interval between two looks at the metrics of the server: each costs it a few milliseconds.
        metrics_timeout_seconds: how long to wait for them. A server that is busy with the clients answers late.
    """

    timed_clients: int = 64
    max_connecting: int = 256
    handshake_seconds: float = 10.0
    max_redirects: int = 5
    turn_seconds: float = 0.1
    max_events: int = 1024
    longest_pause_seconds: float = 0.25
    shortest_pause_seconds: float = 0.001
    hurry_bytes: int = 8192
    metrics_seconds: float = 1.0
    metrics_timeout_seconds: float = 5.0
