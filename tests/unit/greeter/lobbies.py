"""Lobbies in the test's process: the real end of a trunk on a real socket, and everything else controlled by the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from tests.unit.greeter.support import resource
from websockets.asyncio.client import ClientConnection, connect

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import SeatCount
from lobby_gateway.clients.tokens import Purpose, TokenError, TokenKeys, key_from_hex, verify
from lobby_gateway.greeter.lobby_service import LobbyService
from lobby_gateway.greeter.process import Greeter, GreeterSettings
from lobby_gateway.greeter.seat_queue import LobbyId
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.records import PATH, SUBPROTOCOL, Forward, MoveReason
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.trunk.server_connection import TrunkServerConnection
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.listener import Handshake, Listener, listen

KEY = key_from_hex("ab" * 32)


class Lobby:
    """A lobby whose messages, seats and failures the test controls.

    Attributes:
        name: of the lobby.
        admission: its seats.
        ring: its messages.
        trunks: open trunks, oldest first.
        trunks_opened: how many there have been.
        claims: seats of each claim.
        forwarded: messages of clients.
        forwarders: numbers of the clients that sent them.
        refusing: refuses trunks.
        keys: that it takes tokens of.
    """

    origin_connected = True
    subprotocol: str | None = None
    via: tuple[str, ...] | None = ()

    def __init__(self, name: str = "prices-1", seats: int = 512) -> None:
        self.name = name
        self.seat_count = SeatCount(seats)
        self.ring = MessageRing()
        self.trunks: list[TrunkServerConnection] = []
        self.trunks_opened = 0
        self.claims: list[int] = []
        self.forwarded: list[tuple[int, bytes]] = []
        self.forwarders: list[int] = []
        self.refusing = False
        self.keys = [KEY]
        self._loop = asyncio.get_running_loop()
        self._listener = Listener(listen("127.0.0.1", 0), self)
        self._listener.start()
        self.address = f"127.0.0.1:{self._listener.port}"

    @property
    def id(self) -> LobbyId:
        return LobbyId(self.name, self.address)

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "address": self.address,
            "clients": self.seat_count.taken,
            "seats": self.seat_count.total,
        }

    # TrunkLobby

    @property
    def seats(self) -> int:
        return self.seat_count.total

    @property
    def free(self) -> int:
        return self.seat_count.free

    @property
    def draining(self) -> bool:
        return self.seat_count.draining

    def relay_refusal(self, consumer: str) -> str:
        return f"it serves no lobbies, and not {consumer}"

    def claim(self, count: int) -> int:
        self.claims.append(count)
        return self.seat_count.claim(count)

    def release(self, count: int) -> None:
        self.seat_count.release(count)

    # Gate

    def arrived(self, handshake: Handshake) -> None:
        token = handshake.request.headers["authorization"].removeprefix("Bearer ")
        try:
            verify(token, self.keys, purpose=Purpose.TRUNK, lobby=self.name, path=PATH, now=0)
        except TokenError:
            handshake.refuse(close_codes.BAD_TOKEN)
            return
        if self.refusing:
            handshake.abandon()
            return
        sock = handshake.accept(subprotocol=SUBPROTOCOL)
        assert sock is not None
        self.trunks_opened += 1
        self.trunks.append(
            TrunkServerConnection(
                sock,
                self._loop,
                TrunkServer(self, self.ring, now=self._loop.time()),
                forward=self.forward,
                on_closed=lambda trunk: self.trunks.remove(trunk) if trunk in self.trunks else None,
                leftover=handshake.leftover,
            )
        )

    def forward(self, message: Forward) -> None:
        self.forwarders.append(message.client)
        self.forwarded.append((message.opcode, message.payload))

    # The test's hands

    def publish(self, *texts: str) -> None:
        """Publishes messages as if they came in one read from the origin."""
        if not self.ring.epoch:
            self.ring.begin_epoch(1)
        self.ring.append(Batch.of([frame(Opcode.TEXT, text.encode()) for text in texts]))
        for trunk in list(self.trunks):
            trunk.wake()

    def keep(self, *, tell: bool = False, ahead: int = 0, **texts: str) -> None:
        """Keeps messages for clients that join; with `tell`, the stream begins or breaks."""
        frames = {name: KeptFrame(frame(Opcode.TEXT, text.encode()), ahead) for name, text in texts.items()}
        self.ring.kept.put(frames, cursor=self.ring.cursor, tell=tell)
        for trunk in list(self.trunks):
            trunk.send_kept()

    def connect_origin(self, subprotocol: str) -> None:
        """The origin is connected, and has chosen a subprotocol (empty for none)."""
        self.subprotocol = subprotocol
        for trunk in list(self.trunks):
            trunk.tell_origin()

    def drain(self, within_seconds: float = 0.0) -> None:
        self.seat_count.draining = True
        for trunk in self.trunks:
            trunk.move(MoveReason.DRAINING, within_seconds)

    def break_trunks(self) -> None:
        """Breaks the connections, but not the lobby."""
        for trunk in list(self.trunks):
            trunk.abort()

    def die(self) -> None:
        """Ends as if the process was killed."""
        self._listener.close()
        self.break_trunks()

    close = die


class Running:
    """A greeter in the test's process, with its lobbies."""

    def __init__(self, greeter: Greeter) -> None:
        self.greeter = greeter
        self.lobbies: list[Lobby] = []
        self._spec: dict[str, Any] = {}

    def service(self) -> LobbyService:
        """What serves the Lobby `prices`."""
        return next(service for key, service in self.greeter._services.items() if key.endswith("prices"))

    def lobby(self, name: str, seats: int = 512) -> Lobby:
        made = Lobby(name, seats)
        self.lobbies.append(made)
        return made

    def tell(self, *lobbies: Lobby, **spec: Any) -> None:
        """Updates the Lobby `prices` in the directory; fields of `spec` stay until they are given again."""
        self._spec.update(spec)
        raw = resource("prices", **json.loads(json.dumps(self._spec)))
        raw["status"] = {"open": [lobby.entry for lobby in lobbies]}
        self.greeter.directory.update([raw])

    def connect(self, path: str = "/prices", **options: Any) -> connect:
        options.setdefault("compression", None)
        options.setdefault("proxy", None)
        options.setdefault("close_timeout", 1)
        return connect(f"ws://127.0.0.1:{self.greeter.port}{path}", **options)

    async def clients(self, count: int, **options: Any) -> list[ClientConnection]:
        return list(await asyncio.gather(*(self.connect(**options) for _ in range(count))))


SETTINGS = GreeterSettings(token_keys=TokenKeys([KEY]), close_seconds=0.2, tick_seconds=0.1)


@contextlib.asynccontextmanager
async def greeter(
    *lobbies: str, seats: int = 512, settings: GreeterSettings = SETTINGS, **spec: Any
) -> AsyncIterator[Running]:
    """A greeter, with lobbies of these names for the Lobby `prices`."""
    made = Greeter(settings)
    await made.start()
    running = Running(made)
    try:
        for name in lobbies:
            running.lobby(name, seats)
        running.tell(*running.lobbies, **spec)
        yield running
    finally:
        await made.stop()
        for lobby in running.lobbies:
            lobby.close()


async def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Waits for something that happens in other callbacks of this loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def texts(client: ClientConnection, count: int) -> list[str]:
    """The next messages of a client."""
    async with asyncio.timeout(10):
        return [str(await client.recv()) for _ in range(count)]
