"""A greeter's metrics, collected when Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lobby_gateway import metrics
from lobby_gateway.clients.admission import ProcessCapacity
from lobby_gateway.clients.collectors import client_port_samples, message_bus_samples
from lobby_gateway.clients.message_bus import BusStats, Lag
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.greeter.lobby_service import LobbyService, ServiceStats
from lobby_gateway.websocket.listener import Listener, ListenerStats


def counted(service: LobbyService) -> Counter[str]:
    """The counts of one Lobby's message buses; they stay in the totals when the Lobby is removed."""
    stats = service.bus_stats
    return Counter({name: getattr(stats, name) for name in BusStats.__slots__ if name != "high_water"})


def samples(
    services: Mapping[str, LobbyService],
    stats: ServiceStats,
    *,
    listener: Listener | None,
    capacity: ProcessCapacity,
    directory: Directory,
    lag: metrics.LoopLag,
) -> metrics.Samples:
    """Everything in the table `metrics.GREETER`."""
    total = BusStats()
    for counts in (stats.gone, *map(counted, services.values())):
        for name, count in counts.items():
            setattr(total, name, getattr(total, name) + count)
    trunks = [trunk for service in services.values() for trunk in service.trunks]
    total.high_water = max([stats.gone_high_water, *(each.bus_stats.high_water for each in services.values())])
    return {
        "greeter_clients": {key: len(service.clients) for key, service in services.items()},
        "greeter_waiting_clients": {key: service.waiting for key, service in services.items()},
        "greeter_max_clients": capacity.max_clients,
        "greeter_directory_current": int(directory.current),
        "greeter_trunks": len(trunks),
        "greeter_stream_offset": {
            key: max((trunk.offset for trunk in service.trunks), default=0) for key, service in services.items()
        },
        "greeter_trunk_losses_total": stats.trunk_losses,
        "greeter_trunk_missed_messages_total": stats.trunk_missed,
        "greeter_moves_total": dict(stats.moves),
        "greeter_resumes_total": dict(stats.resumes),
        "greeter_moving_clients": sum(len(group.clients) for trunk in trunks for group in trunk.groups),
        "greeter_messages_total": total.messages,
        "greeter_message_bytes_total": total.bytes,
        "greeter_redirects_total": dict(stats.redirects),
        "greeter_closes_total": dict(stats.closes),
        "greeter_client_messages_total": dict(stats.fates),
        "greeter_client_message_bytes_total": stats.client_bytes,
        "greeter_event_loop_lag_seconds": lag.distribution(),
        **metrics.read_build_info("greeter"),
        **message_bus_samples("greeter", total, Lag.of(trunk.bus.lag() for trunk in trunks)),
        **client_port_samples("greeter", listener.stats if listener is not None else ListenerStats(), capacity),
    }
