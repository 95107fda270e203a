"""A greeter's figures, read when Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lobby_gateway import metrics
from lobby_gateway.greeter.lobby_service import LobbyService
from lobby_gateway.greeter.stats import ServiceStats
from lobby_gateway.net.listener import Listener, ListenerStats
from lobby_gateway.net.message_bus import BusStats
from lobby_gateway.net.readings import bus_readings, listener_readings


def counted(service: LobbyService) -> Counter[str]:
    """What the buses of one Lobby counted; it goes on counting when the Lobby is gone."""
    stats = service.bus_stats
    return Counter({name: getattr(stats, name) for name in BusStats.__slots__ if name != "high_water"})


def read(services: Mapping[str, LobbyService], stats: ServiceStats, listener: Listener | None) -> metrics.Readings:
    """Everything in the table `metrics.GREETER`."""
    total = BusStats()
    for counts in (stats.gone, *map(counted, services.values())):
        for name, count in counts.items():
            setattr(total, name, getattr(total, name) + count)
    total.high_water = max((service.bus_stats.high_water for service in services.values()), default=0)
    trunks = [trunk for service in services.values() for trunk in service.trunks]
    return {
        "greeter_clients": {name: len(service.clients) for name, service in services.items()},
        "greeter_waiting_clients": {name: service.waiting for name, service in services.items()},
        "greeter_trunks": len(trunks),
        "greeter_trunk_losses_total": stats.trunk_losses,
        "greeter_trunk_missed_messages_total": stats.trunk_missed,
        "greeter_moves_total": dict(stats.moves),
        "greeter_messages_total": total.messages,
        "greeter_message_bytes_total": total.bytes,
        "greeter_redirects_total": dict(stats.redirects),
        "greeter_closes_total": dict(stats.closes),
        "greeter_client_messages_total": dict(stats.fates),
        **bus_readings("greeter", total, sum(trunk.bus.behind for trunk in trunks)),
        **listener_readings("greeter", listener.stats if listener is not None else ListenerStats()),
    }
