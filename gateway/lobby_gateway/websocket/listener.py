"""The port for clients: accepts, reads one handshake, hands it to the gate, which accepts or refuses, now or later."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.close_codes import Refusal
from lobby_gateway.errors import UserError
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Request,
    accept_response,
    http_response,
    parse_request,
    refusal_response,
)

logger = logging.getLogger(__name__)

BACKLOG = 4096
_ACCEPTS_PER_TURN = 64
_PAUSE_WITHOUT_DESCRIPTORS = 0.2
_LINGER_SECONDS = 2.0
TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; Python's socket module names it only from 3.12 on
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeLimits:
    """What a connection may cost before it is a client.

    Attributes:
        timeout_seconds: from the TCP connection to the last byte of the request.
        max_header_bytes: of the request line and all headers.
        max_pending: connections whose request is not whole yet, at once; the oldest makes room.
        max_lingering: refused connections that are kept until the client has read why; more are closed at once.
    """

    timeout_seconds: float = 10.0
    max_header_bytes: int = 16384
    max_pending: int = 4096
    max_lingering: int = 1024


class ListenerStats:
    """Plain counters, read when metrics are scraped.

    Attributes:
        accepted: handshakes answered with 101.
        refused: by label of the refusal.
        abandoned: connections that ended before an answer.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: Counter[str] = Counter({refusal.label: 0 for refusal in close_codes.REFUSALS})
        self.abandoned = 0


class HandshakeHandler(Protocol):
    """Decides on handshakes."""

    def arrived(self, handshake: Handshake) -> None:
        """A whole request is there. It is answered by `accept`, `refuse` or `respond`, here or later."""


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket whose connections inherit the options that bound what a slow client can be behind.

    `TCP_NOTSENT_LOWAT` of 1 byte: the kernel takes new bytes only when all earlier ones are on their way, so the mailbox, and
    not a buffer of megabytes, holds what waits.

    Raises:
        UserError: the address can't be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise UserError(f"--host: {host!r} can't be listened on ({error.strerror})") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port: {port} is in use on {host}; accepted: a free port, or 0 for any") from error
        raise UserError(f"--port: {port} on {host} can't be listened on ({error.strerror})") from error
    return sock


class Handshake:
    """A connection that is no client yet.

    Attributes:
        deadline: when a request that is not whole is given up, by the loop's clock.
        peer: address and port of the TCP connection.
        on_abandoned: set by a gate that answers later: the client left meanwhile, or was turned away by the listener.
    """

    __slots__ = ("_buffer", "_listener", "_reading", "_request", "_sock", "deadline", "on_abandoned", "peer")

    def __init__(self, listener: Listener, sock: socket.socket, peer: tuple[str, int], deadline: float) -> None:
        self._listener = listener
        self._sock: socket.socket | None = sock
        self._buffer = b""
        self._reading = False
        self.peer = peer
        self.deadline = deadline
        self._request: Request | None = None
        self.on_abandoned: Callable[[], None] | None = None

    @property
    def request(self) -> Request:
        """What is asked; there from the moment when a gate sees the handshake."""
        assert self._request is not None  # noqa: S101
        return self._request

    @property
    def answered(self) -> bool:
        """It is over: accepted, refused, or the client left."""
        return self._sock is None

    @property
    def leftover(self) -> bytes:
        """Bytes behind the request, for the connection that it becomes."""
        return self._buffer

    def accept(
        self, *, subprotocol: str | None = None, extensions: str | None = None, headers: Headers = ()
    ) -> socket.socket | None:
        """Answers 101 and gives the socket away; None when the client is gone."""
        sock = self._release()
        if sock is None:
            return None
        response = accept_response(self.request, subprotocol=subprotocol, extensions=extensions, headers=headers)
        try:
            sent = sock.send(response)
        except OSError:
            sent = -1
        if sent != len(response):  # a new socket has room for 200 bytes unless it is broken
            sock.close()
            self._listener.stats.abandoned += 1
            return None
        self._listener.stats.accepted += 1
        return sock

    def refuse(self, refusal: Refusal, *, headers: Headers = (), body: str | None = None) -> None:
        """Answers with a refusal and closes; nothing happens when the client is gone."""
        if self._sock is None:
            return
        self._listener.stats.refused[refusal.label] += 1
        self._finish(refusal_response(refusal, headers=headers, body=body))

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers with plain HTTP and closes."""
        self._finish(http_response(status, headers, body))

    def read(self) -> None:
        """Reads what is there; hands a whole request to the gate."""
        sock = self._sock
        assert sock is not None  # noqa: S101  # the reader is gone with the socket
        try:
            data = sock.recv(self._listener.limits.max_header_bytes + 1)
        except (BlockingIOError, InterruptedError):
            self._watch()
            return
        except OSError:
            data = b""
        if not data:
            self.abandon()
            return
        self._buffer += data
        if self._request is not None:
            # Held by the gate. What comes before the 101 belongs to the connection that it becomes.
            if len(self._buffer) > self._listener.limits.max_header_bytes:
                on_abandoned = self.on_abandoned
                self.refuse(close_codes.BAD_REQUEST)
                if on_abandoned is not None:
                    on_abandoned()
            return
        try:
            request = parse_request(self._buffer, max_header_bytes=self._listener.limits.max_header_bytes)
        except HandshakeError as error:
            self.refuse(error.refusal, headers=error.headers, body=str(error))
            return
        if request is None:
            self._watch()
            return
        self._buffer = request.leftover
        self._request = request
        self._listener.whole(self)
        if not self.answered:  # held: only to notice that the client leaves
            self._watch()

    def abandon(self) -> None:
        """The client left, or the listener closes: no answer."""
        on_abandoned = self.on_abandoned
        sock = self._release()
        if sock is not None:
            self._listener.stats.abandoned += 1
            sock.close()
            if on_abandoned is not None:
                on_abandoned()

    def _watch(self) -> None:
        if not self._reading and self._sock is not None:
            self._reading = True
            self._listener.loop.add_reader(self._sock.fileno(), self.read)

    def _release(self) -> socket.socket | None:
        sock, self._sock = self._sock, None
        self.on_abandoned = None  # it refers to whom it was asked for, which refers to this: a cycle
        if sock is not None:
            self._listener.forget(self)
            if self._reading:
                self._listener.loop.remove_reader(sock.fileno())
        return sock

    def _finish(self, response: bytes) -> None:
        sock = self._release()
        if sock is None:
            return
        try:
            sock.send(response)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._listener.linger(sock)


class Listener:
    """Accepts connections on a listening socket until it is closed.

    Attributes:
        loop: the event loop.
        limits: see `HandshakeLimits`.
        stats: counters.
    """

    def __init__(self, sock: socket.socket, gate: HandshakeHandler, *, limits: HandshakeLimits | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits or HandshakeLimits()
        self.stats = ListenerStats()
        self._sock = sock
        self._gate = gate
        self._pending: dict[
            Handshake, None
        ] = {}  # whose request is not whole; oldest first, so the deadlines are in order
        self._held: dict[Handshake, None] = {}
        self._lingering: dict[socket.socket, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_seconds = min(1.0, self.limits.timeout_seconds)
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._sock.getsockname()[1])

    @property
    def pending(self) -> int:
        """Connections whose request is not whole yet."""
        return len(self._pending)

    def start(self) -> None:
        """Begins to accept."""
        self._accepting = True
        self.loop.add_reader(self._sock.fileno(), self._acceptable)
        self._timer = self.loop.call_later(self._sweep_seconds, self._sweep)

    def stop_accepting(self) -> None:
        """Closes the port; handshakes that are under way go on."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def close(self) -> None:
        """Ends everything that is not a client yet; held handshakes get 503."""
        self.stop_accepting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handshake in list(self._held):
            handshake.refuse(close_codes.SHUTTING_DOWN)
        for handshake in list(self._pending):
            handshake.abandon()
        for sock in list(self._lingering):
            self._let_go(sock)

    def whole(self, handshake: Handshake) -> None:
        """The request of a handshake is whole (called by the handshake)."""
        self._pending.pop(handshake, None)
        self._held[handshake] = None
        self._gate.arrived(handshake)

    def forget(self, handshake: Handshake) -> None:
        """A handshake is over (called by the handshake)."""
        self._pending.pop(handshake, None)
        self._held.pop(handshake, None)

    def linger(self, sock: socket.socket) -> None:
        """Waits shortly for the peer to read a refusal: closing with unread bytes would reset the connection and lose it."""
        if len(self._lingering) >= self.limits.max_lingering:
            sock.close()
            return
        self._lingering[sock] = self.loop.time() + _LINGER_SECONDS
        self.loop.add_reader(sock.fileno(), self._discard, sock)

    def _acceptable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                logger.warning("no room for more connections (%s): accepting pauses", error.strerror)
                self.loop.remove_reader(self._sock.fileno())
                self._resume = self.loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS, self._resume_accepting)
                return
            sock.setblocking(False)
            handshake = Handshake(self, sock, (address[0], address[1]), self.loop.time() + self.limits.timeout_seconds)
            if len(self._pending) >= self.limits.max_pending:
                next(iter(self._pending)).refuse(close_codes.HANDSHAKE_TIMEOUT)
            self._pending[handshake] = None
            handshake.read()  # the request is often there already

    def _resume_accepting(self) -> None:
        self._resume = None
        self.loop.add_reader(self._sock.fileno(), self._acceptable)

    def _sweep(self) -> None:
        now = self.loop.time()
        for handshake in list(self._pending):
            if handshake.deadline > now:
                break
            handshake.refuse(close_codes.HANDSHAKE_TIMEOUT)
        for sock, deadline in list(self._lingering.items()):
            if deadline > now:
                break
            self._let_go(sock)
        self._timer = self.loop.call_later(self._sweep_seconds, self._sweep)

    def _discard(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                if sock.recv(65536):
                    return
            except ConnectionError:
                pass
            self._let_go(sock)

    def _let_go(self, sock: socket.socket) -> None:
        del self._lingering[sock]
        self.loop.remove_reader(sock.fileno())
        sock.close()
