"""Outgoing WebSocket connections: a lobby's to its origin, a greeter's (and another lobby's) trunk to a lobby.

This is all of RFC 6455 that a client owes its peer whatever it is used for: it answers pings and close frames, fails the
connection when the peer breaks the protocol (§7.1.7), and waits only so long. Everything else it hands on, one read at a
time: one `received` per read, one parser call.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import ssl as tls
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from lobby_gateway.websocket.client_handshake import ClientHandshake, ConnectFailedError, HandshakeRefusedError
from lobby_gateway.websocket.dial import dial
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, masked_frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Ping, Violation

OPEN_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 2.0
READ_BYTES = 256 << 10  # at most at once: what an origin sends in one burst is handed on in as few calls
_MAX_BUFFERED_FOR_PONG = 65536  # a peer that pings and never reads gets no more pongs


class Receiver(Protocol):
    """Who is told what a connection brings."""

    def received(self, events: list[Event]) -> None:
        """Events of one read, in order. Pings, close frames and violations are answered already."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone, called once, after all events; `error` is None if it ended in order on the TCP level."""


async def open_websocket(
    url: str,
    *,
    receiver: Receiver,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    open_timeout: float = OPEN_TIMEOUT_SECONDS,
    max_message_bytes: int = 1 << 20,
) -> WebSocketClient:
    """Opens a connection.

    The receiver is first called in a later turn of the event loop than the one in which this returns: await it directly,
    and what it returns is known by then.

    Args:
        url: `ws://` or `wss://`.
        receiver: is told what arrives; not if this raises.
        headers: of the request.
        subprotocols: offered, the preferred one first.
        ssl: for `wss://`; None: the system's certificates.
        server_hostname: name asked for and verified, if it is not the URL's host.
        open_timeout: seconds for all of it: name, TCP, TLS, handshake.
        max_message_bytes: largest message accepted; a larger one fails the connection with 1009.

    Raises:
        HandshakeRefusedError: an HTTP answer other than 101.
        ConnectFailedError: anything else that the other side or the network does.
        UserError: the URL or a header is not valid.
    """
    handshake = ClientHandshake(url, headers=headers, subprotocols=subprotocols)
    context = (ssl or tls.create_default_context()) if handshake.secure else None
    loop = asyncio.get_running_loop()
    client = WebSocketClient(handshake, receiver, max_message_bytes)
    try:
        async with asyncio.timeout(open_timeout):
            sock = await dial(handshake.host, handshake.port)
            if context is None:
                await loop.create_connection(lambda: client, sock=sock)
            else:
                await _connect_tls(client, sock, context, server_hostname or handshake.host)
            await client.wait_open()
    except TimeoutError as error:
        client.abort()
        what = "no answer to the handshake" if client.connected else "no connection"
        raise ConnectFailedError(f"timeout: {what} within {open_timeout:g} s") from error
    except OSError as error:
        raise ConnectFailedError(explain(error, handshake.host)) from error
    except BaseException:
        client.abort()
        raise
    loop.call_soon(client.begin)
    return client


async def _connect_tls(client: WebSocketClient, sock: socket.socket, context: tls.SSLContext, name: str) -> None:
    """TLS in a step of its own: `create_connection` leaves the socket behind if it is cancelled at the wrong moment."""
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    secured = await loop.start_tls(plain, client, context, server_hostname=name)
    if secured is None:
        raise ConnectionResetError
    client.connection_made(secured)


class WebSocketClient(asyncio.BufferedProtocol):
    """One open connection, made by `open_websocket`.

    Attributes:
        subprotocol: chosen by the peer; None if it chose none.
        connected: the TCP (and TLS) connection was made.
        heard_at: when bytes came last, by the event loop's clock; they may be part of a message.
    """

    def __init__(self, handshake: ClientHandshake, receiver: Receiver, max_message_bytes: int) -> None:
        self.subprotocol: str | None = None
        self.connected = False
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._receiver = receiver
        # What asyncio would do instead, a new buffer of this size for each read, takes longer than all else that is done with
        # a small message. Pages of a map take memory once something was read into them.
        self._buffer = memoryview(mmap.mmap(-1, READ_BYTES))
        self._parser = FrameParser(masked=False, max_message_bytes=max_message_bytes)
        self._handshake: ClientHandshake | None = handshake
        self._open: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._begun = False
        self._leftover = b""
        self._close_sent = False
        self._aborted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._error: Exception | None = None

    # For the owner

    @property
    def open(self) -> bool:
        """Messages can be sent."""
        return self._handshake is None and not self._close_sent and not self._gone.is_set()

    @property
    def buffered(self) -> int:
        """Bytes that wait for room in the socket."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, opcode: int, payload: bytes | memoryview) -> bool:
        """Sends a message; False if the connection is closing or gone. `buffered` is for the caller to bound."""
        if self._close_sent or self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(masked_frame(opcode, payload))
        return True

    def send_text(self, text: str) -> bool:
        """Sends a text message, see `send`."""
        return self.send(Opcode.TEXT, text.encode())

    def send_binary(self, payload: bytes | memoryview) -> bool:
        """Sends a binary message, see `send`."""
        return self.send(Opcode.BINARY, payload)

    def send_ping(self, payload: bytes = b"") -> bool:
        """Sends a ping of at most 125 bytes (RFC 6455 §5.5), see `send`."""
        return self.send(Opcode.PING, payload)

    def begin_close(self, code: int = 1000, reason: str = "", *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2).

        `lost` follows when the peer has answered and closed the TCP connection, as a server does (§7.1.1), or after
        `timeout` seconds.
        """
        self._send_close(close_payload(code, reason), timeout)

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:  # noqa: ASYNC109  a bound of the protocol
        """`begin_close`, and waits until the connection is gone."""
        self.begin_close(code, reason, timeout=timeout)
        await self.wait_lost()

    async def wait_lost(self) -> None:
        """Waits until the connection is gone."""
        await self._gone.wait()

    def abort(self) -> None:
        """Drops the connection at once; `lost` follows."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    # For `open_websocket`

    async def wait_open(self) -> None:
        """Waits for the end of the handshake.

        Raises:
            HandshakeRefusedError, ConnectFailedError, OSError: it came to nothing.
        """
        await self._open

    def begin(self) -> None:
        """Begins to hand on what arrives."""
        self._begun = True
        leftover, self._leftover = self._leftover, b""
        if leftover:
            self._frames_received(leftover)
        if self._gone.is_set():
            self._receiver.lost(self._error)
        elif self._transport is not None:
            self._transport.resume_reading()

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP (and TLS) connection is there. TCP_NODELAY is set by asyncio."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  for the type checker
        assert self._handshake is not None  # noqa: S101  it is let go when it is done
        self._transport = transport
        self.connected = True
        if self._aborted:  # asyncio may call this behind a cancelled `create_connection`
            transport.abort()
            return
        transport.write(self._handshake.request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """It has read so many bytes."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self.heard_at = self._loop.time()
        if self._begun:
            self._frames_received(data)
        elif self._handshake is None:
            self._leftover += data  # TLS may have decrypted more than it was asked for
        elif not self._open.done():
            self._handshake_received(self._handshake, data)

    def eof_received(self) -> None:
        """The peer ended its half: asyncio closes ours once all is written, for which a peer that never reads has so long."""
        self._bound(CLOSE_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._error = exc
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._gone.set()
        if not self._open.done():
            self._open.set_exception(exc or ConnectFailedError("the connection was closed during the handshake"))
            self._open.exception()  # nobody may be waiting any more
        elif self._begun:
            self._receiver.lost(exc)

    def _handshake_received(self, handshake: ClientHandshake, data: bytes) -> None:
        try:
            if self._transport is None:
                raise ConnectFailedError("the origin spoke before it was asked")  # noqa: TRY301
            if not handshake.receive(data, time.time()):
                return
        except (HandshakeRefusedError, ConnectFailedError) as error:
            self._open.set_exception(error)
            self.abort()
            return
        self.subprotocol = handshake.subprotocol
        self._leftover = handshake.leftover
        self._handshake = None
        self._transport.pause_reading()  # until `begin`
        self._open.set_result(None)

    def _frames_received(self, data: bytes) -> None:
        events = self._parser.receive(data)
        if not events:
            return
        if len(events) > 1 or not isinstance(events[0], Batch):
            self._answer(events)
        self._receiver.received(events)

    def _answer(self, events: list[Event]) -> None:
        ping: Ping | None = None
        for event in events:
            if isinstance(event, Ping):
                ping = event  # of several, only the latest needs an answer (RFC 6455 §5.5.3)
            elif isinstance(event, Close):
                self._send_close(b"" if event.code == 1005 else close_payload(event.code), CLOSE_TIMEOUT_SECONDS)
            elif isinstance(event, Violation):
                self._send_close(close_payload(event.code, event.reason), CLOSE_TIMEOUT_SECONDS)
        if ping is not None and self.buffered <= _MAX_BUFFERED_FOR_PONG:
            self.send(Opcode.PONG, ping.payload)

    def _send_close(self, payload: bytes, timeout: float) -> None:
        if self.send(Opcode.CLOSE, payload):
            self._close_sent = True
            self._bound(timeout)

    def _bound(self, timeout: float) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(timeout, self.abort)


def explain(error: OSError, host: str = "") -> str:
    """One line for a person on why there is no connection, or no more."""
    if isinstance(error, tls.SSLCertVerificationError):
        return f"TLS: certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, tls.SSLError):
        if error.reason == "WRONG_VERSION_NUMBER":
            return "TLS: the origin does not speak TLS on this port"
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, socket.gaierror):
        return f"DNS: no address for {host} ({error.strerror})"
    if error.errno is not None:
        return os.strerror(error.errno).lower()
    if isinstance(error, ConnectionResetError):  # asyncio's own, without a number
        return "the connection was closed during the TLS handshake"
    return str(error) or type(error).__name__
