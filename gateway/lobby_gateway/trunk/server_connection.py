"""The socket of a trunk at the lobby's end. What goes over it is decided by `TrunkServer`.

It sits on a plain non-blocking socket: a message of the origin goes from the ring to the socket by one `sendmsg`, in the very
callback that published it. When the socket is full nothing is queued but the rest of one record; the server's cursor stays.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from lobby_gateway.trunk.records import MAX_FORWARD_BYTES, MoveReason, TrunkError
from lobby_gateway.trunk.server import Parts, TrunkServer
from lobby_gateway.websocket.frames import Opcode, close_payload, frame, header
from lobby_gateway.websocket.listener import TCP_NOTSENT_LOWAT
from lobby_gateway.websocket.parser import Close, FrameParser, Message, Ping, Violation

logger = logging.getLogger(__name__)

MAX_RECORD_BYTES = MAX_FORWARD_BYTES + 64
"""Largest record taken from a consumer: a client's message to the origin, and its head."""
CLOSE_TIMEOUT_SECONDS = 2.0
"""How long the answer to our close frame is waited for."""

_READ_BYTES = 65536
_UNSENT_BYTES = 256 << 10  # in the kernel: enough to keep the network busy, and little to be behind by


class TrunkServerConnection:
    """One trunk of a lobby, after its handshake. The socket is owned, and closed, here.

    Attributes:
        server: the lobby's end of the trunk.
    """

    __slots__ = (
        "_answered", "_closing", "_deadline", "_deaf", "_fd", "_forward", "_loop", "_on_closed", "_parser", "_pong", "_rest",
        "_sock", "_timer", "server",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        server: TrunkServer,
        *,
        forward: Callable[[int, bytes], None],
        on_closed: Callable[[TrunkServerConnection], None],
        leftover: bytes = b"",
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        """Takes over a socket; no callback is called before the next turn of the event loop.

        Args:
            sock: connected, non-blocking, behind the 101 that chose `trunk.SUBPROTOCOL`.
            loop: the running event loop.
            server: made for this trunk alone.
            forward: gets opcode and payload of clients' messages for the origin.
            on_closed: called once, when the socket is closed; the seats are given back by then.
            leftover: bytes that came in the same read as the handshake.
            max_record_bytes: largest record accepted.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self.server = server
        self._sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._forward = forward
        self._on_closed = on_closed
        self._parser = FrameParser(masked=True, max_message_bytes=max_record_bytes)
        self._rest: memoryview | None = None  # of what the socket did not take; nothing else goes out before it
        self._pong: bytes | None = None  # a whole frame that waits for room
        self._closing: bytes | None = None  # our close frame, once nothing else is to go out
        self._answered = False  # the peer's close frame came: the socket is closed when ours is out
        self._deaf = (
            False  # the peer broke RFC 6455, so no close frame of it will be seen: only its end of the connection
        )
        self._deadline: asyncio.TimerHandle | None = None
        loop.add_reader(self._fd, self._readable)
        self._timer = loop.call_at(server.wake_at, self._time_passed)
        if leftover:
            loop.call_soon(self._received, leftover)

    def __repr__(self) -> str:
        return f"<TrunkServerConnection of {self.server.consumer or '?'}: {self.server.held} seats>"

    @property
    def closed(self) -> bool:
        """The socket is closed."""
        return self._fd < 0

    def wake(self) -> None:
        """There may be something to send: to be called after each batch that was added to the ring."""
        if self._rest is None and self._closing is None and self._fd >= 0:
            self._send_records()

    def move(self, reason: MoveReason, within_seconds: float = 0.0) -> None:
        """Asks the consumer to take its seats elsewhere, spread over so many seconds. The stream goes on meanwhile."""
        self.server.move(reason, within_seconds)
        self.wake()

    def tell_status(self) -> None:
        """Tells the consumer now that the origin came or went, or how many seats there are; else it is told soon."""
        self.server.tell_status()
        self.wake()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2), once a begun record is out. The seats are given back now."""
        if self._closing is None and self._fd >= 0:
            self.server.close()
            self._deadline = self._loop.call_later(CLOSE_TIMEOUT_SECONDS, self.abort)
            self._closing = frame(Opcode.CLOSE, close_payload(code, reason))
            if self._rest is None:
                self._send_close()

    def abort(self) -> None:
        """Closes the socket at once."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._timer.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        self._loop.remove_reader(fd)
        if self._rest is not None:
            self._rest = None
            self._loop.remove_writer(fd)
        self._sock.close()
        self.server.close()
        self._on_closed(self)

    # What goes out

    def _send_records(self) -> None:
        now = self._loop.time()
        take = self.server.take
        while True:
            if self._pong is not None:
                pong, self._pong = self._pong, None
                sent = self._send(pong, b"")
            else:
                parts: Parts | None = take(now)
                if parts is None:
                    return
                head, data = parts
                sent = self._send(header(Opcode.BINARY, len(head) + len(data)) + head, data)
            if not sent:
                return

    def _send(self, head: bytes, data: bytes) -> bool:
        """Sends all of it, or keeps what the socket does not take; then nothing else may be sent."""
        try:
            sent = self._sock.sendmsg((head, data))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return False
        if sent == len(head) + len(data):
            return True
        self._rest = memoryview(head + data)[sent:]
        self._loop.add_writer(self._fd, self._writable)
        return False

    def _writable(self) -> None:
        assert self._rest is not None  # noqa: S101  the writer is there as long as it
        try:
            self._rest = self._rest[self._sock.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if not self._rest:
            self._rest = None
            self._loop.remove_writer(self._fd)
            if self._closing is None:
                self._send_records()
            else:
                self._send_close()

    def _send_close(self) -> None:
        """Sends our close frame; when it is out and answered, the server closes the TCP connection first (§7.1.1)."""
        data, self._closing = self._closing, b""
        if data and not self._send(data, b""):
            return  # we come here again when it is out
        if self._answered:
            self.abort()
        elif self._deaf:
            # Closing a socket with unread bytes would be a reset, and lose the close frame: only our half is closed.
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lost(error)

    # What comes in

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._received(data)
        else:
            self._lost(None)

    def _received(self, data: bytes) -> None:
        if self._fd < 0:  # closed before the bytes behind the handshake were looked at
            return
        now = self._loop.time()
        self.server.heard(now)
        for event in self._parser.receive(data):
            if isinstance(event, Close):
                self._close_received(event)
                return
            if self._closing is not None or self._fd < 0:
                continue  # what comes behind our close is not acted on
            if isinstance(event, Message):
                self._record_received(event, now)
            elif isinstance(event, Ping):
                self._pong = frame(Opcode.PONG, event.payload)  # of several, the latest (RFC 6455 §5.5.3)
            elif isinstance(event, Violation):
                self._deaf = True
                self._broken(event.code, event.reason)
                return
        self.wake()

    def _record_received(self, message: Message, now: float) -> None:
        if message.opcode != Opcode.BINARY:
            self._broken(1002, "a text message; accepted: binary ones")
            return
        try:
            forward = self.server.receive(message.payload, now)
        except TrunkError as error:
            self._broken(1002, str(error))
            return
        if forward is not None:
            self._forward(forward.opcode, forward.payload)

    def _close_received(self, event: Close) -> None:
        self._answered = True
        if self._closing is None:
            self.close(1000 if event.code == 1005 else event.code)
        elif self._rest is None:
            self.abort()

    def _broken(self, code: int, reason: str) -> None:
        logger.warning("a trunk is broken", extra={"consumer": self.server.consumer, "problem": reason})
        self.close(code, reason)

    def _lost(self, error: OSError | None) -> None:
        if self._closing is None:
            problem = "closed without a close frame" if error is None else str(error)
            logger.info("a trunk is lost", extra={"consumer": self.server.consumer, "problem": problem})
        self.abort()

    # Time

    def _time_passed(self) -> None:
        if self._closing is not None:
            return  # `_deadline` sees to the rest
        if not self.server.wake(self._loop.time()):
            extra = {"consumer": self.server.consumer, "seats": self.server.held}
            logger.warning("a trunk is silent: its seats are free again", extra=extra)
            self.abort()
            return
        self._timer = self._loop.call_at(self.server.wake_at, self._time_passed)
        self.wake()
