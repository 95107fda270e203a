"""Metrics that lobbies and greeters have in common: those of the client port and of message buses."""

from __future__ import annotations

from lobby_gateway.clients.admission import ProcessCapacity
from lobby_gateway.clients.message_bus import BusStats
from lobby_gateway.metrics import Value
from lobby_gateway.websocket.listener import ListenerStats


def message_bus_samples(prefix: str, stats: BusStats, behind: int) -> dict[str, Value]:
    """Samples of message buses; `behind` is the number of clients whose socket is full now."""
    return {
        f"{prefix}_deliveries_total": stats.deliveries,
        f"{prefix}_delivered_bytes_total": stats.delivered_bytes,
        f"{prefix}_dropped_messages_total": stats.dropped,
        f"{prefix}_mailbox_high_water_messages": stats.high_water,
        f"{prefix}_clients_behind": behind,
    }


def client_port_samples(prefix: str, stats: ListenerStats, capacity: ProcessCapacity) -> dict[str, Value]:
    """Samples of a client port and of the process's capacity."""
    return {
        f"{prefix}_handshakes_total": stats.accepted,
        f"{prefix}_refusals_total": dict(stats.refused),
        f"{prefix}_abandoned_handshakes_total": stats.abandoned,
        f"{prefix}_max_memory_bytes": capacity.max_memory,
    }
