"""The port for clients: accepts connections, reads one handshake of each, and passes it to a handler that answers it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from lobby_gateway import close_codes
from lobby_gateway.close_codes import Refusal
from lobby_gateway.process.arguments import cannot_listen
from lobby_gateway.process.bind import bind, peer_ip
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.settings import ListenerSettings
from lobby_gateway.websocket.server_handshake import (
    HandshakeError,
    Headers,
    Request,
    accept_response,
    http_response,
    parse_request,
    refusal_response,
)

logger = logging.getLogger(__name__)

TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; Python's socket module has it since 3.12


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
    """Answers handshakes."""

    def arrived(self, handshake: Handshake) -> None:
        """A whole request has arrived. It is answered by `accept`, `refuse` or `respond`, here or later."""


def listen(
    host: str, port: int, *, reuse_port: bool = False, settings: ListenerSettings | None = None
) -> socket.socket:
    """A listening socket (see `bind`) whose connections inherit the options that bound how far a slow client can lag.

    `TCP_NOTSENT_LOWAT` of 1 byte: the kernel takes new bytes only when all earlier ones have been sent, so messages wait in
    the mailbox and not in a buffer of megabytes.

    Raises:
        UserError: listening on the address failed.
    """
    try:
        sock = bind(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise cannot_listen(error, host, port) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1)
        sock.listen((settings or ListenerSettings()).backlog)
    except OSError as error:
        sock.close()
        raise cannot_listen(error, host, port) from error
    return sock


class Handshake:
    """A connection that is not a client yet.

    Attributes:
        deadline: when an incomplete request is refused, by the event loop's clock.
        peer: address and port of the TCP connection.
        on_abandoned: set by a handler that answers later: called if the client disconnects meanwhile, or is refused because it
            sends too much; not if the listener closes.
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
        """The request; available once the handler is called."""
        assert self._request is not None  # noqa: S101
        return self._request

    @property
    def answered(self) -> bool:
        """It is over: accepted, refused, or the client disconnected."""
        return self._sock is None

    @property
    def leftover(self) -> bytes:
        """Bytes after the request, for the connection that it becomes."""
        return self._buffer

    def accept(
        self, *, subprotocol: str | None = None, extensions: str | None = None, headers: Headers = ()
    ) -> socket.socket | None:
        """Answers 101 and hands over the socket; None if the client has disconnected."""
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
        """Answers with a refusal and closes; does nothing if the client has disconnected."""
        if self._sock is None:
            return
        self._listener.stats.refused[refusal.label] += 1
        self._finish(refusal_response(refusal, headers=headers, body=body))

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers with an HTTP response and closes."""
        self._finish(http_response(status, headers, body))

    def read(self) -> None:
        """Reads what has arrived; passes a whole request to the handler."""
        sock = self._sock
        assert sock is not None  # noqa: S101  # the reader is removed with the socket
        try:
            data = sock.recv(self._listener.settings.max_header_bytes + 1)
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
            # Held by the handler. Bytes before the 101 belong to the connection that it becomes.
            if len(self._buffer) > self._listener.settings.max_header_bytes:
                on_abandoned = self.on_abandoned
                self.refuse(close_codes.BAD_REQUEST)
                if on_abandoned is not None:
                    on_abandoned()
            return
        try:
            request = parse_request(self._buffer, max_header_bytes=self._listener.settings.max_header_bytes)
        except HandshakeError as error:
            self.refuse(error.refusal, headers=error.headers, body=str(error))
            return
        if request is None:
            self._watch()
            return
        self._buffer = request.leftover
        self._request = request
        self._listener.whole(self)
        if not self.answered:  # held: only to notice that the client disconnects
            self._watch()

    def abandon(self) -> None:
        """The client disconnected, or the listener closes: it gets no answer."""
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
        self.on_abandoned = None  # breaks a reference cycle: it refers to the pending client, which refers to this
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
        settings: limits and timeouts.
        stats: counters.
    """

    def __init__(
        self, sock: socket.socket, handler: HandshakeHandler, *, settings: ListenerSettings | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._failures = RepeatedFailures(self.loop.time)
        self.settings = settings or ListenerSettings()
        self.stats = ListenerStats()
        self._sock = sock
        self._handler = handler
        self._pending: dict[Handshake, None] = {}  # incomplete requests; oldest first, so the deadlines are in order
        self._held: dict[Handshake, None] = {}
        self._lingering: dict[socket.socket, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_seconds = min(1.0, self.settings.timeout_seconds)
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._sock.getsockname()[1])

    @property
    def pending(self) -> int:
        """Connections whose request is incomplete."""
        return len(self._pending)

    def start(self) -> None:
        """Begins to accept."""
        self._accepting = True
        self.loop.add_reader(self._sock.fileno(), self._acceptable)
        self._timer = self.loop.call_later(self._sweep_seconds, self._sweep)

    def stop_accepting(self) -> None:
        """Closes the port; handshakes that have begun continue."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def close(self) -> None:
        """Closes every connection that is not a client yet; held handshakes get 503."""
        self.stop_accepting()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handshake in list(self._held):
            handshake.refuse(close_codes.SHUTTING_DOWN)
        for handshake in list(self._pending):
            handshake.abandon()
        for sock in list(self._lingering):
            self._stop_lingering(sock)

    def whole(self, handshake: Handshake) -> None:
        """The request of a handshake is complete (called by the handshake)."""
        self._pending.pop(handshake, None)
        self._held[handshake] = None
        self._handler.arrived(handshake)

    def forget(self, handshake: Handshake) -> None:
        """A handshake is over (called by the handshake)."""
        self._pending.pop(handshake, None)
        self._held.pop(handshake, None)

    def linger(self, sock: socket.socket) -> None:
        """Gives the peer time to read a refusal: closing with unread bytes would reset the connection and lose it."""
        if len(self._lingering) >= self.settings.max_lingering:
            sock.close()
            return
        self._lingering[sock] = self.loop.time() + self.settings.linger_seconds
        self.loop.add_reader(sock.fileno(), self._discard, sock)

    def _acceptable(self) -> None:
        for _ in range(self.settings.accepts_per_turn):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                if (told := self._failures.failed(error.strerror or "")) is not None:
                    logger.warning("no room for more connections: accepting pauses", extra=told)
                self.loop.remove_reader(self._sock.fileno())
                self._resume = self.loop.call_later(self.settings.accept_pause_seconds, self._resume_accepting)
                return
            if (told := self._failures.worked()) is not None:
                logger.warning("there is room for connections again", extra=told)
            sock.setblocking(False)
            handshake = Handshake(
                self, sock, (peer_ip(address[0]), address[1]), self.loop.time() + self.settings.timeout_seconds
            )
            if len(self._pending) >= self.settings.max_pending:
                next(iter(self._pending)).refuse(close_codes.HANDSHAKE_TIMEOUT)
            self._pending[handshake] = None
            handshake.read()  # the request has often arrived already

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
            self._stop_lingering(sock)
        self._timer = self.loop.call_later(self._sweep_seconds, self._sweep)

    def _discard(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                if sock.recv(65536):
                    return
            except ConnectionError:
                pass
            self._stop_lingering(sock)

    def _stop_lingering(self, sock: socket.socket) -> None:
        del self._lingering[sock]
        self.loop.remove_reader(sock.fileno())
        sock.close()
