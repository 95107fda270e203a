"""Metrics that lobbies and greeters have in common: those of the client port and of message buses."""

from __future__ import annotations

from lobby_gateway.clients.admission import ProcessCapacity
from lobby_gateway.clients.message_bus import BusStats, Lag
from lobby_gateway.metrics import Value
from lobby_gateway.websocket.listener import ListenerStats


def message_bus_samples(prefix: str, stats: BusStats, lag: Lag) -> dict[str, Value]:
    """Samples of message buses."""
    return {
        f"{prefix}_deliveries_total": stats.deliveries,
        f"{prefix}_delivered_bytes_total": stats.delivered_bytes,
        f"{prefix}_dropped_messages_total": stats.dropped_by,
        f"{prefix}_mailbox_high_water_messages": stats.high_water,
        f"{prefix}_clients_behind": {"line": lag.on_the_way, "not_reading": lag.not_reading},
        f"{prefix}_client_lag_messages": lag.messages,
        f"{prefix}_client_lag_seconds": lag.seconds,
    }


def client_port_samples(prefix: str, stats: ListenerStats, capacity: ProcessCapacity) -> dict[str, Value]:
    """Samples of a client port and of the process's capacity."""
    return {
        f"{prefix}_handshakes_total": stats.accepted,
        f"{prefix}_refusals_total": dict(stats.refused),
        f"{prefix}_abandoned_handshakes_total": stats.abandoned,
        f"{prefix}_max_memory_bytes": capacity.max_memory,
    }
