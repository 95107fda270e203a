"""The clients of `lobby bench`: plain non-blocking sockets on one epoll, so that it is cheaper than what it measures.

A client has no task, transport or queue; `ClientReader` checks what it receives.

Reading costs a system call, as sending does: a bench that read each message of each client immediately would need as much
CPU time as the server, or more. So it waits for and times only every n-th client, `timed_clients` in total. The others are
read now and then, several messages at once; all of their messages are counted and checked, too. They are read often enough
that their receive buffers never fill up, because then the server would see slow clients.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from lobby_gateway.commands.bench.handshake import AnswerError, Endpoint, endpoint_of, parse_answer, redirected
from lobby_gateway.commands.bench.receiver import ClientReader, Stream
from lobby_gateway.settings import BenchSettings
from lobby_gateway.websocket.client import explain
from lobby_gateway.websocket.frames import Opcode, close_payload, masked_frame

_READ: Final = select.EPOLLIN
_WRITE: Final = select.EPOLLOUT
_SETTINGS: Final = BenchSettings()

_Address: TypeAlias = tuple[int, tuple[str, int]]
"""Address family and argument of `connect`."""


class _Attempt(NamedTuple):
    """One attempt of a client to connect.

    Attributes:
        url: where to.
        redirects: how many redirects led here.
    """

    url: str
    redirects: int


class _Dial:
    """A client that is connecting: TCP, TLS, handshake.

    Attributes:
        sock: its socket.
        attempt: the current attempt.
        target: endpoint of its URL.
        address: of the endpoint's host.
        deadline: when to give up, on the monotonic clock.
        connected: the TCP connection is established.
        asked: the request was sent.
        buffer: the answer so far.
    """

    __slots__ = ("address", "asked", "attempt", "buffer", "connected", "deadline", "sock", "target")

    def __init__(
        self, sock: socket.socket, attempt: _Attempt, target: Endpoint, address: _Address, deadline: float
    ) -> None:
        self.sock = sock
        self.attempt = attempt
        self.target = target
        self.address = address
        self.deadline = deadline
        self.connected = False
        self.asked = False
        self.buffer = b""


class Swarm:
    """All clients.

    Attributes:
        receiver: what they received.
        connected: clients that connected.
        redirects: redirects followed.
        refused: clients refused, by HTTP status.
        failed: clients that failed to connect for another reason, by reason.
        disconnects: clients that connected and have left, by close code, or `lost` without one.
    """

    def __init__(self, url: str, context: ssl.SSLContext | None = None, settings: BenchSettings = _SETTINGS) -> None:
        self._settings = settings
        self.receiver = ClientReader()
        self.connected = 0
        self.redirects = 0
        self.refused: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.disconnects: Counter[str] = Counter()
        self._url = url
        self._context = context
        self._first_target: Endpoint | None = None
        self._addresses: dict[tuple[str, int], deque[_Address]] = {}
        self._epoll = select.epoll()  # timed clients, and those still connecting
        self._others = select.epoll()  # all others; never waited for
        self._every = 1  # one client in this many is timed
        self._pause = self._settings.shortest_pause_seconds
        self._sweep_at = 0.0
        self._streams: dict[int, Stream] = {}
        self._dials: dict[int, _Dial] = {}  # oldest first
        self._again: deque[_Attempt] = deque()
        self._heard = 0

    @property
    def decided(self) -> int:
        """Clients that have connected or failed."""
        return self.connected + self.refused.total() + self.failed.total()

    @property
    def timed(self) -> int:
        """Clients whose latency is measured."""
        return -(-self.connected // self._every)

    @property
    def silent(self) -> int:
        """Clients that connected and received nothing."""
        return self.connected - self._heard - sum(1 for stream in self._streams.values() if stream.heard)

    def open(self, count: int, ramp: float, look: Callable[[], None]) -> float:
        """Opens clients, evenly over `ramp` seconds or as fast as they connect; returns the seconds it took.

        Args:
            count: how many.
            ramp: seconds.
            look: called ten times per second.
        """
        self._every = -(-count // self._settings.timed_clients)
        start = now = time.monotonic()
        started = 0
        looked = 0.0
        while self.decided < count:
            due = count if now - start >= ramp else int(count * (now - start) / ramp) + 1
            while len(self._dials) < self._settings.max_connecting and (self._again or started < due):
                if not self._again:
                    started += 1
                self._dial(self._again.popleft() if self._again else _Attempt(self._url, 0))
            until_next = (started + 1) / count * ramp + start - now if started < count else self._settings.turn_seconds
            self._turn(min(max(until_next, 0.0), self._settings.turn_seconds))
            now = time.monotonic()
            self._give_up(now)
            if now - looked >= self._settings.turn_seconds:
                looked = now
                look()
        return time.monotonic() - start

    def measure(self, seconds: float, look: Callable[[], None]) -> float:
        """Measures for that many seconds, or until no client is left; returns the actual duration."""
        self._sweep()
        self.receiver.counting = True
        start = now = time.monotonic()
        looked = 0.0
        while now - start < seconds and self._streams:
            self._turn(min(self._settings.turn_seconds, max(0.0, start + seconds - now)))
            now = time.monotonic()
            if now - looked >= self._settings.turn_seconds:
                looked = now
                look()
        self._sweep()
        self.receiver.counting = False
        return time.monotonic() - start

    def close(self) -> None:
        """Sends a close frame for each client and closes its socket."""
        goodbye = masked_frame(Opcode.CLOSE, close_payload(1000))
        for stream in self._streams.values():
            with contextlib.suppress(OSError):
                stream.sock.send(goodbye)
            stream.sock.close()
        for dial in self._dials.values():
            dial.sock.close()
        self._epoll.close()
        self._others.close()

    # One turn

    def _turn(self, timeout: float) -> None:
        events = self._epoll.poll(min(timeout, max(0.0, self._sweep_at - time.monotonic())), self._settings.max_events)
        if self._dials:
            for fd in [fd for fd, _ in events if fd in self._dials]:
                self._continue(self._dials[fd])
        self._receive(events, timed=True)
        if time.monotonic() >= self._sweep_at:
            self._sweep()

    def _sweep(self) -> None:
        """Reads for the clients that are not timed; the more there was, the sooner it reads again."""
        self.receiver.most = 0
        self._receive(self._others.poll(0, max(1, len(self._streams))), timed=False)
        more = 0.5 if self.receiver.most > self._settings.hurry_bytes else 2
        self._pause = min(
            max(self._pause * more, self._settings.shortest_pause_seconds), self._settings.longest_pause_seconds
        )
        self._sweep_at = time.monotonic() + self._pause

    def _receive(self, events: list[tuple[int, int]], *, timed: bool) -> None:
        streams = self._streams
        ready = [stream for fd, _ in events if (stream := streams.get(fd)) is not None]
        for stream in self.receiver.receive(ready, timed=timed):
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.sock.fileno()]
        stream.sock.close()
        self.disconnects[stream.ended] += 1
        self._heard += stream.heard

    # Connecting

    def _dial(self, attempt: _Attempt) -> None:
        try:
            target = self._target(attempt)
            address = self._resolve(target)[0]
            sock = socket.socket(address[0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except (OSError, UnicodeError) as error:
            self.failed[explain(error, urlsplit(attempt.url).hostname or "")] += 1
            return
        dial = _Dial(sock, attempt, target, address, time.monotonic() + self._settings.handshake_seconds)
        self._dials[sock.fileno()] = dial
        self._epoll.register(sock.fileno(), _WRITE)
        problem = sock.connect_ex(address[1])
        if problem not in (0, errno.EINPROGRESS):
            self._unreachable(dial, problem)

    def _target(self, attempt: _Attempt) -> Endpoint:
        if attempt.redirects:
            return endpoint_of(attempt.url)  # each has its own token
        if self._first_target is None:
            self._first_target = endpoint_of(attempt.url)
        return self._first_target

    def _resolve(self, target: Endpoint) -> deque[_Address]:
        key = target.host, target.port
        found = self._addresses.get(key)
        if found is None:
            infos = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            found = self._addresses[key] = deque((info[0], info[4]) for info in infos)  # type: ignore[misc]
        return found

    def _continue(self, dial: _Dial) -> None:
        """The socket of a connecting client is readable or writable."""
        try:
            data = self._advance(dial)
        except ssl.SSLWantReadError:
            self._epoll.modify(dial.sock.fileno(), _READ)
        except ssl.SSLWantWriteError:
            self._epoll.modify(dial.sock.fileno(), _WRITE)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._fail(dial, explain(error, dial.target.host))
        else:
            if data is not None:
                self._received(dial, data)

    def _advance(self, dial: _Dial) -> bytes | None:
        """Takes the next step; returns the bytes read, if it was a read.

        Raises:
            OSError: the step failed, or cannot be taken yet.
        """
        if not dial.connected:
            problem = dial.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if problem:
                self._unreachable(dial, problem)
                return None
            dial.connected = True
            if dial.target.secure:
                context = self._context = self._context or ssl.create_default_context()
                name = dial.target.host.removesuffix(".")  # RFC 6066 §3
                dial.sock = context.wrap_socket(dial.sock, server_hostname=name, do_handshake_on_connect=False)
        if dial.asked:
            return dial.sock.recv(65536)
        if isinstance(dial.sock, ssl.SSLSocket):
            dial.sock.do_handshake()
        dial.sock.send(dial.target.request)  # fits a new socket's buffer
        dial.asked = True
        self._epoll.modify(dial.sock.fileno(), _READ)
        return None

    def _received(self, dial: _Dial, data: bytes) -> None:
        if not data:
            self._fail(dial, "the connection was closed during the handshake")
            return
        dial.buffer += data
        try:
            answer = parse_answer(dial.buffer)
        except AnswerError as error:
            self._fail(dial, str(error))
            return
        if answer is None:
            return
        if answer.status == 101:
            del self._dials[dial.sock.fileno()]
            stream = self._streams[dial.sock.fileno()] = Stream(dial.sock)
            if self.connected % self._every:
                self._epoll.unregister(dial.sock.fileno())
                self._others.register(dial.sock.fileno(), _READ)
            self.connected += 1
            self.receiver.begin(stream, answer.leftover)
            if stream.ended:
                self._end(stream)
        elif answer.location:
            self._redirect(dial, answer.location)
        else:
            self._drop(dial)
            self.refused[str(answer.status)] += 1

    def _redirect(self, dial: _Dial, location: str) -> None:
        url, redirects = dial.attempt
        if redirects == self._settings.max_redirects:
            self._fail(dial, f"more than {self._settings.max_redirects} redirects")
            return
        try:
            to = redirected(url, location)
        except ValueError:
            self._fail(dial, "redirected to something other than a WebSocket")
            return
        self._drop(dial)
        self.redirects += 1
        self._again.append(_Attempt(to, redirects + 1))

    def _unreachable(self, dial: _Dial, problem: int) -> None:
        """An address is unreachable: tries the next one of the host, and never this one again."""
        addresses = self._resolve(dial.target)
        if dial.address == addresses[0] and len(addresses) > 1:
            addresses.popleft()
        if dial.address == addresses[0]:
            self._fail(dial, os.strerror(problem).lower())
        else:
            self._drop(dial)
            self._again.append(dial.attempt)

    def _give_up(self, now: float) -> None:
        while self._dials:
            dial = next(iter(self._dials.values()))
            if dial.deadline > now:
                return
            what = "no answer to the handshake" if dial.connected else "no connection"
            self._fail(dial, f"{what} within {self._settings.handshake_seconds:g} s")

    def _fail(self, dial: _Dial, reason: str) -> None:
        self._drop(dial)
        self.failed[reason] += 1

    def _drop(self, dial: _Dial) -> None:
        del self._dials[dial.sock.fileno()]
        dial.sock.close()
