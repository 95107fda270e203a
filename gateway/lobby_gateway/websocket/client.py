"""Outgoing WebSocket connections: from a lobby to its origin, and from a greeter to a lobby (trunks).

The client does what RFC 6455 requires: it answers pings and close frames, fails the connection if the peer breaks the protocol
(§7.1.7), and bounds every wait. Everything else is passed on, with one parser call and one call of `received` per read.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import ssl as tls
import time
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, Protocol

from lobby_gateway.settings import WebSocketClientSettings
from lobby_gateway.websocket.client_handshake import ClientHandshake, ConnectFailedError, HandshakeRefusedError
from lobby_gateway.websocket.denied_networks import Network, denied_by
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, masked_frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Ping, Violation
from lobby_gateway.websocket.proxy import Proxy
from lobby_gateway.websocket.send_progress import SendProgress
from lobby_gateway.websocket.tcp_info import TcpInfo


class Receiver(Protocol):
    """The user of a connection."""

    def received(self, events: list[Event]) -> None:
        """The events of one read, in order. Pings, close frames and violations have been answered."""

    def lost(self, error: Exception | None) -> None:
        """The connection is closed; called once, after all events. `error` is None if TCP was closed in order."""


async def open_websocket(
    url: str,
    *,
    receiver: Receiver,
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    open_timeout: float | None = None,
    max_message_bytes: int = 1 << 20,
    denied_networks: Sequence[Network] = (),
    proxy: Proxy | None = None,
    settings: WebSocketClientSettings | None = None,
) -> WebSocketClient:
    """Opens a connection.

    The receiver is first called in a later turn of the event loop than the one in which this returns: if it is awaited
    directly, its result is known by then.

    Args:
        url: `ws://` or `wss://`.
        receiver: is called with what arrives; never if this raises.
        headers: headers of the request.
        subprotocols: subprotocols to offer, preferred one first.
        ssl: for `wss://`; None: verifies against the system's certificates.
        server_hostname: name to request and verify, if it is not the URL's host.
        open_timeout: seconds for everything: DNS, TCP, TLS, handshake; None: as in `settings`.
        max_message_bytes: largest message accepted; a larger one fails the connection with 1009.
        denied_networks: networks that no connection is made to, whatever the host resolves to. A proxy resolves it itself.
        proxy: goes through this proxy; None: directly.
        settings: timeouts and sizes.

    Raises:
        HandshakeRefusedError: an HTTP answer other than 101.
        ConnectFailedError: any other failure of the peer or the network.
        UserError: the URL or a header is not valid.
    """
    settings = settings or WebSocketClientSettings()
    timeout = settings.open_timeout_seconds if open_timeout is None else open_timeout
    handshake = ClientHandshake(url, headers=headers, subprotocols=subprotocols, max_head_bytes=settings.max_head_bytes)
    context = (ssl or tls.create_default_context()) if handshake.secure else None
    loop = asyncio.get_running_loop()
    client = WebSocketClient(handshake, receiver, max_message_bytes, settings)
    try:
        async with asyncio.timeout(timeout):
            if proxy is None:
                sock = await dial(
                    handshake.host,
                    handshake.port,
                    attempt_delay=settings.attempt_delay_seconds,
                    denied_networks=denied_networks,
                )
            else:
                sock = await dial_through(
                    proxy, handshake.host, handshake.port, denied_networks=denied_networks, settings=settings
                )
            if context is None:
                await loop.create_connection(lambda: client, sock=sock)
            else:
                await connect_tls(client, sock, context, server_hostname or handshake.host)
            await client.wait_open()
    except TimeoutError as error:
        client.abort()
        what = "no answer to the handshake" if client.connected else "no connection"
        what = what if proxy is None else f"{what} through {proxy}"
        raise ConnectFailedError(f"timeout: {what} within {timeout:g} s") from error
    except (OSError, UnicodeError) as error:
        client.abort()
        raise ConnectFailedError(explain(error, handshake.host)) from error
    except BaseException:
        client.abort()
        raise
    loop.call_soon(client.begin)
    return client


async def dial_through(
    proxy: Proxy,
    host: str,
    port: int,
    *,
    denied_networks: Sequence[Network] = (),
    settings: WebSocketClientSettings | None = None,
) -> socket.socket:
    """A non-blocking socket that a proxy has connected to a host; the caller bounds the time.

    Args:
        proxy: the proxy.
        host: name or address.
        port: TCP port.
        denied_networks: as in `open_websocket`.
        settings: sizes, and how the proxy is dialled.

    Raises:
        ConnectFailedError: the proxy can't be reached, or refuses.
        AddressDeniedError: the host is a denied address.
    """
    settings = settings or WebSocketClientSettings()
    loop = asyncio.get_running_loop()
    if (network := _denied(host, denied_networks)) is not None:
        raise AddressDeniedError(f"{host} is in the denied network {network}")
    try:
        sock = await dial(
            proxy.host,
            proxy.port,
            attempt_delay=settings.attempt_delay_seconds,
            denied_networks=() if proxy.trusted else denied_networks,
        )
    except (OSError, UnicodeError) as error:
        raise ConnectFailedError(f"{proxy}: {explain(error, proxy.host)}") from error
    try:
        await loop.sock_sendall(sock, proxy.request(host, port))
        received = b""
        while not proxy.check_response(received):
            data = await loop.sock_recv(sock, settings.max_head_bytes)
            if not data:
                raise ConnectFailedError(f"{proxy} closed the connection without an answer")  # noqa: TRY301
            received += data
    except OSError as error:
        sock.close()
        raise ConnectFailedError(f"{proxy}: {explain(error, proxy.host)}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _denied(host: str, networks: Sequence[Network]) -> Network | None:
    """The network that a host is in, if it is an address."""
    try:
        return denied_by(host, networks)
    except ValueError:
        return None


async def connect_tls(
    protocol: asyncio.BaseProtocol, sock: socket.socket, context: tls.SSLContext, name: str
) -> asyncio.Transport:
    """Makes a TLS connection over a connected socket, and gives it to a protocol.

    In a separate step: `create_connection` leaks the socket if it is cancelled at the wrong moment. Bytes that arrive before
    the handshake are dropped; the protocol must not take them for the peer's.

    Raises:
        OSError: the handshake failed.
        ConnectFailedError: the name is none.
    """
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    try:
        # The dot of an absolute name is of DNS: SNI and certificates are without it (RFC 6066 §3), `Host` keeps it.
        secured = await loop.start_tls(plain, protocol, context, server_hostname=name.removesuffix("."))
    except BaseException as error:
        plain.abort()  # asyncio leaves it open if it can't use the name
        if isinstance(error, UnicodeError):
            raise ConnectFailedError(
                f"TLS: {name} is not a DNS name (its labels must have 1 to 63 characters)"
            ) from error
        raise
    if secured is None:
        raise ConnectionResetError
    protocol.connection_made(secured)
    return secured


class WebSocketClient(asyncio.BufferedProtocol):
    """One open connection, made by `open_websocket`.

    Attributes:
        subprotocol: chosen by the peer; None if it chose none.
        connected: the TCP (and TLS) connection was made.
        received_at: when the latest bytes arrived, by the event loop's clock; they may be part of a message.
    """

    def __init__(
        self, handshake: ClientHandshake, receiver: Receiver, max_message_bytes: int, settings: WebSocketClientSettings
    ) -> None:
        self.subprotocol: str | None = None
        self.connected = False
        self._loop = asyncio.get_running_loop()
        self.received_at = self._loop.time()
        self._receiver = receiver
        self._settings = settings
        # A new buffer for each read, as asyncio would allocate, takes longer than everything else that is done with a small
        # message. The pages of a map take memory only once something has been read into them.
        self._buffer = memoryview(mmap.mmap(-1, settings.read_bytes))
        self._parser = FrameParser(masked=False, max_message_bytes=max_message_bytes)
        self._handshake: ClientHandshake | None = handshake
        self._open: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._progress: SendProgress | None = None
        self._begun = False
        self._leftover = b""
        self._close_sent = False
        self._aborted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._error: Exception | None = None

    # For the user

    @property
    def open(self) -> bool:
        """Messages can be sent."""
        return self._handshake is None and not self._close_sent and not self._gone.is_set()

    @property
    def buffered(self) -> int:
        """Bytes waiting for room in the socket."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def incomplete(self) -> int:
        """Bytes received so far of a message that is not complete; 0 between messages."""
        return self._parser.incomplete

    @property
    def min_rtt_seconds(self) -> float:
        """Shortest round trip of TCP so far; 0 if none is known."""
        return (
            TcpInfo.of(self._transport.get_extra_info("socket")).min_rtt_seconds if self._transport is not None else 0.0
        )

    def took_bytes(self) -> bool:
        """Whether the peer, since the previous call, took bytes while others waited for it (see `SendProgress`)."""
        if self._transport is None:
            return False
        waiting = self.buffered > 0
        if self._progress is None:
            self._progress = SendProgress(self._transport.get_extra_info("socket"), waiting=waiting)
        return self._progress.look(waiting=waiting)

    def send(self, opcode: int, payload: bytes | memoryview) -> bool:
        """Sends a message; returns False if the connection is closing or closed. The caller has to bound `buffered`."""
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

    def pause_reading(self) -> None:
        """Leaves what arrives in the socket, until `resume_reading`; parts of the read under way may still arrive."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def begin_close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None:
        """Begins the closing handshake (RFC 6455 §7.1.2).

        `lost` follows when the peer has answered and closed the TCP connection, as a server does (§7.1.1), or after
        `timeout` seconds (None: as in the settings).
        """
        self._send_close(close_payload(code, reason), timeout)

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float | None = None) -> None:  # noqa: ASYNC109  a bound of the protocol
        """Calls `begin_close` and waits until the connection is closed."""
        self.begin_close(code, reason, timeout=timeout)
        await self.wait_lost()

    async def wait_lost(self) -> None:
        """Waits until the connection is closed."""
        await self._gone.wait()

    def abort(self) -> None:
        """Closes the connection at once; `lost` follows."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    # For `open_websocket`

    async def wait_open(self) -> None:
        """Waits for the end of the handshake.

        Raises:
            HandshakeRefusedError, ConnectFailedError, OSError: it failed.
        """
        await self._open

    def begin(self) -> None:
        """Begins to pass on what arrives."""
        self._begun = True
        if self._transport is not None:
            self._transport.resume_reading()  # first: the receiver may pause it because of what has arrived
        leftover, self._leftover = self._leftover, b""
        if leftover:
            self._frames_received(leftover)
        if self._gone.is_set():
            self._receiver.lost(self._error)

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP (and TLS) connection was made. asyncio sets TCP_NODELAY."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  for the type checker
        assert self._handshake is not None  # noqa: S101  it is released at its end
        self._transport = transport
        self.connected = True
        if self._aborted:  # asyncio may call this after a cancelled `create_connection`
            transport.abort()
            return
        transport.write(self._handshake.request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer that asyncio reads into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` bytes were read into the buffer."""
        data = bytes(self._buffer[:nbytes])
        if not self._begun:
            self.data_received(data)
            return
        self.received_at = self._loop.time()
        self._frames_received(data)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self.received_at = self._loop.time()
        if self._begun:
            self._frames_received(data)
        elif self._handshake is None:
            self._leftover += data  # TLS may have decrypted more than it was asked for
        elif not self._open.done():
            self._handshake_received(self._handshake, data)

    def eof_received(self) -> None:
        """The peer closed its half: asyncio closes ours once everything is written, within a bounded time."""
        self._bound(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._error = exc
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._gone.set()
        if not self._open.done():
            self._open.set_exception(exc or ConnectFailedError("the connection was closed during the handshake"))
            self._open.exception()  # marks it as retrieved, since nobody may be waiting
        elif self._begun:
            self._receiver.lost(exc)

    def _handshake_received(self, handshake: ClientHandshake, data: bytes) -> None:
        try:
            if self._transport is None:
                raise ConnectFailedError("the peer sent data before the request")  # noqa: TRY301
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
        self._answer_pings([event for event in events if isinstance(event, Ping)])
        for event in events:
            if isinstance(event, Close):
                self._send_close(b"" if event.code == 1005 else close_payload(event.code), None)
            elif isinstance(event, Violation):
                self._send_close(close_payload(event.code, event.reason), None)

    def _answer_pings(self, pings: list[Ping]) -> None:
        """Answers each as long as the socket takes it, and otherwise only the latest, which is enough (RFC 6455 §5.5.3)."""
        for ping in pings[:-1][: self._settings.max_pongs_per_read]:
            if self.buffered:
                break
            self.send(Opcode.PONG, ping.payload)
        if pings and self.buffered <= self._settings.max_buffered_for_pong:
            self.send(Opcode.PONG, pings[-1].payload)

    def _send_close(self, payload: bytes, timeout: float | None) -> None:
        if self.send(Opcode.CLOSE, payload):
            self._close_sent = True
            self._bound(timeout)

    def _bound(self, timeout: float | None) -> None:
        if self._deadline is None:
            seconds = self._settings.close_timeout_seconds if timeout is None else timeout
            self._deadline = self._loop.call_later(seconds, self.abort)


def explain(error: OSError | UnicodeError, host: str = "") -> str:
    """Why a connection failed, in one line for people. Python raises a UnicodeError for a host that can't be in DNS."""
    if isinstance(error, UnicodeError):
        return f"DNS: no address for {host} (its labels must have 1 to 63 characters)"
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
    if isinstance(error, ConnectionResetError):  # asyncio's own, without an errno
        return "the connection was closed during the TLS handshake"
    return str(error) or type(error).__name__


# TCP

SocketAddress = tuple[int, Any]
"""Family and address of a socket."""


async def dial(host: str, port: int, *, attempt_delay: float, denied_networks: Sequence[Network] = ()) -> socket.socket:
    """A connected, non-blocking TCP socket; the caller bounds the time.

    A host may have several addresses, some of which may not respond: they are tried with a head start for the earlier ones
    ("Happy Eyeballs", RFC 8305). asyncio's `create_connection` does so, too, but may leak a socket when it is cancelled, and
    merges the errors into one.

    Args:
        host: name or address.
        port: TCP port.
        attempt_delay: seconds of head start (RFC 8305 §5).
        denied_networks: addresses in these are not tried. The very address that was checked is connected to: nothing resolves
            the name again.

    Raises:
        OSError: connecting to all addresses failed; this is the error of the last one. `socket.gaierror`: there is no address.
            `AddressDeniedError`: all of them are in `denied_networks`.
    """
    loop = asyncio.get_running_loop()
    # For a text, Python loads the tables of international names, whatever it says; as bytes, an ASCII name needs none.
    name = host.encode("ascii") if host.isascii() else host
    resolved = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    found = _allowed(host, [(family, address) for family, _, _, _, address in resolved], denied_networks)
    attempts: list[asyncio.Task[socket.socket]] = []
    won: socket.socket | None = None
    try:
        for family, address in interleave(found):
            attempts.append(loop.create_task(_connect(family, address)))
            won = await _first(attempts, attempt_delay)
            if won is not None:
                return won
        while any(not each.done() for each in attempts):
            won = await _first(attempts, None)
            if won is not None:
                return won
    finally:
        _cancel(attempts, won)
    error = attempts[-1].exception()
    assert error is not None  # noqa: S101  none of them succeeded
    raise error


class AddressDeniedError(OSError):
    """All addresses of a host are in networks that no connection may be made to."""


def _allowed(host: str, found: list[SocketAddress], denied_networks: Sequence[Network]) -> list[SocketAddress]:
    if not denied_networks:
        return found
    networks = [denied_by(address[0], denied_networks) for _, address in found]
    allowed = [each for each, network in zip(found, networks, strict=True) if network is None]
    if found and not allowed:
        address = found[0][1][0]
        what = address if address == host else f"{host} resolves to {address}, which"
        raise AddressDeniedError(f"{what} is in the denied network {networks[0]}")
    return allowed


def interleave(addresses: Sequence[SocketAddress]) -> list[SocketAddress]:
    """Alternates between the address families, beginning with that of the first address (RFC 8305 §4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


async def _connect(family: int, address: Any) -> socket.socket:  # noqa: ANN401  an address depends on its family
    # asyncio sets TCP_NODELAY only on sockets that were made with this protocol number.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _first(attempts: list[asyncio.Task[socket.socket]], seconds: float | None) -> socket.socket | None:
    """The socket of the first attempt that succeeds; None if one fails first, or after `seconds`."""
    pending = [each for each in attempts if not each.done()]
    await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in attempts:
        if each.done() and each.exception() is None:
            return each.result()
    return None


def _cancel(attempts: list[asyncio.Task[socket.socket]], won: socket.socket | None) -> None:
    """Cancels all attempts but the one that won. Nothing is awaited here: a cancellation would leak its socket."""
    for each in attempts:
        # An attempt that is not done closes its socket when it is cancelled.
        if each.cancel() or each.cancelled():
            continue
        if each.exception() is None and each.result() is not won:
            each.result().close()
