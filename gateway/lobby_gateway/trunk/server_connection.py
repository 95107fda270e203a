"""The connection of a trunk at the lobby's end. `TrunkServer` decides what is sent on it.

A message of the origin goes from the ring to the socket with one `sendmsg`, in the callback that published it. When the socket
is full, only the rest of one record is kept, and the server's cursor does not advance.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.settings import TrunkServerSettings
from lobby_gateway.trunk.records import MAX_FORWARD_BYTES, Forward, MoveReason, RelayRefusedError, TrunkError
from lobby_gateway.trunk.server import TRUNK_SERVER_SETTINGS, Parts, TrunkServer
from lobby_gateway.websocket.frames import Opcode, close_payload, header
from lobby_gateway.websocket.listener import TCP_NOTSENT_LOWAT
from lobby_gateway.websocket.parser import Close, FrameParser, Message, Violation
from lobby_gateway.websocket.send_progress import SendProgress
from lobby_gateway.websocket.server_socket import CloseState, ServerSocket

logger = logging.getLogger(__name__)

_BINARY = int(Opcode.BINARY)
_TRY_AGAIN_LATER = 1013  # IANA's registry of close codes

MAX_RECORD_BYTES = MAX_FORWARD_BYTES + 64
"""Largest record accepted from a consumer: a client's message to the origin, and its head."""


class TrunkServerConnection(ServerSocket):
    """One trunk of a lobby, after its handshake.

    Attributes:
        server: the lobby's end of the trunk.
    """

    __slots__ = ("_failures", "_forward", "_on_closed", "_progress", "_settings", "_timer", "server")

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        server: TrunkServer,
        *,
        forward: Callable[[Forward], None],
        on_closed: Callable[[TrunkServerConnection], None],
        leftover: bytes = b"",
        max_record_bytes: int = MAX_RECORD_BYTES,
        failures: RepeatedFailures | None = None,
        settings: TrunkServerSettings = TRUNK_SERVER_SETTINGS,
    ) -> None:
        """Takes over a socket; no callback is called before the next turn of the event loop.

        Args:
            sock: connected, non-blocking, after the 101 that chose `trunk.SUBPROTOCOL`.
            loop: the running event loop.
            server: made for this trunk alone.
            forward: receives clients' messages for the origin.
            on_closed: called once, when the socket is closed; the seats have been released by then.
            leftover: bytes that arrived in the same read as the handshake.
            max_record_bytes: largest record accepted.
            failures: counts those of all trunks of this lobby, for the log.
            settings: see `TrunkServerSettings`.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, settings.unsent_bytes)
        parser = FrameParser(masked=True, max_message_bytes=max_record_bytes)
        super().__init__(sock, loop, parser, read_bytes=settings.read_bytes)
        self.server = server
        self._failures = failures or RepeatedFailures(loop.time, lapses=True)
        self._forward = forward
        self._on_closed = on_closed
        self._settings = settings
        self._progress = SendProgress(sock, waiting=False)
        self._timer = loop.call_at(server.wake_at, self._time_passed)
        if leftover:
            loop.call_soon(self.feed, leftover)

    def __repr__(self) -> str:
        return f"<TrunkServerConnection of {self.server.consumer or '?'}: {self.server.held} seats>"

    # What goes out

    def wake(self) -> None:
        """There may be something to send: to be called after each batch that was added to the ring."""
        if not self.pending and not self._close_state and self.fd >= 0:
            self._send_records()

    def move(self, reason: MoveReason, within_seconds: float = 0.0) -> None:
        """Asks the consumer to move its clients elsewhere within some seconds. The stream continues meanwhile."""
        self.server.move(reason, within_seconds)
        self.wake()

    def tell_origin(self) -> None:
        """Tells the consumer what the origin chose; to be called when it is connected."""
        self.server.tell_origin()
        self.wake()

    def blame(self, client: int, code: int) -> None:
        """Asks the consumer to close the client with this number: the origin closed with `code` because of its message."""
        self.server.blame(client, code)
        self.wake()

    def send_status(self) -> None:
        """Sends STATUS now instead of at the next interval, for example because the number of seats changed."""
        self.server.send_status()
        self.wake()

    def send_kept(self) -> None:
        """Sends what has changed of what is kept for clients that join."""
        self.server.send_kept()
        self.wake()

    def drop_relay(self) -> None:
        """Closes the trunk of a lobby that may no longer be served: it is to take its stream from another one."""
        self.close(_TRY_AGAIN_LATER, "its stream comes over more lobbies now")

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2), after a partially sent record. The seats are released at once."""
        self._close(CloseState.AWAITING_CLOSE, code, reason)

    def abort(self) -> None:
        """Closes the socket at once."""
        if self.fd < 0:
            return
        self._timer.cancel()
        super().abort()
        self.server.close()
        self._on_closed(self)

    def _close(self, state: CloseState, code: int, reason: str = "") -> None:
        if not self.closing:
            self.server.close()
            self._begin_close(state, close_payload(code, reason), self._settings.close_timeout_seconds)

    def _send_records(self) -> None:
        now = self._loop.time()
        take = self.server.take
        while True:
            try:
                parts: Parts | None = take(now)
            except RelayRefusedError as error:
                self.close(_TRY_AGAIN_LATER, str(error))
                return
            if parts is None:
                return
            head, data = parts
            head = header(_BINARY, len(head) + len(data)) + head
            try:
                sent = self.sock.sendmsg((head, data))
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lost(error)
                return
            if sent != len(head) + len(data):
                self._rest = memoryview(head + data)[sent:]
                self._wait_for_room()
                return

    def _caught_up(self) -> None:
        super()._caught_up()
        self.wake()

    # What comes in

    def _data_received(self, data: bytes) -> None:
        self.server.bytes_received(self._loop.time())
        self._handle(self._parser.receive(data))
        self.wake()

    def _message_received(self, message: Message) -> None:
        if message.opcode != Opcode.BINARY:
            self._broken(CloseState.AWAITING_CLOSE, 1002, "a text message; accepted: binary messages")
            return
        try:
            forward = self.server.receive(message.payload, self._loop.time())
        except TrunkError as error:
            self._broken(CloseState.AWAITING_CLOSE, 1002, str(error))
            return
        except RelayRefusedError as error:
            self.close(_TRY_AGAIN_LATER, str(error))
            return
        if forward is not None:
            self._forward(forward)

    def _close_received(self, close: Close) -> None:
        self._close(CloseState.CLOSE_RECEIVED, 1000 if close.code == 1005 else close.code)

    def _violated(self, violation: Violation) -> None:
        self._broken(CloseState.FAILED, violation.code, violation.reason)

    def _broken(self, state: CloseState, code: int, reason: str) -> None:
        if (told := self._failures.failed(f"broken: {reason}")) is not None:
            extra = {"consumer": self.server.consumer, **told, "problem": reason}
            logger.warning("a trunk is broken", extra=extra)
        self._close(state, code, reason)

    def _lost(self, error: OSError | None) -> None:
        if not self._close_state:
            problem = "closed without a close frame" if error is None else str(error)
            if (told := self._failures.failed(problem)) is not None:
                logger.info("a trunk is lost", extra={"consumer": self.server.consumer, **told})
        self.abort()

    # Time

    def _time_passed(self) -> None:
        if self._close_state:
            return  # from now on the deadline of the closing handshake applies
        now = self._loop.time()
        if self._progress.look(waiting=self.pending):
            self.server.bytes_received(now)
        if not self.server.wake(now):
            if (told := self._failures.failed("does not respond")) is not None:
                extra = {"consumer": self.server.consumer, "seats": self.server.held, **told}
                logger.warning("a trunk does not respond: its seats are free again", extra=extra)
            self.abort()
            return
        self._timer = self._loop.call_at(self.server.wake_at, self._time_passed)
        self.wake()
