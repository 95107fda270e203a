"""The server's end of a WebSocket connection after its handshake, for clients and for trunks.

RFC 6455 is spoken on a plain non-blocking socket: an asyncio transport for each connection takes more memory than everything
else, and a tenth of the speed. As long as the socket takes everything, nothing is kept here; only when it is full do the rest
of a partially sent frame and the control frames after it wait until the event loop reports that there is room.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import IntEnum

from lobby_gateway.websocket.frames import Opcode, frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Message, Ping, Violation


class CloseState(IntEnum):
    """How far the closing handshake is (RFC 6455 §7.1)."""

    OPEN = 0
    """It has not begun."""
    AWAITING_CLOSE = 1
    """We began it: the peer's close frame is awaited."""
    CLOSE_RECEIVED = 2
    """The peer's close frame arrived: the socket is closed as soon as ours is sent."""
    FAILED = 3
    """Nothing more from the peer is read as frames (§7.1.7): the end of its TCP connection is awaited."""


class ServerSocket(ABC):
    """A connected WebSocket. The TCP socket is owned, and closed, here.

    Attributes:
        sock: the socket; a subclass sends to it directly as long as `pending` is false.
        fd: its descriptor; -1 once it is closed.
        pending: something waits for room in the socket.
    """

    __slots__ = (
        "_close_state",
        "_control",
        "_deadline",
        "_loop",
        "_parser",
        "_read_bytes",
        "_rest",
        "fd",
        "pending",
        "sock",
    )

    send_flags = 0
    """Flags of `send`."""

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, parser: FrameParser, *, read_bytes: int
    ) -> None:
        """Takes over a socket; no callback is called before the next turn of the event loop.

        Args:
            sock: connected, non-blocking, after the 101.
            loop: the running event loop.
            parser: parses the peer's frames.
            read_bytes: most bytes of one read.
        """
        self.sock = sock
        self.fd = sock.fileno()
        self.pending = False
        self._loop = loop
        self._parser = parser
        self._read_bytes = read_bytes
        self._rest: memoryview | None = None  # of a partially sent frame
        self._control = b""  # whole control frames to send at the next frame boundary
        self._close_state = CloseState.OPEN  # otherwise a close frame was sent or queued: no data frame may follow
        self._deadline: asyncio.TimerHandle | None = None
        loop.add_reader(self.fd, self._readable)

    @property
    def closed(self) -> bool:
        """The socket is closed."""
        return self.fd < 0

    @property
    def closing(self) -> bool:
        """The closing handshake has begun, or the socket is closed."""
        return self._close_state != CloseState.OPEN or self.fd < 0

    def feed(self, leftover: bytes) -> None:
        """Takes bytes that came in the same read as the handshake."""
        for at in range(0, len(leftover), self._read_bytes):
            if self.fd < 0 or self._close_state is CloseState.FAILED:
                return
            self._data_received(leftover[at : at + self._read_bytes])

    def abort(self) -> None:
        """Closes the socket at once."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._loop.remove_reader(fd)
        if self.pending:
            self._loop.remove_writer(fd)
        self.sock.close()
        self._rest = None
        self._control = b""

    # For subclasses

    @abstractmethod
    def _data_received(self, data: bytes) -> None:
        """Bytes arrived: passes them to the parser, and its events to `_handle`."""

    @abstractmethod
    def _message_received(self, message: Message) -> None:
        """A whole message arrived while the connection was open."""

    @abstractmethod
    def _close_received(self, close: Close) -> None:
        """The peer began the closing handshake: answers with `_begin_close`."""

    @abstractmethod
    def _violated(self, violation: Violation) -> None:
        """The peer broke RFC 6455: fails the connection with `_begin_close`."""

    @abstractmethod
    def _lost(self, error: OSError | None) -> None:
        """The TCP connection is lost; `error` is None if the peer closed it. Aborts."""

    def _send_data(self) -> bool:
        """The socket has room: sends waiting data frames; returns whether all were sent."""
        return True

    def _handle(self, events: Iterable[Event]) -> None:
        pongs: list[bytes] = []
        for event in events:
            if isinstance(event, Message):
                if not self._close_state and self.fd >= 0:
                    self._message_received(event)
            elif isinstance(event, Ping):
                pongs.append(frame(Opcode.PONG, event.payload))
            elif isinstance(event, Close):
                if not self.closing:
                    self._send_pongs(pongs)
                    if not self.closing:
                        self._close_received(event)
                    return
                self._close_state = CloseState.CLOSE_RECEIVED  # the answer to ours
                if not self.pending:
                    self.abort()
                return
            elif isinstance(event, Violation):
                if not self._close_state:
                    self._violated(event)
                return
        if not self.closing:
            self._send_pongs(pongs)

    def _begin_close(self, state: CloseState, payload: bytes, timeout: float) -> None:
        """Sends our close frame, after a partially sent frame; the socket is closed within `timeout` seconds."""
        self._close_state = state
        self._deadline = self._loop.call_later(timeout, self.abort)
        self._send_control(frame(Opcode.CLOSE, payload))
        if not self.pending:
            self._close_sent()

    def _close_sent(self) -> None:
        if self.fd < 0:
            return
        if self._close_state is CloseState.CLOSE_RECEIVED:
            self.abort()  # the server closes the TCP connection first (RFC 6455 §7.1.1)
        elif self._close_state is CloseState.FAILED:
            # Closing a socket with unread bytes would be a reset, and lose the close frame: only our half is closed.
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lost(error)

    def _send_pongs(self, pongs: list[bytes]) -> None:
        """Sends as many as the socket takes; of the others only the latest is kept, which is enough (RFC 6455 §5.5.3)."""
        if not pongs:
            return
        if self.pending:
            self._control = pongs[-1]  # replaces an earlier pong (or our ping) that was not sent: a flood stays bounded
        else:
            self._send_frames(pongs)

    def _send_control(self, data: bytes) -> None:
        """Sends a whole control frame, or keeps it for the next frame boundary."""
        if self.pending:
            self._control += data
        else:
            self._send_frames([data])

    def _send_frames(self, frames: list[bytes]) -> None:
        """Sends control frames; keeps the rest of a partially sent one, and of those after it only the last."""
        data = b"".join(frames)
        try:
            sent = self.sock.send(data, self.send_flags)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        if sent == len(data):
            return
        end = 0  # of the frame that was sent last
        for each in frames:
            end += len(each)
            if end >= sent:
                break
        if 0 < sent < end:
            self._rest = memoryview(data)[sent:end]
        if not sent or end < len(data):
            self._control = frames[-1]
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        self.pending = True
        self._loop.add_writer(self.fd, self._writable)

    def _writable(self) -> None:
        try:
            if self._send_waiting() and self._send_data():
                self._caught_up()
        except BlockingIOError:
            pass  # the socket is full again; we are called when it has room
        except OSError as error:
            self._lost(error)

    def _send_waiting(self) -> bool:
        """Sends the rest of a partially sent frame, and control frames; returns whether all were sent."""
        while self._rest is not None or self._control:
            if self._rest is None:
                self._rest = memoryview(self._control)  # now the partially sent frame
                self._control = b""
            sent = self.sock.send(self._rest, self.send_flags)
            if sent != len(self._rest):
                self._rest = self._rest[sent:]
                return False
            self._rest = None
        return True

    def _caught_up(self) -> None:
        """Nothing waits for room any more."""
        self.pending = False
        self._loop.remove_writer(self.fd)
        if self._close_state:
            self._close_sent()

    def _readable(self) -> None:
        try:
            data = self.sock.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._data_received(data)
        else:
            self._lost(None)
