"""Every metric of lobby and greeter: one table for the code and the docs.

The hot path counts in plain integers, which are read when Prometheus scrapes. All labels are bounded: their values are listed
in the code and start at 0, or are keys of Lobbies.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from lobby_gateway import __version__, close_codes
from lobby_gateway.clients.tokens import RESULTS
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginState


@dataclass(frozen=True, slots=True)
class Distribution:
    """The state of a histogram.

    Attributes:
        bounds: upper bounds of all buckets but the last, which has none.
        counts: observations per bucket; not cumulative.
        total: sum of the observations.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


Value = float | Mapping[str, float] | Mapping[tuple[str, ...], float] | Distribution
"""A number; a number for each value of the metric's label (a tuple if there are several labels); or a histogram."""

Samples = Mapping[str, Value]
"""Values by the name of the metric."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a metric, and the bound of its values.

    Attributes:
        name: as Prometheus sees it.
        values: all values; empty if they are not constants.
        bound: what the values are then, and what bounds their number.
    """

    name: str
    values: tuple[str, ...] = ()
    bound: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes:
        name: as Prometheus sees it; counters end in `_total`.
        kind: its Prometheus type.
        text: what it measures, with the unit.
        labels: its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[Label, ...] = ()


FATES: tuple[str, ...] = ("ignored", "forwarded", "rejected", "undeliverable")
"""What happens to a message from a client; undeliverable: the origin was not connected in time, or did not accept it."""

VERDICTS: tuple[str, ...] = ("exact", "live")
"""How a stream continues elsewhere: exact, without a gap or a duplicate; or live, with the next message."""

FORMS: tuple[str, ...] = ("location", "json")
"""How a client is redirected: 307 with a Location, or 200 with a ticket as JSON."""

SIDES: tuple[str, ...] = ("direct", "trunk")
"""How a client is connected to its lobby."""

SOURCES: tuple[str, ...] = ("origin", "peer", "none")
"""Where a lobby's stream comes from: its own origin connection, another lobby, or nowhere now."""

CHANGES: tuple[str, ...] = ("origin", "renewal", "peer")
"""What a lobby's stream changes to: an own connection after a loss, a renewed connection, another lobby."""

NAME_OF_A_LOBBY = Label("lobby", bound="key of a Lobby, one for each Lobby")

LAG_BUCKETS: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""


def loop_lag(prefix: str) -> Definition:
    """How busy a process is, as its clients notice it."""
    return Definition(
        f"{prefix}_event_loop_lag_seconds",
        "histogram",
        "How late the event loop runs timers, measured twice per second.",
    )


def build_info(prefix: str) -> Definition:
    """Which version of the software a process runs."""
    labels = (
        Label("version", bound="version of Lobby Gateway, one for each process"),
        Label("python", bound="version of Python, one for each process"),
    )
    return Definition(f"{prefix}_build_info", "gauge", "1, with the versions of Lobby Gateway and Python.", labels)


def read_build_info(prefix: str) -> Samples:
    """The value of `build_info`."""
    versions: dict[tuple[str, ...], float] = {(__version__, platform.python_version()): 1}
    return {f"{prefix}_build_info": versions}


def _stream(prefix: str) -> tuple[Definition, ...]:
    """Metrics of clients, the same in lobbies and greeters."""
    closes = (Label("reason", close_codes.CLOSE_LABELS),)
    refusals = (Label("reason", tuple(refusal.label for refusal in close_codes.REFUSALS)),)
    fates = (Label("fate", FATES),)
    return (
        Definition(f"{prefix}_deliveries_total", "counter", "Messages written to the sockets of clients."),
        Definition(
            f"{prefix}_delivered_bytes_total", "counter", "Bytes of messages written to the sockets of clients."
        ),
        Definition(
            f"{prefix}_dropped_messages_total",
            "counter",
            "Messages that a client did not get: it did not read (slow), its line or program was too slow (old), or the "
            "bytes that may wait were used up (memory).",
            (Label("reason", ("slow", "old", "memory")),),
        ),
        Definition(
            f"{prefix}_mailbox_high_water_messages", "gauge", "Most messages that have ever waited for one client."
        ),
        Definition(
            f"{prefix}_clients_behind",
            "gauge",
            "Clients whose socket is full, because what was sent is still on the way (line) or because they do not read "
            "(not_reading).",
            (Label("cause", ("line", "not_reading")),),
        ),
        Definition(f"{prefix}_client_lag_messages", "gauge", "Most messages that wait for one client now."),
        Definition(f"{prefix}_client_lag_seconds", "gauge", "Longest that a message has waited for a client now."),
        Definition(f"{prefix}_closes_total", "counter", "Closed clients, by reason.", closes),
        Definition(f"{prefix}_handshakes_total", "counter", "Handshakes answered with 101."),
        Definition(f"{prefix}_refusals_total", "counter", "Handshakes refused, by reason.", refusals),
        Definition(
            f"{prefix}_abandoned_handshakes_total", "counter", "Connections that ended before they were answered."
        ),
        Definition(
            f"{prefix}_client_messages_total", "counter", "Messages from clients, by what became of them.", fates
        ),
        Definition(f"{prefix}_client_message_bytes_total", "counter", "Payload bytes of those messages."),
        Definition(
            f"{prefix}_max_memory_bytes",
            "gauge",
            "Resident bytes above which no new clients are accepted; 0: no limit.",
        ),
        loop_lag(prefix),
        build_info(prefix),
    )


_STATE = Label("state", tuple(state.value for state in OriginState))
_FAILURE = Label("failure", tuple(failure.value for failure in Failure))
_VERDICT = Label("verdict", VERDICTS)

LOBBY: tuple[Definition, ...] = (
    Definition("lobby_seats", "gauge", "Seats of this lobby."),
    Definition(
        "lobby_clients", "gauge", "Seats taken, directly or through the trunk of a greeter.", (Label("via", SIDES),)
    ),
    Definition("lobby_draining", "gauge", "1 while this lobby accepts no new clients."),
    Definition("lobby_messages_total", "counter", "Messages received from the origin."),
    Definition("lobby_message_bytes_total", "counter", "Bytes of the frames of those messages."),
    Definition("lobby_stream_offset", "gauge", "Offset of the stream: messages since it last began or broke."),
    Definition("lobby_origin_state", "gauge", "1 for the state of the origin connection, 0 for all others.", (_STATE,)),
    Definition(
        "lobby_origin_connections_total", "counter", "Origin connections made; all but the first are reconnects."
    ),
    Definition("lobby_origin_attempts_total", "counter", "Attempts to connect to the origin."),
    Definition("lobby_origin_failures_total", "counter", "Failures of the origin connection, by kind.", (_FAILURE,)),
    Definition(
        "lobby_stream_source",
        "gauge",
        "1 for where the stream comes from (its own origin connection, a peer, which is another lobby, or nowhere), 0 for "
        "the others.",
        (Label("source", SOURCES),),
    ),
    Definition("lobby_stream_depth", "gauge", "Lobbies that the stream comes over; 0: its own origin connection."),
    Definition(
        "lobby_source_changes_total",
        "counter",
        "Changes of where the stream comes from. exact: it went on at the same message, and no client noticed. live: with "
        "the next message, so that some may be missing.",
        (Label("to", CHANGES), Label("verdict", VERDICTS)),
    ),
    Definition("lobby_stream_gaps_total", "counter", "Times that the stream did not go on at the same message."),
    Definition(
        "lobby_stream_skipped_messages_total", "counter", "Messages that this lobby was too slow to take from a peer."
    ),
    Definition(
        "lobby_origin_suspensions_total",
        "counter",
        "Times that the lobby closed its own origin connection for a while, because the stream, which came from a peer, was "
        "not found in it.",
    ),
    Definition("lobby_relays", "gauge", "Lobbies that take their stream from this one; included in lobby_trunks."),
    Definition("lobby_trunks", "gauge", "Trunks of greeters and other lobbies."),
    Definition("lobby_trunk_behind_messages", "gauge", "Messages not yet sent on the trunk that is furthest behind."),
    Definition("lobby_trunk_missed_messages_total", "counter", "Messages that slow greeters missed."),
    Definition("lobby_ring_messages", "gauge", "Messages in the ring, for replay and resuming."),
    Definition("lobby_ring_bytes", "gauge", "Bytes in the ring."),
    Definition(
        "lobby_tokens_total",
        "counter",
        "Tokens of clients, greeters and the lobby host, by what became of them. late: accepted, although it had expired "
        "(the clocks of two nodes differ by more than the lifetime of a token).",
        (Label("result", RESULTS),),
    ),
    Definition("lobby_resumes_total", "counter", "Direct clients that asked to resume, by verdict.", (_VERDICT,)),
    *_stream("lobby"),
)

_BY_LOBBY = (NAME_OF_A_LOBBY,)

GREETER: tuple[Definition, ...] = (
    Definition("greeter_clients", "gauge", "Clients of this greeter, by Lobby.", _BY_LOBBY),
    Definition("greeter_waiting_clients", "gauge", "Clients without a seat, by Lobby.", _BY_LOBBY),
    Definition("greeter_max_clients", "gauge", "Most clients, including waiting ones; 0: no limit."),
    Definition(
        "greeter_directory_current", "gauge", "0 while the greeter gets no updates of Lobbies and uses the last ones."
    ),
    Definition("greeter_trunks", "gauge", "Trunks to lobbies, including those being opened."),
    Definition(
        "greeter_stream_offset",
        "gauge",
        "Highest offset of the trunks of the Lobby; 0 without a trunk.",
        _BY_LOBBY,
    ),
    Definition(
        "greeter_trunk_losses_total", "counter", "Trunks that ended or stopped responding while they had clients."
    ),
    Definition("greeter_trunk_missed_messages_total", "counter", "Messages that this greeter was too slow to receive."),
    Definition("greeter_moves_total", "counter", "Clients moved to another lobby or trunk, by verdict.", (_VERDICT,)),
    Definition("greeter_resumes_total", "counter", "Clients that asked to resume, by verdict.", (_VERDICT,)),
    Definition("greeter_moving_clients", "gauge", "Clients between two lobbies: seated, but not in the stream yet."),
    Definition("greeter_messages_total", "counter", "Messages received over trunks."),
    Definition("greeter_message_bytes_total", "counter", "Bytes of the frames of those messages."),
    Definition(
        "greeter_redirects_total", "counter", "Redirected clients, by form of the response.", (Label("form", FORMS),)
    ),
    *_stream("greeter"),
)

PROCESS: tuple[Definition, ...] = (
    Definition("process_cpu_seconds_total", "counter", "User and system CPU time, in seconds."),
    Definition("process_resident_memory_bytes", "gauge", "Resident memory."),
    Definition("process_virtual_memory_bytes", "gauge", "Virtual memory."),
    Definition("process_start_time_seconds", "gauge", "When the process started, as Unix time."),
    Definition("process_open_fds", "gauge", "Open file descriptors: one for each client, and a few more."),
    Definition("process_max_fds", "gauge", "Most file descriptors that may be open."),
)
"""Metrics of every process; prometheus-client reads them from the kernel."""


class TableCollector(Collector):
    """Collects a table of metrics, with the samples that `read` returns at the time of the scrape.

    A sample without a definition, or a definition without a sample, is a `KeyError`, so the table is complete.
    """

    def __init__(self, table: tuple[Definition, ...], read: Callable[[], Samples]) -> None:
        self._table = table
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Reads all metrics (called for each scrape)."""
        samples = self._read()
        unknown = set(samples) - {definition.name for definition in self._table}
        if unknown:
            raise KeyError(f"no definition for {', '.join(sorted(unknown))}")
        for definition in self._table:
            yield _family(definition, samples[definition.name])


def _family(definition: Definition, value: Value) -> Metric:
    labels = [label.name for label in definition.labels]
    if isinstance(value, Distribution):
        histogram = HistogramMetricFamily(definition.name, definition.text, labels=labels)
        bounds = [*map(floatToGoString, value.bounds), "+Inf"]
        histogram.add_metric([], list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        return histogram
    family = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    metric = family(definition.name, definition.text, labels=labels)
    if isinstance(value, Mapping):
        for key, number in value.items():
            metric.add_metric([key] if isinstance(key, str) else list(key), number)
    else:
        metric.add_metric([], value)
    return metric


def registry(table: tuple[Definition, ...], read: Callable[[], Samples]) -> CollectorRegistry:
    """A registry with the metrics of a table and those of the process (CPU, memory, descriptors)."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(TableCollector(table, read))
    return made


_LAG_INTERVAL = 0.5


class LoopLag:
    """How late the event loop runs timers."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LAG_BUCKETS) + 1)
        self._total = 0.0

    def distribution(self) -> Distribution:
        """The measurements so far."""
        return Distribution(LAG_BUCKETS, tuple(self._counts), self._total)

    def observe(self, seconds: float) -> None:
        """Adds a measurement."""
        self._counts[bisect_left(LAG_BUCKETS, seconds)] += 1
        self._total += seconds

    async def watch(self) -> None:
        """Measures twice per second, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL
            await asyncio.sleep(_LAG_INTERVAL)
            self.observe(max(0.0, loop.time() - due))
