"""The lobby process: one origin connection, its clients and trunks, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from lobby_gateway import close_codes, metrics
from lobby_gateway.clients.admission import ProcessCapacity, SeatCount
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.fan_out import SEND_LOOP
from lobby_gateway.clients.tokens import (
    DELETED_QUERY,
    DRAIN_PATH,
    PEERS_PATH,
    PRECONNECT_PATH,
    Purpose,
    TokenError,
    TokenKeys,
)
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer, health_handlers, metrics_handler
from lobby_gateway.lobby import collectors
from lobby_gateway.lobby.collectors import LobbyStats
from lobby_gateway.lobby.forwarding import Forwarding
from lobby_gateway.lobby.handshakes import LobbyHandshakes
from lobby_gateway.lobby.indexing import IndexInTurns
from lobby_gateway.lobby.stream import LobbyStream
from lobby_gateway.lobby.watched_files import FileWatch, SecretSource
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.process.lifecycle import Shutdown, announce
from lobby_gateway.process.limits import MemoryWatch, ProcessLimits
from lobby_gateway.process.peer_list import PeerList
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.process.seat_reports import LobbyReport
from lobby_gateway.resource.spec import Lobby, OriginSpec
from lobby_gateway.settings import KEPT, LobbySettings
from lobby_gateway.trunk import records as trunk
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.trunk.kept import KeptFrame, NotKeptLog
from lobby_gateway.trunk.position import Position
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.frames import AsideBatch, Batch
from lobby_gateway.websocket.listener import Handshake, Listener, ListenerStats, listen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a process listens; port 0 means any free port.

    Attributes:
        host: for clients and trunks.
        port: for clients and trunks.
        admin_host: for probes, Prometheus and the lobby host.
        admin_port: likewise.
        admin_hosts: names under which the admin port may be reached (see `AdminServer`).
    """

    host: str
    port: int
    admin_host: str
    admin_port: int
    admin_hosts: tuple[str, ...] = ()


class LobbyProcess:
    """The parts of a lobby, wired together. Also the lobby as its trunks see it (`TrunkLobby`).

    Attributes:
        name: of the lobby.
        lobby: the Lobby that it serves.
    """

    def __init__(
        self,
        lobby: Lobby,
        name: str,
        *,
        keys: TokenKeys,
        secret_source: SecretSource,
        resolved: ResolvedOrigin | None,
        settings: LobbySettings,
        limits: ProcessLimits,
        proxies: TrustedProxies,
    ) -> None:
        """Makes the parts; opens nothing yet.

        Args:
            lobby: the Lobby that it serves.
            name: of the lobby.
            keys: of tokens.
            secret_source: where the origin's secrets come from; they are read again for each connection.
            resolved: the origin with the current values of its secrets; None: one is missing or unusable.
            settings: of a lobby process.
            limits: of this process.
            proxies: trusted to report the addresses of clients.
        """
        self.name = name
        self.lobby = lobby
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._seat_count = SeatCount(lobby.spec.clients.seats)
        origin = lobby.spec.origin
        self._ring = MessageRing(
            settings.ring_messages,
            settings.ring_bytes,
            identity_of(origin.identity),
            index_later=IndexInTurns(self._wake_trunks),
        )
        self._stream = LobbyStream(
            lobby,
            name,
            self._ring,
            self,
            keys=keys,
            resolved=resolved,
            read_secrets=lambda: secret_source.resolve(origin),
            identity=identity_of(origin.identity),
            settings=settings,
        )
        self._limits = limits
        self._capacity = ProcessCapacity(limits.max_clients, limits.max_memory)
        self._handshakes = LobbyHandshakes(
            lobby,
            name,
            keys,
            seat_count=self._seat_count,
            capacity=self._capacity,
            ring=self._ring,
            forward=self._forward,
            origin_subprotocol=lambda: self._stream.subprotocol,
            seats_changed=self._seats_changed,
            trunk_arrived=self._trunk_arrived,
            proxies=proxies,
            settings=settings,
            flood=limits.flood,
        )
        self._forwarding = Forwarding(
            self._stream,
            self._handshakes.fates,
            per_second=lobby.spec.clients.forward.messages_per_second,
            settings=settings.forward,
        )
        self._forward_timer: asyncio.TimerHandle | None = None
        self._trunks: dict[TrunkServerConnection, None] = {}
        self._failed_trunks = RepeatedFailures(time.monotonic, lapses=True)
        self._not_kept = NotKeptLog()
        self._refused_requests = RepeatedFailures(time.monotonic, lapses=True)
        self._no_greeters = asyncio.Event()
        self._no_greeters.set()
        self._no_clients = asyncio.Event()
        self._no_clients.set()
        self._preconnected_until = 0.0
        self._preconnect_timer: asyncio.TimerHandle | None = None
        self._origin_id = origin.stream_id
        self._asked_until: float | None = None  # a lobby without a stream asked this one for it
        self._ignored_origin: OriginSpec | None = None
        self._stats = LobbyStats()
        self._lag = metrics.LoopLag()

    async def run(self, stopping: Shutdown, addresses: Addresses, watches: Sequence[FileWatch] = ()) -> None:
        """Serves until `stopping` is set, then stops in order: seats, trunks, direct clients, origin, ports.

        Args:
            stopping: requests the shutdown.
            addresses: where to listen.
            watches: of files that may change; run from start to stop.

        Raises:
            UserError: can't listen on an address.
        """
        listener = Listener(listen(addresses.host, addresses.port), self._handshakes, settings=self._limits.handshakes)
        memory = MemoryWatch(self._capacity.observe_memory)
        registry = metrics.registry(metrics.LOBBY, lambda: self._samples(listener.stats))
        admin = AdminServer(
            {
                **health_handlers(lambda: "draining" if self._seat_count.draining else ""),
                ("GET", "/metrics"): metrics_handler(registry),
                ("GET", "/seats"): self._answer_seats,
                ("POST", DRAIN_PATH): self._answer_drain,
                ("POST", PRECONNECT_PATH): self._answer_preconnect,
                ("POST", PEERS_PATH): self._answer_peers,
            },
            hosts=addresses.admin_hosts,
        )
        try:
            admin_port = await admin.start(addresses.admin_host, addresses.admin_port)
            if self._capacity.max_memory:
                memory.start()
            listener.start()
            announce(port=listener.port, admin_port=admin_port)
            extra = {"lobby": self.name, "port": listener.port, "seats": self.seats, "send_loop": SEND_LOOP}
            logger.info("lobby is open", extra=extra)
            async with asyncio.TaskGroup() as tasks:
                stream = tasks.create_task(self._stream.run(), name="stream")
                sweep = tasks.create_task(self._sweep(), name="sweep")
                lag = tasks.create_task(self._lag.watch(), name="loop lag")
                watching = [tasks.create_task(watch(), name=f"file watch {at}") for at, watch in enumerate(watches, 1)]
                await stopping.wait()
                logger.info("lobby is stopping", extra={"lobby": self.name, "reason": stopping.reason})
                await self._drain_before_exit()
                listener.close()
                await self._stream.own.close()
                for task in (stream, sweep, lag, *watching):
                    task.cancel()
        finally:
            memory.close()
            listener.close()
            self._handshakes.bus.flush()
            for client in list(self._handshakes.clients):
                client.abort()
            for each in list(self._trunks):
                each.abort()
            await admin.close()

    def update(self, lobby: Lobby) -> None:
        """Applies a changed Lobby, except for its origin: this lobby keeps the one it was started with."""
        origin, seats = self.lobby.spec.origin, lobby.spec.clients.seats
        if lobby.spec.origin not in (origin, self._ignored_origin):
            self._ignored_origin = lobby.spec.origin
            logger.warning("spec.origin changed: only new lobbies use the new origin", extra={"lobby": self.name})
        lobby = replace(lobby, spec=replace(lobby.spec, origin=origin))
        if lobby == self.lobby:
            return
        logger.info("the Lobby changed", extra={"lobby": self.name, "seats": seats})
        self.lobby = lobby
        self._handshakes.update(lobby)
        self._forwarding.per_second = lobby.spec.clients.forward.messages_per_second
        if seats != self._seat_count.total:
            self._seat_count.total = seats
            for each in list(self._trunks):
                each.send_status()

    def update_secrets(self, resolved: ResolvedOrigin) -> None:
        """Takes the origin's secrets, which may have changed."""
        self._stream.own.update_secrets(resolved)

    def report(self) -> LobbyReport:
        """The answer on `/seats`."""
        return LobbyReport(
            name=self.name,
            lobby=self.lobby.name,
            draining=self._seat_count.draining,
            seats=self._seat_count.total,
            clients=self._seat_count.taken,
            direct=len(self._handshakes.clients),
            origin=self._stream.own.report(),
            permit=self._stream.own.permitted or not self._stream.own.idle,
            told=[self._stream.version.term, self._stream.version.number],
            flowing=self._stream.sources.flowing,
            via=list(self._stream.sources.via or ()),
            relays=self._relays,
            origin_id=self._origin_id,
            preconnected=self._loop.time() < self._preconnected_until - self._settings.preconnect_seconds / 2,
            connects=self._stream.own.attempts,
            recent_connects=self._stream.own.recent_attempts,
            wants_connect=self._stream.own.wants_permit,
            position=str(Position(self._ring.epoch, self._ring.offset)),
            messages=self._stats.messages,
            bytes=self._stats.bytes,
            dropped=self._handshakes.bus.stats.dropped,
            dropped_by=self._handshakes.bus.stats.dropped_by,
            deliveries=self._handshakes.bus.stats.deliveries,
        )

    def drain(self, reason: trunk.MoveReason, seconds: float) -> None:
        """Grants no more seats; greeters move their clients, and direct clients are closed, spread over `seconds`.

        Idempotent, except that a lobby that stops while it drains asks again: there is less time then.
        """
        if self._seat_count.draining and reason is trunk.MoveReason.DRAINING:
            return
        self._seat_count.draining = True
        self._end_preconnect()
        for each in list(self._trunks):
            each.move(reason, seconds)
        self._handshakes.move_clients(seconds)
        logger.info("lobby is draining", extra={"lobby": self.name, "clients": self._seat_count.taken})

    def lobby_deleted(self) -> None:
        """The Lobby was deleted: closes direct clients at once, and refuses new ones until the process ends. Idempotent."""
        if self._seat_count.deleted:
            return
        logger.info("the Lobby was deleted", extra={"lobby": self.name, "clients": self._seat_count.taken})
        self._seat_count.deleted = True
        self._handshakes.close_clients(close_codes.LOBBY_DELETED)
        self.drain(trunk.MoveReason.DRAINING, 0.0)

    def preconnect(self) -> None:
        """Connects to the origin, and stays connected for a while without clients: they come once it has the stream."""
        if self._seat_count.draining:
            return
        if self._preconnect_timer is not None:
            self._preconnect_timer.cancel()
        self._preconnected_until = self._loop.time() + self._settings.preconnect_seconds
        self._preconnect_timer = self._loop.call_at(self._preconnected_until, self._end_preconnect)
        self._seats_changed()

    def _end_preconnect(self) -> None:
        if self._preconnect_timer is not None:
            self._preconnect_timer.cancel()
            self._preconnect_timer = None
            self._preconnected_until = 0.0
            self._seats_changed()

    # TrunkLobby

    @property
    def seats(self) -> int:
        """Seats of this lobby."""
        return self._seat_count.total

    @property
    def free(self) -> int:
        """Seats that would be granted now."""
        return self._seat_count.free

    @property
    def draining(self) -> bool:
        """No more seats are granted."""
        return self._seat_count.draining

    @property
    def origin_connected(self) -> bool:
        """Whether messages can be expected, from the origin itself or over another lobby."""
        return self._stream.sources.flowing

    @property
    def subprotocol(self) -> str | None:
        """What the origin chose; empty if it chose none; None if it was not connected yet."""
        return self._stream.subprotocol

    @property
    def via(self) -> tuple[str, ...] | None:
        """The lobbies that the stream comes over, the nearest first; empty: the own session; None: there is no stream."""
        return self._stream.sources.via

    def relay_refusal(self, consumer: str) -> str:
        """Why this lobby can't serve its stream to another one now; empty if it can.

        A lobby that holds one of the few connections that the origin allows connects when it is asked.
        """
        if self._seat_count.draining:
            return "it drains"
        if self._relays > self._settings.relay.max_relays:  # the one that asks is counted already
            return f"it serves {self._settings.relay.max_relays} lobbies already"
        refusal = self._stream.sources.refusal(consumer)
        if not refusal:
            self._loop.call_soon(self._relays_changed)
        elif self._stream.own.permitted and self.lobby.spec.origin.limits.connections:
            self._asked_until = self._loop.time() + self._settings.relay.linger_seconds
            self._seats_changed()
        return refusal

    @property
    def _relays(self) -> int:
        """Lobbies that take their stream from this one."""
        return sum(each.server.relays for each in self._trunks)

    def _relays_changed(self) -> None:
        if self._relays == len(self._trunks):
            self._no_greeters.set()  # other lobbies leave when this one has stopped, if they can't before
        else:
            self._no_greeters.clear()
        self._seats_changed()

    def claim(self, count: int) -> int:
        """Takes up to `count` seats; returns how many were granted."""
        granted = self._seat_count.claim(count)
        self._seats_changed()
        return granted

    def release(self, count: int) -> None:
        """Returns seats."""
        self._seat_count.release(count)
        self._seats_changed()

    # The stream

    def begin_epoch(self) -> None:
        """The stream begins, or does not go on exactly."""
        self._ring.begin_epoch(secrets.randbits(63) + 1)

    def remember(self, batch: Batch) -> None:
        """Messages from before the stream began: nobody gets them who does not resume there."""
        self._ring.append(batch)

    def remembered(self) -> None:
        """There are no more of them: consumers without a place begin here."""
        for each in self._trunks:
            each.server.skip_history()

    def keep(self, messages: Mapping[str, KeptFrame], *, tell: bool) -> None:
        """Keeps messages for clients that join; with `tell`, those that have the stream get what is new, too."""
        kept = self._ring.kept.put(messages, cursor=self._ring.cursor, tell=tell)
        if tell and kept.new:
            self._handshakes.bus.tell(AsideBatch.of(kept.new))
        for each in list(self._trunks):  # before the messages are published that are yet to come
            each.send_kept()
        for name in kept.refused:
            self._not_kept.tell(name, "there is no room for it", lobby=self.name, max_bytes=KEPT.bytes)

    def skip(self, count: int) -> None:
        """`count` messages of the stream will never come."""
        self._ring.begin_epoch(self._ring.epoch, self._ring.offset + count)

    def origin_chosen(self) -> None:
        """The origin is connected, here or at a peer, and has chosen a subprotocol, or none."""
        if self.subprotocol is None:
            return
        self._handshakes.origin_connected()
        for each in list(self._trunks):
            each.tell_origin()
        self._forward_held()

    def forget(self) -> None:
        """Nobody needs the stream any more: what it had so far must not pass for fresh later."""
        self._ring.forget()
        for each in list(self._trunks):
            each.server.send_kept()
            each.send_status()

    def stream_changed(self) -> None:
        """The stream comes from somewhere else now, or has stopped: tells the lobbies that relay it."""
        for each in list(self._trunks):
            if each.server.relays:
                each.send_status()

    def drop_relays(self, depth: int) -> None:
        """Closes the trunks of lobbies that were told a smaller depth, so that no two take their stream from each other."""
        for each in list(self._trunks):
            if each.server.relays and each.server.told_depth < depth:
                each.drop_relay()

    def origin_closed(self, code: int, round_trip: float) -> bool:
        """Closes the client whose message was the reason, if there is one."""
        sender = self._forwarding.origin_closed(code, self._loop.time(), round_trip)
        if sender is None:
            return False
        self.blamed(sender, code)
        return True

    def blamed(self, sender: Hashable, code: int) -> None:
        """The origin closed a connection because of a message of this client, which is closed; or its greeter is told."""
        match sender:
            case ClientConnection():
                sender.close(close_codes.ORIGIN_OBJECTED)
            case (TrunkServerConnection() as connection, int(client)):
                connection.blame(client, code)
        logger.warning("the origin closed its connection because of a client's message", extra={"code": code})

    def publish(self, batch: Batch) -> None:
        """The next messages of the stream."""
        self._stats.messages += len(batch.ends)
        self._stats.bytes += len(batch.data)
        self._ring.append(batch)
        self._wake_trunks()  # before the direct clients: one send of a trunk may serve hundreds of clients
        self._handshakes.bus.publish(batch)

    def _wake_trunks(self) -> None:
        for each in list(self._trunks):
            each.wake()

    def _forward(self, sender: Hashable, opcode: int, payload: bytes) -> None:
        self._forwarding.submit(sender, opcode, payload, self._loop.time())
        self._schedule_forwarding()

    def _forward_held(self) -> None:
        if self._forward_timer is not None:
            self._forward_timer.cancel()
            self._forward_timer = None
        self._forwarding.pump(self._loop.time())
        self._schedule_forwarding()

    def _schedule_forwarding(self) -> None:
        at = self._forwarding.wake_at
        if at is not None and self._forward_timer is None:
            self._forward_timer = self._loop.call_at(at, self._forward_held)

    def _seats_changed(self) -> None:
        asked = self._asked_until is not None and self._loop.time() < self._asked_until
        preconnects = self._preconnect_timer is not None
        self._stream.set_needed(self._seat_count.taken > 0 or preconnects or asked or self._relays > 0)
        if self._handshakes.clients:
            self._no_clients.clear()
        else:
            self._no_clients.set()

    # Trunks

    def _trunk_arrived(self, handshake: Handshake) -> None:
        sock = handshake.accept(subprotocol=trunk.SUBPROTOCOL)
        if sock is None:
            return
        server = TrunkServer(self, self._ring, now=self._loop.time())
        connection = TrunkServerConnection(
            sock,
            self._loop,
            server,
            forward=lambda message: self._forward_from_trunk(connection, message),
            on_closed=self._trunk_closed,
            leftover=handshake.leftover,
            failures=self._failed_trunks,
        )
        self._trunks[connection] = None
        self._no_greeters.clear()

    def _forward_from_trunk(self, connection: TrunkServerConnection, message: trunk.Forward) -> None:
        self._handshakes.client_bytes += len(message.payload)
        self._forward((connection, message.client), message.opcode, message.payload)

    def _trunk_closed(self, connection: TrunkServerConnection) -> None:
        self._trunks.pop(connection, None)
        self._stats.missed_by_closed_trunks += connection.server.missed
        self._relays_changed()

    # Background tasks

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            now = self._loop.time()
            self._handshakes.bus.sweep(now)
            self._forwarding.pump(now)  # for what was held for too long
            if self._asked_until is not None and now >= self._asked_until:
                self._asked_until = None
                self._seats_changed()

    async def _drain_before_exit(self) -> None:
        seconds = self._settings.stop_seconds
        spread = min(self._settings.stop_spread_seconds, seconds / 2)
        self.drain(trunk.MoveReason.STOPPING, spread)
        with contextlib.suppress(TimeoutError):  # remaining clients are closed when the process exits
            async with asyncio.timeout(seconds):
                await self._no_greeters.wait()
                await self._no_clients.wait()

    # Admin port

    def _samples(self, listener: ListenerStats) -> metrics.Samples:
        return collectors.samples(
            self._stats,
            seat_count=self._seat_count,
            capacity=self._capacity,
            ring=self._ring,
            stream=self._stream,
            handshakes=self._handshakes,
            trunks=self._trunks,
            listener=listener,
            lag=self._lag,
        )

    async def _answer_seats(self, _request: AdminRequest) -> AdminResponse:
        return AdminResponse.json(self.report().to_json())

    async def _answer_peers(self, request: AdminRequest) -> AdminResponse:
        if (refusal := self._refusal(request, Purpose.PEERS, PEERS_PATH)) is not None:
            return refusal
        try:
            told = PeerList.from_json(json.loads(request.body))
        except (ValueError, TypeError, KeyError) as error:
            return AdminResponse.text(f"not a list of peers: {error}", 400)
        accepted = self._stream.tell(told)
        return AdminResponse.json(self.report().to_json(), 200 if accepted else 409)

    async def _answer_preconnect(self, request: AdminRequest) -> AdminResponse:
        if (refusal := self._refusal(request, Purpose.PRECONNECT, PRECONNECT_PATH)) is not None:
            return refusal
        self.preconnect()
        return AdminResponse.json(self.report().to_json(), 202)

    def _refusal(self, request: AdminRequest, purpose: Purpose, path: str) -> AdminResponse | None:
        """The answer to a request of someone other than the lobby host."""
        try:
            self._handshakes.check_request_token(request.headers.get("authorization", ""), purpose, path)
        except TokenError as error:
            if (told := self._refused_requests.failed(error.problem)) is not None:
                logger.warning("refused a request to %s", purpose, extra={"lobby": self.name, **told})
            return AdminResponse.unauthorized(str(error))
        return None

    async def _answer_drain(self, request: AdminRequest) -> AdminResponse:
        if (refusal := self._refusal(request, Purpose.DRAIN, DRAIN_PATH)) is not None:
            return refusal
        if request.query == DELETED_QUERY:
            self.lobby_deleted()
        else:
            spread = min(self._settings.drain_spread_seconds, self.lobby.spec.drain_seconds / 2)
            self.drain(trunk.MoveReason.DRAINING, spread)
        return AdminResponse.json(self.report().to_json(), 202)
