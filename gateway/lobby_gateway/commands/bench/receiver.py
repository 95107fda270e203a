"""What the clients of `lobby bench` receive.

It has to be cheaper than what it measures, and all clients get the same messages. So what came in one read is taken apart
once, by the first client that gets it, and kept as a `Run`; for all others it is found by its bytes. For them a delivery is a
system call, a look-up, and two numbers that have to fit.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from lobby_gateway.commands.bench.checks import Latencies, Order, OrderCounts, Stamp, Stamps
from lobby_gateway.websocket.frames import Batch, Opcode, close_payload, masked_frame
from lobby_gateway.websocket.parser import Close, Event, FrameParser, Ping, Violation

READ_BYTES: Final = 65536
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
LOST: Final = "lost"
_KEY_BYTES: Final = 96  # by which what came is looked for, before all of it is compared: that is faster than to hash it
_MAX_RUNS: Final = 64
_MAX_ARRIVALS: Final = 4096
_TIMES: Final = 8
_MIXED: Final = -2  # no number that is ever expected
_WANTS = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(slots=True)
class Received:
    """What was received so far.

    Attributes:
        deliveries: messages, while it counted.
        bytes: of their frames.
        stamped: those of them that had a number.
        latencies: of those of them that had a time, too.
        order: of all messages, also of those before it counted.
    """

    deliveries: int = 0
    bytes: int = 0
    stamped: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    order: OrderCounts = field(default_factory=OrderCounts)


class Stream:
    """What one client is sent.

    Attributes:
        sock: its socket.
        order: its place in the sequence.
        parser: for what is not whole messages in one read; None while it is.
        heard: it has received something.
        special: it is not for the hot path: it has a parser, or speaks TLS.
        ended: close code, or `LOST`, once it is over.
    """

    __slots__ = ("ended", "heard", "order", "parser", "recv", "sock", "special")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.order = Order()
        self.heard = False
        self.parser: FrameParser | None = None
        self.special = isinstance(sock, ssl.SSLSocket)
        self.ended = ""


class Run:
    """What came in one read, of whole messages: the same for all clients that got the same bytes.

    Attributes:
        data: the bytes of their frames.
        stamps: of each message.
        first: number of the first one, if the others follow it one by one; otherwise `_MIXED`.
        next: number behind the last one.
        newest: time of the newest one.
        arrivals: when timed clients got it, Unix time in seconds, while it counted and since it was last added up.
        others: how many other clients got it, likewise.
    """

    __slots__ = ("arrivals", "data", "first", "newest", "next", "others", "stamps")

    def __init__(self, stamps: list[Stamp | None], data: bytes) -> None:
        found = [stamp for stamp in stamps if stamp is not None]
        follows = len(found) == len(stamps) and all(b.seq == a.seq + 1 for a, b in pairwise(found))
        self.data = data
        self.stamps = stamps
        self.first = found[0].seq if follows else _MIXED
        self.next = found[-1].seq + 1 if found else 0
        self.newest = max((stamp.time for stamp in found), default=0.0)
        self.arrivals: list[float] = []
        self.others = 0

    def add_up(self, received: Received) -> None:
        """Adds what arrived to what was received. Of more than `_TIMES` messages not each counts with its own time."""
        arrivals, self.arrivals = self.arrivals, []
        clients = len(arrivals) + self.others
        self.others = 0
        received.deliveries += clients * len(self.stamps)
        received.bytes += clients * len(self.data)
        found = [stamp for stamp in self.stamps if stamp is not None]
        received.stamped += clients * len(found)
        times = [stamp.time for stamp in found if stamp.time]
        each = -(-len(times) // _TIMES) or 1
        for at in range(0, len(times), each):
            group = times[at : at + each]
            received.latencies.add(arrivals, group[len(group) // 2], len(group))


class ClientReader:
    """Reads for all clients.

    Attributes:
        counting: messages count, not only for their order.
        most: bytes that one read brought at most; for the owner, who sets it to 0.
    """

    def __init__(self) -> None:
        self.counting = False
        self.most = 0
        self._received = Received()
        self._stamps = Stamps()
        self._runs: dict[tuple[int, bytes], Run] = {}  # by how many bytes it is, and the first of them

    @property
    def received(self) -> Received:
        """What clients got."""
        for run in self._runs.values():
            run.add_up(self._received)
        return self._received

    def receive(self, ready: Iterable[Stream], *, timed: bool) -> list[Stream]:
        """Reads what these clients have been sent; returns those of them that are at their end.

        Args:
            ready: for which something is there, or which have ended.
            timed: it came just now.
        """
        ended: list[Stream] = []
        find, clock, counting, most = self._runs.get, time.time, self.counting, 0
        for stream in ready:
            if stream.special:
                self._receive_special(stream, timed=timed)
            else:
                try:
                    data = stream.recv(READ_BYTES)
                except _WANTS:
                    continue
                except OSError:
                    data = b""
                size = len(data)
                if size > most:  # noqa: PLR1730  # half the time of a call
                    most = size
                run = find((size, data[:_KEY_BYTES]))
                if run is not None and run.data == data:
                    order = stream.order
                    if run.first == order.next:
                        order.next = run.next
                        order.newest = run.newest
                        if counting:
                            if timed:
                                run.arrivals.append(clock())
                            else:
                                run.others += 1
                        continue
                    self._count(stream, run, timed=timed)
                elif size:
                    self._take(stream, data, timed=timed)
                else:
                    stream.ended = LOST
            if stream.ended:
                ended.append(stream)
        self.most = max(self.most, most)
        return ended

    def begin(self, stream: Stream, leftover: bytes) -> None:
        """A client is in; `leftover` came in the same read as the answer to its handshake."""
        if leftover:
            self._take(stream, leftover, timed=False)

    def _receive_special(self, stream: Stream, *, timed: bool) -> None:
        # TLS may have decrypted more than one read takes, of which the kernel, and so epoll, knows nothing.
        while not stream.ended:
            try:
                data = stream.recv(READ_BYTES)
            except _WANTS:
                return
            except OSError:
                data = b""
            self.most = max(self.most, len(data))
            if data:
                self._take(stream, data, timed=timed)
            else:
                stream.ended = LOST
            if not isinstance(stream.sock, ssl.SSLSocket):
                return

    def _take(self, stream: Stream, data: bytes, *, timed: bool) -> None:
        """Takes apart what came in one read, and keeps it for the others that get the same."""
        whole = stream.parser is None
        parser = stream.parser = stream.parser or FrameParser(masked=False, max_message_bytes=MAX_MESSAGE_BYTES)
        events = parser.receive(data)
        for event in events:
            if isinstance(event, Batch):
                run = Run([self._stamps.read(bytes(event.payload(index))) for index in range(len(event))], event.data)
                self._count(stream, run, timed=timed)
                if whole and event.data == data:
                    self._keep(run)
                else:
                    run.add_up(self._received)
            else:
                self._answer(stream, event)
        if parser.idle:
            stream.parser = None
        stream.special = stream.parser is not None or isinstance(stream.sock, ssl.SSLSocket)

    def _keep(self, run: Run) -> None:
        key = (len(run.data), run.data[:_KEY_BYTES])
        gone = self._runs.pop(key, None)  # one that begins alike
        if gone is None and len(self._runs) >= _MAX_RUNS:
            gone = self._runs.pop(next(iter(self._runs)))
        if gone is not None:
            gone.add_up(self._received)
        self._runs[key] = run

    def _count(self, stream: Stream, run: Run, *, timed: bool) -> None:
        stream.heard = True
        for stamp in run.stamps:
            if stamp is not None:
                stream.order.take(stamp, self._received.order)
        if self.counting and timed:
            run.arrivals.append(time.time())
        elif self.counting:
            run.others += 1

    def _answer(self, stream: Stream, event: Event) -> None:
        answer = b""
        if isinstance(event, Ping):
            answer = masked_frame(Opcode.PONG, event.payload)
        elif isinstance(event, Close):
            answer = masked_frame(Opcode.CLOSE, b"" if event.code == 1005 else close_payload(event.code))
            stream.ended = str(event.code)
        elif isinstance(event, Violation):
            answer = masked_frame(Opcode.CLOSE, close_payload(event.code, event.reason))
            stream.ended = f"{event.reason} ({event.code})"
        if answer:
            with contextlib.suppress(OSError):  # who does not take it reads nothing
                stream.sock.send(answer)
