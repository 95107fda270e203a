"""A lobby's figures, read when Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lobby_gateway import metrics
from lobby_gateway.clients.admission import Admission
from lobby_gateway.clients.collectors import bus_readings, listener_readings
from lobby_gateway.clients.door import Door
from lobby_gateway.origin.connection import OriginConnection
from lobby_gateway.origin.states import Failure
from lobby_gateway.process.reports import OriginState
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.listener import ListenerStats

if TYPE_CHECKING:
    from lobby_gateway.lobby.handshakes import LobbyHandshakes


class Readings:
    """Counts what no part counts for itself, and reads the rest.

    Attributes:
        messages: messages from the origin.
        bytes: bytes of their frames.
        listener: counters of the client port, once it is open.
        lag: of the event loop.
    """

    def __init__(
        self,
        admission: Admission,
        ring: MessageRing,
        origin: OriginConnection,
        gate: LobbyHandshakes,
        *,
        trunks: Collection[TrunkServerConnection],
        door: Door,
    ) -> None:
        self.messages = 0
        self.bytes = 0
        self.listener = ListenerStats()
        self.lag = metrics.LoopLag()
        self._admission = admission
        self._ring = ring
        self._origin = origin
        self._gate = gate
        self._trunks = trunks
        self._door = door
        self._missed_by_gone_trunks = 0

    def trunk_gone(self, server: TrunkServer) -> None:
        """Keeps what a trunk counted."""
        self._missed_by_gone_trunks += server.missed

    def read(self) -> metrics.Readings:
        """Everything in the table `metrics.LOBBY`."""
        admission, gate, stats = self._admission, self._gate, self.listener
        direct = len(gate.clients)
        origin = self._origin.report()
        return {
            "lobby_seats": admission.seats,
            "lobby_clients": {"direct": direct, "trunk": admission.taken - direct},
            "lobby_draining": int(admission.draining),
            "lobby_messages_total": self.messages,
            "lobby_message_bytes_total": self.bytes,
            "lobby_stream_offset": self._ring.offset,
            "lobby_origin_state": {str(state): int(state is origin.state) for state in OriginState},
            "lobby_origin_connections_total": origin.connections,
            "lobby_origin_attempts_total": self._origin.attempts,
            "lobby_origin_failures_total": {str(failure): self._origin.failures.get(failure, 0) for failure in Failure},
            "lobby_trunks": len(self._trunks),
            "lobby_trunk_behind_messages": max((each.server.behind for each in self._trunks), default=0),
            "lobby_trunk_missed_messages_total": self._missed_by_gone_trunks
            + sum(each.server.missed for each in self._trunks),
            "lobby_ring_messages": len(self._ring),
            "lobby_ring_bytes": self._ring.bytes,
            "lobby_resumes_total": dict(gate.resumes),
            **bus_readings("lobby", gate.bus.stats, gate.bus.behind),
            "lobby_closes_total": dict(gate.closes),
            **listener_readings("lobby", stats, self._door),
            "lobby_client_messages_total": dict(gate.fates),
            "lobby_client_message_bytes_total": gate.client_bytes,
            "lobby_event_loop_lag_seconds": self.lag.reading(),
        }
