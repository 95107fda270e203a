"""What the clients of `lobby bench` receive.

Receiving must be cheaper than what it measures, and all clients get the same messages. So the bytes of one read are parsed
once, for the first client that gets them, and kept as a `Run`; all other clients find it by its bytes. For them a delivery
costs a system call, a lookup, and the comparison of two numbers.
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
_KEY_BYTES: Final = 96  # key for the lookup, before comparing all bytes; faster than hashing them
_MAX_RUNS: Final = 64
_MAX_ARRIVALS: Final = 4096
_TIMES: Final = 8
_MIXED: Final = -2  # a number that is never expected
_WANTS = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(slots=True)
class Received:
    """What was received so far.

    Attributes:
        deliveries: messages received while measuring.
        bytes: size of their frames.
        stamped: how many of them had a number.
        latencies: of those that had a time as well.
        order: of all messages, including those before measuring.
    """

    deliveries: int = 0
    bytes: int = 0
    stamped: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    order: OrderCounts = field(default_factory=OrderCounts)


class Stream:
    """The stream of one client.

    Attributes:
        sock: its socket.
        order: its place in the sequence.
        parser: needed once a read contained a partial message; None before.
        heard: it has received something.
        special: it is not on the hot path, because it has a parser or uses TLS.
        ended: close code, or `LOST`, once it has ended.
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
    """The whole messages of one read, shared by all clients that received the same bytes.

    Attributes:
        data: the bytes of their frames.
        stamps: one per message.
        first: number of the first message if the others follow it without a gap; otherwise `_MIXED`.
        next: the number after the last one.
        newest: time of the newest message.
        arrivals: when timed clients received it (Unix time in seconds), while measuring and since the last `add_up`.
        others: how many other clients received it in that time.
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
        """Adds the arrivals to `received`. Beyond `_TIMES` messages, neighboring messages share one time."""
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
        counting: whether to measure; order is always checked.
        most: most bytes returned by one read; the owner resets it to 0.
    """

    def __init__(self) -> None:
        self.counting = False
        self.most = 0
        self._received = Received()
        self._stamps = Stamps()
        self._runs: dict[tuple[int, bytes], Run] = {}  # by size and first bytes

    @property
    def received(self) -> Received:
        """What clients have received."""
        for run in self._runs.values():
            run.add_up(self._received)
        return self._received

    def receive(self, ready: Iterable[Stream], *, timed: bool) -> list[Stream]:
        """Reads for these clients; returns those whose stream has ended.

        Args:
            ready: clients that have something to read, or have ended.
            timed: whether it arrived just now.
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
                if size > most:  # noqa: PLR1730  # half the cost of calling max()
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
        """A client has connected; `leftover` arrived in the same read as the answer to its handshake."""
        if leftover:
            self._take(stream, leftover, timed=False)

    def _receive_special(self, stream: Stream, *, timed: bool) -> None:
        # TLS may have decrypted more than one read returns, which neither the kernel nor epoll knows about.
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
        """Parses the bytes of one read, and keeps the result for other clients that receive the same."""
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
        evicted = self._runs.pop(key, None)  # one with the same key
        if evicted is None and len(self._runs) >= _MAX_RUNS:
            evicted = self._runs.pop(next(iter(self._runs)))
        if evicted is not None:
            evicted.add_up(self._received)
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
            with contextlib.suppress(OSError):  # a full socket belongs to a server that is not reading
                stream.sock.send(answer)
