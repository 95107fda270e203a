"""A lobby's metrics, read when Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from lobby_gateway import metrics
from lobby_gateway.clients.admission import ProcessCapacity, SeatCount
from lobby_gateway.clients.collectors import client_port_samples, message_bus_samples
from lobby_gateway.lobby.handshakes import LobbyHandshakes
from lobby_gateway.lobby.stream import LobbyStream
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.listener import ListenerStats


@dataclass(slots=True)
class LobbyStats:
    """Plain counters of a lobby, read when metrics are scraped.

    Attributes:
        messages: messages from the origin.
        bytes: bytes of their frames.
        missed_by_closed_trunks: messages that greeters were too slow to take, on trunks that are closed.
    """

    messages: int = 0
    bytes: int = 0
    missed_by_closed_trunks: int = 0


def samples(
    stats: LobbyStats,
    *,
    seat_count: SeatCount,
    capacity: ProcessCapacity,
    ring: MessageRing,
    stream: LobbyStream,
    handshakes: LobbyHandshakes,
    trunks: Collection[TrunkServerConnection],
    listener: ListenerStats,
    lag: metrics.LoopLag,
) -> metrics.Samples:
    """Everything in the table `metrics.LOBBY`."""
    direct = len(handshakes.clients)
    origin, sources = stream.own, stream.sources
    report = origin.report()
    changes: dict[tuple[str, ...], float] = {
        (kind, verdict): sources.changes[kind, verdict] for kind in metrics.CHANGES for verdict in metrics.VERDICTS
    }
    source = "none" if not sources.flowing else "peer" if sources.via else "origin"
    return {
        "lobby_seats": seat_count.total,
        "lobby_clients": {"direct": direct, "trunk": seat_count.taken - direct},
        "lobby_draining": int(seat_count.draining),
        "lobby_messages_total": stats.messages,
        "lobby_message_bytes_total": stats.bytes,
        "lobby_stream_offset": ring.offset,
        "lobby_origin_state": {str(state): int(state is report.state) for state in OriginState},
        "lobby_origin_connections_total": report.connections,
        "lobby_origin_attempts_total": origin.attempts,
        "lobby_origin_failures_total": {str(failure): origin.failures.get(failure, 0) for failure in Failure},
        "lobby_stream_source": {each: int(each == source) for each in metrics.SOURCES},
        "lobby_stream_depth": len(sources.via or ()),
        "lobby_source_changes_total": changes,
        "lobby_stream_gaps_total": sources.gaps,
        "lobby_stream_skipped_messages_total": sources.skipped,
        "lobby_origin_suspensions_total": sources.suspensions,
        "lobby_relays": sum(trunk.server.relays for trunk in trunks),
        "lobby_trunks": len(trunks),
        "lobby_trunk_behind_messages": max((trunk.server.behind for trunk in trunks), default=0),
        "lobby_trunk_missed_messages_total": stats.missed_by_closed_trunks
        + sum(trunk.server.missed for trunk in trunks),
        "lobby_ring_messages": len(ring),
        "lobby_ring_bytes": ring.bytes,
        "lobby_tokens_total": dict(handshakes.tokens),
        "lobby_resumes_total": dict(handshakes.resuming.verdicts),
        **message_bus_samples("lobby", handshakes.bus.stats, handshakes.bus.lag()),
        "lobby_closes_total": dict(handshakes.closes),
        **client_port_samples("lobby", listener, capacity),
        "lobby_client_messages_total": dict(handshakes.fates),
        "lobby_client_message_bytes_total": handshakes.client_bytes,
        "lobby_event_loop_lag_seconds": lag.distribution(),
        **metrics.read_build_info("lobby"),
    }
