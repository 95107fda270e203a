"""One client's socket: what it sends us, and what it could not take yet.

The fast path does not come here: the message bus sends to the socket of a client that has nothing pending. Only when the
socket takes less than all, the begun frame and a mailbox of what comes behind it are kept, and the event loop tells when
there is room. RFC 6455 is spoken on a plain socket: a transport each costs more memory than all else and a tenth in speed.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.fan_out import SEND_FLAGS
from lobby_gateway.clients.mailbox import Mailbox
from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.close_codes import CloseCode
from lobby_gateway.resource.spec import ClientsSpec, Overflow
from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, frame
from lobby_gateway.websocket.parser import Close, FrameParser, Message, Ping, Violation

if TYPE_CHECKING:
    from lobby_gateway.clients.message_bus import MessageBus

READ_BYTES = 16384  # as frames of six bytes they take 3 ms, in which no one else is served; 64 KiB would take 17
_FLOODED_SECONDS = 1.0  # for a close frame to be read by one whose own frames, and end, are not looked at any more
_PING = frame(Opcode.PING, b"")

# What the closing handshake waits for once our close frame is out.
_OPEN = 0
_AWAIT_ANSWER = 1  # we began: the client's close frame
_ANSWERED = 2  # the client began: nothing, the socket is closed
_VIOLATED = 3  # nothing that it sends is read as frames any more: its end of the TCP connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """How the clients of one Lobby are served; one object shared by all of them.

    Attributes:
        mailbox_messages: most messages that wait for one client.
        disconnect_when_full: close a client whose mailbox overflows instead of dropping its oldest message.
        max_message_bytes: largest message accepted from a client.
        ping_seconds: a client that was silent for so long is pinged; 0: never.
        ping_timeout_seconds: a pinged client that stays silent for so long is closed.
        close_timeout_seconds: how long the answer to our close frame is waited for.
        flood: how fast a client may send.
    """

    mailbox_messages: int = 16
    disconnect_when_full: bool = False
    max_message_bytes: int = 65536
    ping_seconds: float = 25.0
    ping_timeout_seconds: float = 20.0
    close_timeout_seconds: float = 5.0
    flood: FloodLimit = FLOOD_LIMIT

    @classmethod
    def of(cls, clients: ClientsSpec, flood: FloodLimit = FLOOD_LIMIT) -> ClientPolicy:
        """How a Lobby wants its clients served, wherever they are connected."""
        return cls(
            mailbox_messages=clients.queue.messages,
            disconnect_when_full=clients.queue.overflow is Overflow.DISCONNECT,
            max_message_bytes=clients.max_message_bytes,
            ping_seconds=clients.ping_seconds,
            flood=flood,
        )


class ClientOwner(Protocol):
    """Whoever accepted the client: a lobby's or a greeter's router."""

    def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        """A whole message came from the client."""

    def client_closed(self, client: ClientConnection, label: str) -> None:
        """The client is gone; called once. `label` is one of `close_codes.CLOSE_LABELS`."""


class ClientConnection:
    """A client after its handshake. Its socket is owned, and closed, here.

    Attributes:
        sock: for the message bus only, which sends by itself as long as `pending` is false.
        fd: its descriptor; -1 once it is closed.
        pending: something waits for room in the socket.
        deflate: permessage-deflate was negotiated.
        bus: the message bus it is attached to, if any.
        owner: is told what happens to it.
        policy: how it is served; may be replaced. `max_message_bytes` counts as it was at the start.
        dropped: messages of this client that were dropped.
        context: for the owner.
    """

    __slots__ = (
        "_closing", "_control", "_deadline", "_heard", "_label", "_loop", "_mailbox", "_parser", "_pinged", "_rest",
        "_spent_until", "bus", "context", "deflate", "dropped", "fd", "owner", "pending", "policy", "sock",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        *,
        loop: asyncio.AbstractEventLoop,
        policy: ClientPolicy,
        owner: ClientOwner,
        deflate: bool = False,
        context: object = None,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self._loop = loop
        self.policy = policy
        self._parser = FrameParser(
            masked=True,
            max_message_bytes=policy.max_message_bytes,
            deflate=Inflater(policy.max_message_bytes) if deflate else None,
        )
        self._mailbox: Mailbox | None = None
        self._rest: memoryview | None = None  # of the frame that went out in part
        self._control = b""  # whole control frames that go out at the next frame boundary
        self._closing = _OPEN  # otherwise a close frame is out, or on its way: no data frame may follow
        self._deadline: asyncio.TimerHandle | None = None
        self._label = ""
        self._heard = loop.time()
        self._pinged = 0.0
        self._spent_until = 0.0  # when what it sent so far is forgotten (see `FloodLimit`)
        self.pending = False
        self.deflate = deflate
        self.bus: MessageBus | None = None
        self.owner = owner
        self.dropped = 0
        self.context = context
        loop.add_reader(self.fd, self._readable)

    @property
    def closed(self) -> bool:
        """The socket is closed."""
        return self.fd < 0

    @property
    def closing(self) -> bool:
        """The closing handshake has begun, or the socket is closed."""
        return self._closing != _OPEN or self.fd < 0

    @property
    def waiting_messages(self) -> int:
        """Messages of which nothing is out yet."""
        return len(self._mailbox) if self._mailbox is not None else 0

    # What goes out

    def deliver(self, batch: Batch) -> int:
        """Sends a batch (already deflated if `deflate`), or keeps what the socket doesn't take; returns messages dropped."""
        if self.pending:
            return self.wait(batch.frames)
        try:
            sent = self.sock.send(batch.data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return 0
        if sent != len(batch.data):
            self.keep(batch, sent)
        return 0

    def keep(self, batch: Batch, sent: int) -> None:
        """Keeps all that is left of a batch of which the socket took `sent` bytes."""
        self._mailbox = Mailbox(self.policy.mailbox_messages)
        index, self._rest = self._mailbox.begin(batch, sent)
        if self.bus is not None:
            self.bus.stats.deliveries += index
            self.bus.stats.delivered_bytes += batch.ends[index - 1] if index else 0
        self._wait_for_room()
        self._note_waiting(len(self._mailbox))

    def wait(self, frames: tuple[bytes, ...]) -> int:
        """Puts frames into the mailbox; returns how many messages were dropped for them."""
        if self._closing or not frames:
            return 0
        if self._mailbox is None:
            self._mailbox = Mailbox(self.policy.mailbox_messages)
        dropped = self._mailbox.put(frames)
        self._note_waiting(len(self._mailbox))
        if dropped:
            self.dropped += dropped
            if self.policy.disconnect_when_full:
                self.close(close_codes.TOO_SLOW)
        return dropped

    def _note_waiting(self, messages: int) -> None:
        if self.bus is not None and messages > self.bus.stats.high_water:
            self.bus.stats.high_water = messages

    def feed(self, leftover: bytes) -> None:
        """Takes bytes that came in the same read as the handshake."""
        if leftover and not self.closed:
            self._received(leftover)

    def close(self, close: CloseCode, reason: str | None = None) -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2): whole messages that wait are let go, a begun frame is finished."""
        if self.closing:
            return
        text = close.reason if reason is None else reason
        self._begin_close(_AWAIT_ANSWER, frame(Opcode.CLOSE, close_payload(close.code, text)), close.label)

    def abort(self, label: str = close_codes.LOST) -> None:
        """Closes the socket at once."""
        if self.fd < 0:
            return
        if self.bus is not None:
            self.bus.detach(self)  # before the descriptor is another one's
        loop, fd = self._loop, self.fd
        self.fd = -1
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        loop.remove_reader(fd)
        if self.pending:
            loop.remove_writer(fd)
        self.sock.close()
        self._mailbox = self._rest = None
        self._control = b""
        self.owner.client_closed(self, self._label or label)

    def check(self, now: float) -> None:
        """Pings a client that was silent for long, and gives one up that does not answer (called now and then)."""
        policy = self.policy
        if self.closing or not policy.ping_seconds:
            return
        if self._pinged:
            if now - self._pinged >= policy.ping_timeout_seconds:
                self.close(close_codes.PING_TIMEOUT)
        elif now - self._heard >= policy.ping_seconds:
            self._pinged = now
            self._send_control(_PING)

    def _begin_close(self, closing: int, close_frame: bytes, label: str, *, seconds: float | None = None) -> None:
        self._closing = closing
        self._label = self._label or label
        self._mailbox = None
        if self.bus is not None:
            self.bus.detach(self)
        self._deadline = self._loop.call_later(seconds or self.policy.close_timeout_seconds, self.abort)
        self._send_control(close_frame)
        if not self.pending:
            self._close_is_out()

    def _close_is_out(self) -> None:
        if self.fd < 0:
            return
        if self._closing == _ANSWERED:  # the server closes the TCP connection first (RFC 6455 §7.1.1)
            self.abort()
        elif self._closing == _VIOLATED:
            # Closing a socket with unread bytes would be a reset, and lose the close frame: only our half is closed.
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._lost()

    def _send_control(self, data: bytes) -> None:
        if self.pending:
            self._control += data
            return
        try:
            sent = self.sock.send(data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return
        if sent != len(data):
            if sent:
                self._rest = memoryview(data)[sent:]
            else:
                self._control = data
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        self.pending = True
        self._loop.add_writer(self.fd, self._writable)
        if self.bus is not None:
            self.bus.fell_behind(self)  # what it sent by itself could come in the middle of a control frame

    def _writable(self) -> None:
        delivered = delivered_bytes = 0
        try:
            while True:
                if self._rest is not None:
                    sent = self.sock.send(self._rest, SEND_FLAGS)
                    if sent != len(self._rest):
                        self._rest = self._rest[sent:]
                        break
                    self._rest = None
                if self._control:
                    self._rest = memoryview(self._control)  # until it is out, it is the begun frame
                    self._control = b""
                elif self._mailbox:
                    sent = self.sock.send(self._mailbox.next(), SEND_FLAGS)
                    count, self._rest = self._mailbox.took(sent)
                    delivered += count
                    delivered_bytes += sent + len(self._rest or b"")
                    if self._rest is not None:
                        break
                else:
                    self._caught_up()
                    break
        except BlockingIOError:
            pass  # the socket is full again; we are called when it has room
        except OSError:
            self._lost()
        if delivered and self.bus is not None:
            self.bus.stats.deliveries += delivered
            self.bus.stats.delivered_bytes += delivered_bytes

    def _caught_up(self) -> None:
        self.pending = False
        self._loop.remove_writer(self.fd)
        if self.bus is not None:
            self.bus.caught_up(self)
        self._mailbox = None
        if self._closing:
            self._close_is_out()

    # What comes in

    def _readable(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._received(data)

    def _received(self, data: bytes) -> None:
        self._heard = now = self._loop.time()
        self._pinged = 0.0
        pong: bytes | None = None
        events = self._parser.receive(data)
        flood = self.policy.flood
        self._spent_until = max(self._spent_until, now) + flood.cost(self._parser.frames, len(data))
        if self._spent_until - now > flood.bucket(self.policy.max_message_bytes) and not self._closing:
            self._flooded()
            return
        for event in events:
            if isinstance(event, Message):
                if not self._closing:
                    self.owner.client_message(self, event.opcode, event.payload)
            elif isinstance(event, Ping):
                pong = event.payload  # only the latest of several needs an answer (RFC 6455 §5.5.3)
            elif isinstance(event, Close):
                self._closed_by_client(event)
                return
            elif isinstance(event, Violation):
                self._violated(event)
                return
        if pong is not None and not self.closing:
            self._pong(frame(Opcode.PONG, pong))

    def _pong(self, data: bytes) -> None:
        if self.pending and self._control:
            self._control = data  # an earlier pong (or our ping) that never went out is replaced: a flood stays bounded
        else:
            self._send_control(data)

    def _closed_by_client(self, event: Close) -> None:
        if self._closing:  # the answer to ours
            self.abort()
            return
        payload = b"" if event.code == 1005 else close_payload(event.code)
        self._begin_close(_ANSWERED, frame(Opcode.CLOSE, payload), close_codes.BY_CLIENT)

    def _flooded(self) -> None:
        """The client sends faster than it may: it is told, and what else it sends is not even read."""
        close = close_codes.FLOODED
        self._loop.remove_reader(self.fd)
        told = frame(Opcode.CLOSE, close_payload(close.code, close.reason))
        self._begin_close(_VIOLATED, told, close.label, seconds=_FLOODED_SECONDS)

    def _violated(self, event: Violation) -> None:
        if self._closing:
            return
        label = _LABEL_OF_VIOLATION.get(event.code, close_codes.PROTOCOL_ERROR.label)
        self._begin_close(_VIOLATED, frame(Opcode.CLOSE, close_payload(event.code, event.reason)), label)

    def _lost(self) -> None:
        self.abort(close_codes.LOST)


_LABEL_OF_VIOLATION = {
    close.code: close.label for close in (close_codes.PROTOCOL_ERROR, close_codes.INVALID_DATA, close_codes.TOO_BIG)
}
