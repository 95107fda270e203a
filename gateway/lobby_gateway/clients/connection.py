"""One client's connection: what it sends, and what its socket has not accepted yet.

The fast path bypasses this module: the message bus sends directly to the socket of a client that has nothing pending. Only if
the socket does not accept everything are the rest of the partially sent frame and a mailbox of later messages kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lobby_gateway import close_codes
from lobby_gateway.clients.backlog import QueueLimits
from lobby_gateway.clients.fan_out import SEND_FLAGS
from lobby_gateway.clients.mailbox import Mailbox
from lobby_gateway.clients.rate_limit import FLOOD_LIMIT, FloodLimit
from lobby_gateway.close_codes import CloseCode
from lobby_gateway.resource.spec import ClientsSpec, Overflow
from lobby_gateway.settings import ClientSettings
from lobby_gateway.websocket.deflate import Inflater
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, frame
from lobby_gateway.websocket.parser import Close, FrameParser, Message, Violation
from lobby_gateway.websocket.send_progress import SendProgress
from lobby_gateway.websocket.server_socket import CloseState, ServerSocket
from lobby_gateway.websocket.tcp_info import TcpInfo

if TYPE_CHECKING:
    from lobby_gateway.clients.message_bus import MessageBus

logger = logging.getLogger(__name__)

_PING = frame(Opcode.PING, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """How the clients of one Lobby are served; all of them share one object.

    Attributes:
        queue: what may wait for one client.
        batch_seconds: how long messages are gathered to be sent together; 0: not at all.
        disconnect_when_full: close a client instead of dropping its oldest message.
        max_message_bytes: largest message accepted from a client.
        ping_seconds: a client that has been silent for this long is pinged; 0: never.
        flood: how fast a client may send.
        forward_seconds: what a message to the origin takes out of the flood limit's bucket, in seconds.
        settings: what no Lobby sets.
    """

    queue: QueueLimits = field(default_factory=QueueLimits)
    batch_seconds: float = 0.0
    disconnect_when_full: bool = False
    max_message_bytes: int = 65536
    ping_seconds: float = 25.0
    flood: FloodLimit = FLOOD_LIMIT
    forward_seconds: float = 0.0
    settings: ClientSettings = field(default_factory=ClientSettings)

    @classmethod
    def of(cls, clients: ClientsSpec, flood: FloodLimit = FLOOD_LIMIT) -> ClientPolicy:
        """The policy that a Lobby asks for, in lobbies and greeters alike."""
        return cls(
            queue=QueueLimits(
                messages=clients.queue.messages,
                seconds=clients.queue.milliseconds / 1000,
                bytes=clients.queue.bytes,
            ),
            batch_seconds=clients.batch_milliseconds / 1000,
            disconnect_when_full=clients.queue.overflow is Overflow.DISCONNECT,
            max_message_bytes=clients.max_message_bytes,
            ping_seconds=clients.ping_seconds,
            flood=flood,
            forward_seconds=1 / rate if (rate := clients.forward.messages_per_second_per_client) else 0.0,
        )


class ClientOwner(Protocol):
    """What accepted the client: a lobby's handshakes or a greeter's service."""

    def client_message(self, client: ClientConnection, opcode: int, payload: bytes) -> None:
        """The client sent a whole message."""

    def client_closed(self, client: ClientConnection, label: str) -> None:
        """The client's socket is closed; called once. `label` is one of `close_codes.CLOSE_LABELS`."""


class ClientConnection(ServerSocket):
    """A client after its handshake.

    Attributes:
        deflate: permessage-deflate was negotiated.
        bus: the message bus it is attached to, if any. It sends by itself as long as `pending` is false.
        owner: is notified of messages and of the end.
        mailbox: what waits for room in the socket, while it is full and the connection open.
        policy: how it is served; may be replaced. `max_message_bytes` keeps its first value.
        dropped: messages of this client that were dropped.
        context: data of the owner.
    """

    __slots__ = (
        "_label", "_pinged", "_received_at", "_spent_until", "bus", "context", "deflate", "dropped", "mailbox", "owner",
        "policy",
    )  # fmt: skip

    send_flags = SEND_FLAGS

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
        parser = FrameParser(
            masked=True,
            max_message_bytes=policy.max_message_bytes,
            deflate=Inflater(policy.max_message_bytes) if deflate else None,
        )
        settings = policy.settings
        read_bytes = settings.deflated_read_bytes if deflate else settings.read_bytes
        super().__init__(sock, loop, parser, read_bytes=read_bytes)
        self.policy = policy
        self.mailbox: Mailbox | None = None
        self._label = ""
        self._received_at = loop.time()
        self._pinged: tuple[float, SendProgress] | None = None  # since when a pong is awaited, if one is
        self._spent_until = 0.0  # when everything it has sent so far is paid off (see `FloodLimit`)
        self.deflate = deflate
        self.bus: MessageBus | None = None
        self.owner = owner
        self.dropped = 0
        self.context = context

    @property
    def waiting_messages(self) -> int:
        """Messages in the mailbox: no byte of them has been sent."""
        return len(self.mailbox) if self.mailbox is not None else 0

    @property
    def waiting_of_stream(self) -> int:
        """Those of them that have a place in the stream."""
        return self.mailbox.placed if self.mailbox is not None else 0

    # Sending

    def deliver(self, batch: Batch, now: float) -> None:
        """Sends a batch (deflated if `deflate`) to this client alone, keeping what the socket doesn't accept."""
        if self.mailbox is not None:
            self.mailbox.put(batch, now, self.policy.queue)
            return
        try:
            sent = self.sock.send(batch.data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        if sent != len(batch.data):
            mailbox = Mailbox()
            mailbox.put(batch, now, self.policy.queue)
            self.wait_from(mailbox, batch, sent)
        elif self.bus is not None:
            self.bus.stats.deliveries += len(batch)
            self.bus.stats.delivered_bytes += sent

    def wait_from(self, mailbox: Mailbox, batch: Batch, sent: int) -> None:
        """The socket is full: it took `sent` bytes of a batch, the first one of `mailbox`."""
        self.mailbox = mailbox
        if sent:
            self._sent(mailbox, memoryview(batch.data), sent)
        self._wait_for_room()
        self._note_high_water()

    def check_line(self, now: float) -> None:
        """Looks at a client whose socket is full: drops what may no longer wait, and closes it if it makes no progress."""
        mailbox = self.mailbox
        if mailbox is None:
            return
        settings = self.policy.settings
        info = TcpInfo.of(self.sock)
        if mailbox.acked < 0 or not info.window_closed:
            mailbox.closed_at = now
        if info.acked != mailbox.acked:
            mailbox.acked, mailbox.acked_at = info.acked, now
        silent = now - mailbox.acked_at
        if silent >= settings.stalled_seconds:
            self.close(close_codes.TOO_SLOW)
            return
        closed = now - mailbox.closed_at
        mailbox.not_reading = closed >= settings.not_reading_seconds or silent >= settings.silent_line_seconds
        self._note_high_water()
        self._drop(mailbox, now)

    def _drop(self, mailbox: Mailbox, now: float) -> None:
        """Drops what may no longer wait; or closes the client instead, if the Lobby asks for that."""
        bus = self.bus
        if bus is None:
            return  # it is moving: nothing is added meanwhile
        dropped = mailbox.drop(now)
        count = int(dropped)
        if count:
            self.dropped += count
            bus.stats.count_dropped(dropped)
            if self.policy.disconnect_when_full:
                self.close(close_codes.TOO_SLOW)

    def _sent(self, mailbox: Mailbox, data: memoryview, sent: int) -> None:
        """The socket took `sent` bytes of the next ones in the mailbox: keeps the rest of a frame that was cut."""
        count, unsent = mailbox.took(sent)
        if unsent:
            rest = data[sent : sent + unsent]
            # Of many small messages only this one is kept in memory; a large one is shared with others that lag.
            self._rest = rest if unsent * 2 > memoryview(data.obj).nbytes else memoryview(bytes(rest))
        if self.bus is not None:
            self.bus.stats.deliveries += count
            self.bus.stats.delivered_bytes += sent + unsent

    def _note_high_water(self) -> None:
        if self.bus is not None and self.waiting_messages > self.bus.stats.high_water:
            self.bus.stats.high_water = self.waiting_messages

    def close(self, close: CloseCode, reason: str | None = None) -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2): the mailbox is discarded; a partially sent frame is completed."""
        if self.closing:
            return
        text = close.reason if reason is None else reason
        self._close(CloseState.AWAITING_CLOSE, close_payload(close.code, text), close.label)

    def abort(self, label: str = close_codes.LOST) -> None:
        """Closes the socket at once."""
        if self.fd < 0:
            return
        self.mailbox = None
        if self.bus is not None:
            self.bus.remove(self)  # before another socket can get the descriptor
        super().abort()
        self.owner.client_closed(self, self._label or label)

    def charge_forward(self) -> bool:
        """Takes a message to the origin out of the flood limit; returns False, and closes, if it exceeds that."""
        self._spent_until = max(self._spent_until, self._received_at) + self.policy.forward_seconds
        if self._spent_until - self._received_at <= self.policy.flood.bucket(self.policy.max_message_bytes):
            return True
        self._flooded()
        return False

    def check_liveness(self, now: float) -> None:
        """Pings a silent client, and closes one that has not answered; to be called every few seconds.

        The ping may be queued behind a large message: as long as the client takes bytes that waited for it, it is alive.
        """
        policy = self.policy
        if self.closing or not policy.ping_seconds:
            return
        if self._pinged is not None:
            since, progress = self._pinged
            if progress.look(waiting=self.pending):
                self._pinged = (now, progress)
            elif now - since >= policy.settings.ping_timeout_seconds:
                self.close(close_codes.PING_TIMEOUT)
        elif now - self._received_at >= policy.ping_seconds:
            self._send_control(_PING)
            if not self.closed:
                self._pinged = (now, SendProgress(self.sock, waiting=self.pending))

    def _close(self, state: CloseState, payload: bytes, label: str, timeout: float | None = None) -> None:
        self._label = self._label or label
        self.mailbox = None
        if self.bus is not None:
            self.bus.remove(self)
        self._begin_close(state, payload, timeout or self.policy.settings.close_timeout_seconds)

    def _wait_for_room(self) -> None:
        super()._wait_for_room()
        if self.mailbox is None and not self._close_state:
            self.mailbox = Mailbox()
        if self.bus is not None and self.mailbox is not None:
            self.bus.fell_behind(self, self.mailbox)  # a direct send could land in the middle of a frame

    def _send_data(self) -> bool:
        """Sends what waits: together, in full packets, as much as the client has room for."""
        mailbox = self.mailbox
        if mailbox is None:
            return True
        self._drop(mailbox, self._loop.time())
        if self._close_state:
            return False  # closed instead: the close frame is next
        most = self.policy.settings.send_bytes
        while len(mailbox):
            data = memoryview(mailbox.next(min(most, TcpInfo.of(self.sock).room)))
            sent = self.sock.send(data, SEND_FLAGS)
            self._sent(mailbox, data, sent)
            if sent != len(data):
                return False
        return True

    def _caught_up(self) -> None:
        super()._caught_up()
        self.mailbox = None
        if self.bus is not None:
            self.bus.caught_up(self)

    # Receiving

    def _data_received(self, data: bytes) -> None:
        self._received_at = now = self._loop.time()
        self._pinged = None
        events = self._parser.receive(data)
        flood = self.policy.flood
        size = len(data) + sum(event.grown for event in events if isinstance(event, Message))
        self._spent_until = max(self._spent_until, now) + flood.cost(self._parser.frames, size)
        if self._spent_until - now > flood.bucket(self.policy.max_message_bytes) and not self._close_state:
            self._flooded()
        else:
            self._handle(events)

    def _message_received(self, message: Message) -> None:
        self.owner.client_message(self, message.opcode, message.payload)

    def _close_received(self, close: Close) -> None:
        payload = b"" if close.code == 1005 else close_payload(close.code)
        self._close(CloseState.CLOSE_RECEIVED, payload, close_codes.BY_CLIENT)

    def _flooded(self) -> None:
        """The client exceeded its flood limit: it is closed, and nothing more is read from it."""
        close = close_codes.FLOODED
        self._loop.remove_reader(self.fd)
        payload = close_payload(close.code, close.reason)
        self._close(CloseState.FAILED, payload, close.label, self.policy.settings.flood_close_timeout_seconds)

    def _violated(self, violation: Violation) -> None:
        label = _LABEL_OF_VIOLATION.get(violation.code, close_codes.PROTOCOL_ERROR.label)
        self._close(CloseState.FAILED, close_payload(violation.code, violation.reason), label)

    def _lost(self, error: OSError | None) -> None:
        self.abort(close_codes.LOST)


def log_disconnect(client: ClientConnection, label: str, address: str, **about: str) -> None:
    """Logs the end of a connection; at level INFO if the client missed messages or was too slow, otherwise DEBUG."""
    level = logging.INFO if client.dropped or label == close_codes.TOO_SLOW.label else logging.DEBUG
    fields = {"address": address, "reason": label, "dropped": client.dropped, **about}
    logger.log(level, "client disconnected", extra=fields)


_LABEL_OF_VIOLATION = {
    close.code: close.label for close in (close_codes.PROTOCOL_ERROR, close_codes.INVALID_DATA, close_codes.TOO_BIG)
}
