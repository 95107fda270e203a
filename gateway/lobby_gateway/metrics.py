"""Every metric of lobby and greeter: one table, read by the code and the docs.

The hot path keeps plain integers; they are read when Prometheus scrapes. No label without a bound: the values of every label
are listed in a table of the code, and known values start at 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Value = float | Mapping[str, float]
"""A figure, or one for each value of the metric's label."""

Readings = Mapping[str, Value]
"""Figures by the metric's name."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes:
        name: as Prometheus sees it; a counter's ends in `_total`.
        kind: `counter` or `gauge`.
        text: what it counts, with its unit.
        label: name of its label, if it has one.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    label: str = ""


def _stream(prefix: str) -> tuple[Definition, ...]:
    """What a process that holds clients counts: the same in a lobby and in a greeter."""
    return (
        Definition(f"{prefix}_deliveries_total", "counter", "Messages handed to clients' sockets."),
        Definition(f"{prefix}_delivered_bytes_total", "counter", "Bytes handed to sockets of clients that keep up."),
        Definition(f"{prefix}_dropped_messages_total", "counter", "Messages dropped from mailboxes of slow clients."),
        Definition(f"{prefix}_mailbox_high_water_messages", "gauge", "Most messages that ever waited for one client."),
        Definition(f"{prefix}_clients_behind", "gauge", "Clients whose socket is full now."),
        Definition(f"{prefix}_closes_total", "counter", "Clients gone, by what ended them.", "reason"),
        Definition(f"{prefix}_handshakes_total", "counter", "Handshakes answered with 101."),
        Definition(f"{prefix}_refusals_total", "counter", "Handshakes refused, by reason.", "reason"),
        Definition(f"{prefix}_abandoned_handshakes_total", "counter", "Connections that ended before an answer."),
        Definition(
            f"{prefix}_client_messages_total", "counter", "Messages from clients, by what became of them.", "fate"
        ),
    )


LOBBY: tuple[Definition, ...] = (
    Definition("lobby_seats", "gauge", "Seats of this lobby."),
    Definition("lobby_clients", "gauge", "Seats taken, directly or through a greeter's trunk.", "via"),
    Definition("lobby_draining", "gauge", "1 while this lobby takes no new clients."),
    Definition("lobby_messages_total", "counter", "Messages received from the origin."),
    Definition("lobby_message_bytes_total", "counter", "Bytes of the frames of those messages."),
    Definition("lobby_origin_state", "gauge", "1 for the state of the origin connection, 0 for all others.", "state"),
    Definition("lobby_origin_connections_total", "counter", "Origin connections made, the first one included."),
    Definition("lobby_origin_attempts_total", "counter", "Tries to connect to the origin."),
    Definition("lobby_origin_failures_total", "counter", "What went wrong with the origin connection.", "failure"),
    Definition("lobby_trunks", "gauge", "Trunks of greeters."),
    Definition("lobby_trunk_missed_messages_total", "counter", "Messages that slow greeters missed."),
    Definition("lobby_ring_messages", "gauge", "Messages in the ring, for replay and resuming."),
    Definition("lobby_ring_bytes", "gauge", "Bytes in the ring."),
    Definition("lobby_resumes_total", "counter", "Consumers that went on after a position, by verdict.", "verdict"),
    *_stream("lobby"),
)

GREETER: tuple[Definition, ...] = (
    Definition("greeter_clients", "gauge", "Clients of this greeter, by name of the Lobby.", "lobby"),
    Definition("greeter_waiting_clients", "gauge", "Clients without a seat, by name of the Lobby.", "lobby"),
    Definition("greeter_trunks", "gauge", "Open trunks to lobbies."),
    Definition("greeter_trunk_losses_total", "counter", "Trunks that ended or fell silent while they had clients."),
    Definition("greeter_trunk_missed_messages_total", "counter", "Messages that this greeter was too slow to take."),
    Definition("greeter_moves_total", "counter", "Clients moved to another lobby or trunk, by verdict.", "verdict"),
    Definition("greeter_messages_total", "counter", "Messages received over trunks."),
    Definition("greeter_message_bytes_total", "counter", "Bytes of the frames of those messages."),
    Definition("greeter_redirects_total", "counter", "Clients redirected, by form of the answer.", "form"),
    *_stream("greeter"),
)

FATES: tuple[str, ...] = ("ignored", "forwarded", "rejected", "undeliverable")
"""What becomes of a client's message; undeliverable: the origin was not connected, or did not take it."""

VERDICTS: tuple[str, ...] = ("exact", "live")


class TableCollector(Collector):
    """Gives a table of metrics the figures that `read` returns at the moment of the scrape.

    A reading without a definition, or a definition without a reading, is a `KeyError`: the table is complete.
    """

    def __init__(self, table: tuple[Definition, ...], read: Callable[[], Readings]) -> None:
        self._table = table
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Reads all figures (called at each scrape)."""
        readings = self._read()
        unknown = set(readings) - {definition.name for definition in self._table}
        if unknown:
            raise KeyError(f"no definition for {', '.join(sorted(unknown))}")
        for definition in self._table:
            family = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
            labels = [definition.label] if definition.label else []
            metric = family(definition.name, definition.text, labels=labels)
            value = readings[definition.name]
            for label, number in value.items() if isinstance(value, Mapping) else (("", value),):
                metric.add_metric([label] if labels else [], number)
            yield metric


def registry(table: tuple[Definition, ...], read: Callable[[], Readings]) -> CollectorRegistry:
    """A registry with a table's metrics and those of the process (CPU, memory, descriptors)."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(TableCollector(table, read))
    return made


LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LAG_INTERVAL = 0.5


async def watch_loop_lag(made: CollectorRegistry, name: str) -> None:
    """Measures, twice a second and until cancelled, how late the event loop calls what is due."""
    lag = Histogram(name, "How late the event loop runs what is due, in seconds.", registry=made, buckets=LAG_BUCKETS)
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_INTERVAL
        await asyncio.sleep(_LAG_INTERVAL)
        lag.observe(max(0.0, loop.time() - due))
