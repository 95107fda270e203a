"""A greeter's figures, read when Prometheus scrapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lobby_gateway import close_codes, metrics
from lobby_gateway.clients.admission import ProcessCapacity
from lobby_gateway.clients.collectors import client_port_samples, message_bus_samples
from lobby_gateway.clients.message_bus import BusStats
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.greeter.router import ResponseForm
from lobby_gateway.metrics import FATES, VERDICTS
from lobby_gateway.websocket.listener import Listener, ListenerStats

if TYPE_CHECKING:  # it counts into `ServiceStats`
    from lobby_gateway.greeter.lobby_service import LobbyService


@dataclass(slots=True)
class ServiceStats:
    """Plain counters of one or more services, read when metrics are scraped.

    Attributes:
        closes: clients gone, by label.
        fates: clients' messages, by what became of them.
        client_bytes: bytes of their payloads.
        moves: clients moved, by verdict.
        redirects: clients redirected, by form.
        trunk_losses: trunks that ended or fell silent while they had clients.
        trunk_missed: messages that this greeter was too slow to take.
        gone: what message buses counted whose Lobby is gone.
        gone_high_water: most messages that ever waited for one of their clients.
    """

    closes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(close_codes.CLOSE_LABELS, 0)))
    fates: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FATES, 0)))
    client_bytes: int = 0
    moves: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(VERDICTS, 0)))
    redirects: Counter[str] = field(default_factory=lambda: Counter({ResponseForm.LOCATION: 0, ResponseForm.JSON: 0}))
    trunk_losses: int = 0
    trunk_missed: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    gone_high_water: int = 0


def counted(service: LobbyService) -> Counter[str]:
    """What the buses of one Lobby counted; it goes on counting when the Lobby is gone."""
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
        "greeter_directory_current": int(directory.known and not directory.problem),
        "greeter_trunks": len(trunks),
        "greeter_stream_offset": {
            key: max((trunk.offset for trunk in service.trunks), default=0) for key, service in services.items()
        },
        "greeter_trunk_losses_total": stats.trunk_losses,
        "greeter_trunk_missed_messages_total": stats.trunk_missed,
        "greeter_moves_total": dict(stats.moves),
        "greeter_moving_clients": sum(len(group.clients) for trunk in trunks for group in trunk.groups),
        "greeter_messages_total": total.messages,
        "greeter_message_bytes_total": total.bytes,
        "greeter_redirects_total": dict(stats.redirects),
        "greeter_closes_total": dict(stats.closes),
        "greeter_client_messages_total": dict(stats.fates),
        "greeter_client_message_bytes_total": stats.client_bytes,
        "greeter_event_loop_lag_seconds": lag.reading(),
        **message_bus_samples("greeter", total, sum(trunk.bus.behind for trunk in trunks)),
        **client_port_samples("greeter", listener.stats if listener is not None else ListenerStats(), capacity),
    }
