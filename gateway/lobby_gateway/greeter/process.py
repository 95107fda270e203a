"""A greeter process from start to stop: wires its parts and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from lobby_gateway import metrics
from lobby_gateway.clients.admission import ProcessCapacity
from lobby_gateway.clients.auth import TrustedProxies
from lobby_gateway.clients.fan_out import SEND_LOOP
from lobby_gateway.clients.token_key_file import watch_keys
from lobby_gateway.clients.tokens import TokenKeys
from lobby_gateway.greeter import collectors
from lobby_gateway.greeter.directory import Directory, DirectoryEntry, DirectorySource
from lobby_gateway.greeter.lobby_service import LobbyService, ServiceStats
from lobby_gateway.greeter.router import Router
from lobby_gateway.greeter.status_page import overview
from lobby_gateway.http import status_page
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer, Routes, health_handlers, metrics_handler
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.process.lifecycle import Shutdown, announce
from lobby_gateway.process.limits import MemoryWatch, ProcessLimits
from lobby_gateway.process.seat_reports import GreeterReport
from lobby_gateway.resource.lobby_overview import Overview
from lobby_gateway.settings import SeatQueueSettings, TrunkConsumerSettings
from lobby_gateway.websocket.listener import Listener, listen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GreeterSettings:
    """The options and settings of a greeter process.

    Attributes:
        host: address of the client port.
        port: client port; 0 for a free one.
        admin_host: address of the admin port.
        admin_port: admin port; 0 for a free one.
        admin_hosts: names under which the admin port may be reached (see `AdminServer`).
        reuse_port: share the client port with other greeters (SO_REUSEPORT).
        trusted_proxies: proxies whose X-Forwarded-For is trusted.
        token_keys: master keys; those derived from them sign the tokens for lobbies.
        token_key_file: watched for new keys.
        prefix_paths: Lobbies are served at `/<namespace><path>`, as the operator does it with the same setting.
        close_seconds: seconds over which a stopping greeter closes its clients, since all of them reconnect elsewhere.
        close_batches: number of batches in which it does so, each at a random time within its share of these seconds: a batch
            causes a burst of handshakes elsewhere, and greeters that stop together do not close theirs at the same moments.
        close_answer_seconds: how long it then waits for clients to answer the close frame (at most `close_seconds`).
        linger_seconds: how long an unused trunk stays open, for clients that reload a page.
        tick_seconds: interval between checks for unresponsive clients and unused trunks. Adds to `clients.pingSeconds`.
        seat_queue: see `SeatQueueSettings`.
        trunk: see `TrunkConsumerSettings`.
        limits: limits on clients.
    """

    host: str = "127.0.0.1"
    port: int = 0
    admin_host: str = "127.0.0.1"
    admin_port: int = 0
    admin_hosts: tuple[str, ...] = ()
    reuse_port: bool = False
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    token_keys: TokenKeys
    token_key_file: Path | None = None
    prefix_paths: bool = False
    close_seconds: float = 2.0
    close_batches: int = 20
    close_answer_seconds: float = 2.0
    linger_seconds: float = 5.0
    tick_seconds: float = 2.5
    seat_queue: SeatQueueSettings = field(default_factory=SeatQueueSettings)
    trunk: TrunkConsumerSettings = field(default_factory=TrunkConsumerSettings)
    limits: ProcessLimits = field(default_factory=ProcessLimits)


class Greeter:
    """A greeter and its parts.

    Attributes:
        directory: the Lobbies; kept current by a source.
        port: client port, once started.
        admin_port: admin port, once started.
    """

    def __init__(self, settings: GreeterSettings) -> None:
        self.directory = Directory(self, prefix_paths=settings.prefix_paths)
        self.port = 0
        self.admin_port = 0
        self._settings = settings
        self._name = f"greeter {socket.gethostname()}/{os.getpid()}"
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._stats = ServiceStats()
        self._background = BackgroundTasks()
        self._lag = metrics.LoopLag()
        self._services: dict[str, LobbyService] = {}
        self._capacity = ProcessCapacity(settings.limits.max_clients, settings.limits.max_memory)
        self._memory = MemoryWatch(self._capacity.observe_memory)
        self._router = Router(self.directory, self._queue_of, settings.trusted_proxies, self._capacity)
        self._listener: Listener | None = None
        self._admin: AdminServer | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # Start and stop

    async def start(self) -> None:
        """Opens both ports.

        Raises:
            UserError: cannot listen on one of them.
        """
        settings = self._settings
        sock = listen(settings.host, settings.port, reuse_port=settings.reuse_port)
        self._listener = Listener(sock, self._router, settings=settings.limits.handshakes)
        self.port = self._listener.port
        registry = metrics.registry(metrics.GREETER, self._samples)
        self._admin = AdminServer(self._routes(registry), hosts=settings.admin_hosts)
        self.admin_port = await self._admin.start(settings.admin_host, settings.admin_port)
        self._tasks.append(self._background.spawn(self._lag.watch(), "loop lag"))
        self._tick_timer = self._loop.call_later(self._settings.tick_seconds, self._tick)
        if self._capacity.max_memory:
            self._memory.start()
        self._listener.start()

    async def wait_failed(self) -> None:
        """Waits until one of its tasks fails, which is a bug, and raises its exception."""
        await self._background.wait_failed()

    async def stop(self) -> None:
        """Stops accepting clients, closes connected ones in batches, then the trunks, then the admin port."""
        self._router.closed = True
        if self._listener is not None:
            self._listener.stop_accepting()
        for service in self._services.values():
            service.stop()
        await self._close_clients()
        await asyncio.gather(*(service.close() for service in self._services.values()))
        if self._listener is not None:
            self._listener.close()
        self._memory.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._admin is not None:
            await self._admin.close()

    async def _close_clients(self) -> None:
        clients = [(service, client) for service in self._services.values() for client in service.clients]
        if not clients:
            return
        logger.info("closing clients", extra={"clients": len(clients)})
        settings = self._settings
        random.shuffle(clients)
        size = -(-len(clients) // settings.close_batches)
        share = settings.close_seconds / settings.close_batches
        started = self._loop.time()
        for number in range(settings.close_batches):
            at = started + share * (number + random.random())  # noqa: S311  # no secret
            await asyncio.sleep(max(0.0, at - self._loop.time()))
            if not self._has_clients:
                return
            for service, client in clients[number * size : (number + 1) * size]:
                service.close_for_restart(client)
        deadline = self._loop.time() + min(settings.close_seconds, settings.close_answer_seconds)
        while self._loop.time() < deadline and self._has_clients:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # each client has its own timeout, too

    @property
    def _has_clients(self) -> bool:
        return any(service.clients for service in self._services.values())

    # From the directory

    def entry_changed(self, entry: DirectoryEntry) -> None:
        """A Lobby was added or changed."""
        key = entry.lobby.key
        service = self._services.get(key)
        if service is not None:
            service.update(entry)
            return
        logger.info("serving a Lobby", extra={"lobby": key, "path": entry.lobby.spec.path})
        self._services[key] = LobbyService(
            entry,
            greeter=self._name,
            token_keys=self._settings.token_keys,
            stats=self._stats,
            seat_queue=self._settings.seat_queue,
            trunk=self._settings.trunk,
            linger_seconds=self._settings.linger_seconds,
            capacity=self._capacity,
            flood=self._settings.limits.flood,
            spawn=self._background.spawn,
        )

    def entry_removed(self, key: str) -> None:
        """A Lobby was deleted."""
        logger.info("a Lobby was deleted", extra={"lobby": key})
        self._services[key].remove()

    def _queue_of(self, entry: DirectoryEntry) -> LobbyService:
        return self._services[entry.lobby.key]

    def _tick(self) -> None:
        now = self._loop.time()
        for key, service in list(self._services.items()):
            service.tick(now)
            if service.removed and service.idle:
                self._stats.gone.update(collectors.counted(service))
                self._stats.gone_high_water = max(self._stats.gone_high_water, service.bus_stats.high_water)
                del self._services[key]
        self._tick_timer = self._loop.call_later(self._settings.tick_seconds, self._tick)

    # Admin port

    def ready(self) -> str:
        """Why the greeter is not ready for clients; empty: it is."""
        if self._router.closed:
            return "ending"
        return "" if self.directory.known else "no directory yet"

    def report(self) -> GreeterReport:
        """Counts of clients, by key of the Lobby."""
        services = self._services.items()
        return GreeterReport(
            clients={key: len(service.clients) for key, service in services},
            waiting={key: service.waiting for key, service in services},
            lost={key: service.lost for key, service in services},
            dropped={key: service.bus_stats.dropped for key, service in services},
            dropped_by={key: service.bus_stats.dropped_by for key, service in services},
            deliveries={key: service.bus_stats.deliveries for key, service in services},
            moves_exact={key: service.moves["exact"] for key, service in services},
            moves_live={key: service.moves["live"] for key, service in services},
        )

    def _samples(self) -> metrics.Samples:
        return collectors.samples(
            self._services,
            self._stats,
            listener=self._listener,
            capacity=self._capacity,
            directory=self.directory,
            lag=self._lag,
        )

    def _overview(self) -> Overview:
        return overview(
            self._name,
            self.directory,
            self._services,
            problem=self.ready(),
            started_at=self._started_at,
            now=self._loop.time(),
        )

    def _routes(self, registry: CollectorRegistry) -> Routes:
        async def waiting(_request: AdminRequest) -> AdminResponse:
            return AdminResponse.json(self.report().to_json())

        return {
            **health_handlers(self.ready),
            ("GET", "/metrics"): metrics_handler(registry),
            ("GET", "/waiting"): waiting,
            **status_page.routes(self._overview),
        }


async def serve(settings: GreeterSettings, source: DirectorySource, stopping: Shutdown) -> None:
    """Runs a greeter until it should stop.

    Raises:
        UserError: cannot listen on a port, or read the source.
    """
    greeter = Greeter(settings)
    try:
        # The source first: clients connect as soon as the ports are open, and by then the Lobbies should be known.
        await source.start(greeter.directory, stopping.stop)
        await greeter.start()
        announce(port=greeter.port, admin_port=greeter.admin_port)
        extra = {"port": greeter.port, "admin_port": greeter.admin_port, "send_loop": SEND_LOOP}
        logger.info("listening", extra=extra)
        async with asyncio.TaskGroup() as tasks:
            watching = [tasks.create_task(greeter.wait_failed(), name="bugs of the greeter")]
            if settings.token_key_file is not None:
                keys = watch_keys(settings.token_key_file, settings.token_keys)
                watching.append(tasks.create_task(keys, name="watch token keys"))
            await stopping.wait()
            logger.info("stopping", extra={"reason": stopping.reason})
            for each in watching:
                each.cancel()
    finally:
        await source.close()
        await greeter.stop()
