"""What clients notice of a fault: nothing, or how many closes, gaps, duplicates and reorderings, and the longest silence.

`lobby up` runs as real processes. The origin numbers its messages and sends the same ones on every connection; each client's
bytes are compared with what was sent, so that thousands of clients cost little. Faults are methods of `Continuity`; whatever
adds one only has to call `check` afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import socket
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import proc
from tests.support.lobby import drain
from tests.support.origins import FakeOrigin, server_frame
from tests.support.swarm import Client, Swarm
from tests.support.tally import Tally, by_seq
from tests.support.up import LobbyUp, lobby_file, lobby_resource, lobby_up, summary
from tests.support.waiting import until

from lobby_gateway.clients.tokens import key_from_hex

PAUSE_SECONDS, PAUSE_PER_CLIENT = 0.005, 25e-6
"""Seconds between two rounds of reading: at least the first; many clients are read less often, several messages at once."""
HANDSHAKE = "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
MOST_NOTES = 3
KNOWN_SECONDS = 4.0
"""So long after it has connected, a lobby has what clients of one that hangs saw last: those give up on it after 2 s."""
READ_BYTES = 1 << 18
SETTLE_SECONDS = 60.0
QUEUE = {"messages": 1024, "milliseconds": 60000, "bytes": 64 << 20}
"""So much may wait for a client that a busy machine drops nothing."""


class Stream:
    """What the origin has sent so far.

    Attributes:
        data: the frames.
        ends: where each ends.
    """

    def __init__(self, size: int = 0) -> None:
        """A stream of messages that are filled up to `size` bytes."""
        self._size = size
        self.data = bytearray()
        self.ends: list[int] = []

    def next(self) -> bytes:
        """One more message, as a frame."""
        text = json.dumps({"seq": len(self.ends), "at": time.time()}).encode()
        frame = server_frame(1, text.ljust(self._size))
        self.data += frame
        self.ends.append(len(self.data))
        return frame

    def start(self, number: int) -> int:
        """Where the frame of a message starts."""
        return self.ends[number - 1] if number else 0

    def number(self, at: int) -> int:
        """Number of the message to which a byte belongs."""
        return bisect_right(self.ends, at)


class Viewer:
    """A client that compares what it receives with what the origin sent.

    Attributes:
        at: place in the stream up to which it has received everything; -1 before its first message.
        missing: numbers of messages that it did not get, so far.
        duplicates: messages that it got again.
        reordered: messages that came after a later one.
        closed: why its connection ended; empty while it is open.
        notes: what was not as it should be, first of all.
        reads: whether it reads at present.
        expects_close: its greeter is killed or ends, so a close is no fault.
    """

    def __init__(self, sock: socket.socket, stream: Stream) -> None:
        self.sock = sock
        self.stream = stream
        self.at = -1
        self.missing: set[int] = set()
        self.duplicates = 0
        self.reordered = 0
        self.closed = ""
        self.notes: list[str] = []
        self.reads = True
        self.expects_close = False
        self.last_at = time.monotonic()
        self.longest_silence = 0.0
        self._rest = b""

    @property
    def last(self) -> int:
        """Number of the newest message that it has whole; -1: none."""
        return self.stream.number(self.at) - 1 if self.at >= 0 else -1

    @property
    def local_port(self) -> int:
        """Its TCP port."""
        return int(self.sock.getsockname()[1])

    def mark(self, now: float) -> None:
        """Restarts the measurement of silence."""
        self.longest_silence = 0.0
        self.last_at = now

    def silence(self, now: float) -> float:
        """Longest silence since the last `mark`, the current one included."""
        return max(self.longest_silence, now - self.last_at)

    def read(self, now: float) -> None:
        """Takes what has arrived."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.closed = self.closed or str(error)
            return
        if not data:
            self.closed = self.closed or "end of stream"
            return
        self.longest_silence = max(self.longest_silence, now - self.last_at)
        self.last_at = now
        self.feed(data)

    def feed(self, data: bytes) -> None:
        """Takes bytes: nearly always the next ones of the stream."""
        if self.at >= 0 and not self._rest and self.stream.data.startswith(data, self.at):
            self.at += len(data)
            return
        if self.at >= 0 and not self._rest:  # it may have a part of a frame
            start = self.stream.start(self.stream.number(self.at))
            self._rest = bytes(self.stream.data[start : self.at])
            self.at = start
        self._rest += data
        while (frame := self._whole_frame()) is not None:
            self._take(*frame)

    def _whole_frame(self) -> tuple[int, bytes] | None:
        data = self._rest
        if len(data) < 2:
            return None
        size = data[1]
        head = 2
        if size == 126:
            head, size = 4, int.from_bytes(data[2:4], "big")
        elif size == 127:
            head, size = 10, int.from_bytes(data[2:10], "big")
        if len(data) < head + size:
            return None
        self._rest = data[head + size :]
        return data[0] & 0x0F, data[head : head + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.closed = f"close frame {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()!r}"
        elif opcode == 9:
            self.sock.send(bytes((0x8A, 0x80 | len(payload), 0, 0, 0, 0)) + payload)
        elif opcode == 1:
            number = by_seq(payload)
            assert number is not None, payload
            expected = number if self.at < 0 else self.stream.number(self.at)
            if number != expected and len(self.notes) < MOST_NOTES:
                self.notes.append(f"{number} instead of {expected} when {len(self.stream.ends)} were sent")
            if number >= expected:
                self.missing.update(range(expected, number))
                self.at = self.stream.ends[number]
            elif number in self.missing:
                self.missing.remove(number)
                self.reordered += 1
            else:
                self.duplicates += 1
        else:
            raise AssertionError(f"a frame with opcode {opcode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What clients noticed.

    Attributes:
        clients: how many there were.
        messages: messages sent by the origin.
        closes: connections that ended although their greeter lived, with the reasons.
        gaps: messages that a client did not get, over all clients.
        duplicates: messages that a client got again.
        reorderings: messages that came after a later one.
        silence: longest time without a message, in seconds, of each client; sorted.
        own_pause: longest pause of the process that sends and reads, in seconds: part of every silence.
    """

    clients: int
    messages: int
    closes: dict[str, int]
    gaps: int
    duplicates: int
    reorderings: int
    silence: list[float]
    own_pause: float

    @property
    def zeros(self) -> bool:
        """Nobody noticed anything but silence."""
        return not self.closes and self.gaps == self.duplicates == self.reorderings == 0

    def percentile(self, share: float) -> float:
        """Longest silence of this share of the clients, in seconds."""
        return self.silence[min(int(share * len(self.silence)), len(self.silence) - 1)] if self.silence else 0.0

    def __str__(self) -> str:
        silence = "/".join(f"{self.percentile(share):.3f}" for share in (0.5, 0.99, 1.0))
        return (
            f"{self.clients} clients, {self.messages} messages: {sum(self.closes.values())} closes {self.closes or ''}, "
            f"{self.gaps} gaps, {self.duplicates} duplicates, {self.reorderings} reorderings; "
            f"longest silence p50/p99/max {silence} s, of which {self.own_pause:.3f} s are the test's own"
        )


@dataclass(slots=True)
class Continuity:
    """The running system, its clients, and the faults that it is put through.

    Attributes:
        up: the running `lobby up`.
        origin: the origin; its connections can be reset.
        stream: what it sent.
        chance: decides what is random.
        rate: messages per second.
        least_lobbies: how many lobbies there must be.
        viewers: the clients.
        deflated: clients that negotiated permessage-deflate.
        faults: what was done, as lines for failure messages.
        stopped: processes that are stopped now.
        work: sends and reads; ends only if it fails.
        own_pause: longest time since `mark` in which this process neither sent nor read: part of every silence.
    """

    up: LobbyUp
    origin: FakeOrigin
    stream: Stream
    chance: random.Random
    rate: float
    least_lobbies: int
    deflated: Swarm
    viewers: list[Viewer] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    work: list[asyncio.Task[None]] = field(default_factory=list)
    own_pause: float = 0.0
    _begun_at: float = field(default_factory=time.monotonic)
    _poll: Any = field(default_factory=select.epoll)
    _by_fd: dict[int, Viewer] = field(default_factory=dict)

    # Clients

    async def connect(self, count: int, *, deflated: int = 0, receive_buffer: int | None = None) -> list[Viewer]:
        """Connects clients, and waits until each has a message."""
        host, _, path = self.up.url.removeprefix("ws://").partition("/")
        gate = asyncio.Semaphore(32)

        async def one() -> Viewer:
            async with gate:
                return await self._connect(host, f"/{path}", receive_buffer)

        new = await asyncio.gather(*(one() for _ in range(count)))
        self.viewers += new
        more = await self.deflated.connect_all(deflated) if deflated else []
        await until(
            lambda: all(viewer.at >= 0 for viewer in new) and all(client.tally.count for client in more),
            deadline=SETTLE_SECONDS, describe=self.summary,
        )  # fmt: skip
        return new

    async def _connect(self, host: str, path: str, receive_buffer: int | None) -> Viewer:
        loop = asyncio.get_running_loop()
        name, _, port = host.partition(":")
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await loop.sock_connect(sock, (name, int(port)))
        await loop.sock_sendall(sock, HANDSHAKE.format(path=path, host=host, more=KEY).encode())
        head = b""
        async with asyncio.timeout(SETTLE_SECONDS):
            while b"\r\n\r\n" not in head:
                head += await loop.sock_recv(sock, 4096) or b"\r\n\r\n"
        head, _, rest = head.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        viewer = Viewer(sock, self.stream)
        if rest:
            viewer.feed(rest)
        self._by_fd[sock.fileno()] = viewer
        self._poll.register(sock.fileno(), select.EPOLLIN)
        return viewer

    async def read(self) -> None:
        """Reads what has arrived for all clients, for ever."""
        before = time.monotonic()
        while True:
            now = time.monotonic()
            self.own_pause, before = max(self.own_pause, now - before), now
            for fd, _ in self._poll.poll(0):
                viewer = self._by_fd[fd]
                viewer.read(now)
                if viewer.closed:
                    self._poll.unregister(fd)
                    del self._by_fd[fd]
                    viewer.sock.close()
            await asyncio.sleep(max(PAUSE_SECONDS, PAUSE_PER_CLIENT * len(self.viewers)))

    def pause(self, viewers: Iterable[Viewer]) -> None:
        """Some clients stop reading."""
        for viewer in viewers:
            if viewer.reads and not viewer.closed:
                self._poll.modify(viewer.sock.fileno(), 0)
                viewer.reads = False

    def proceed(self, viewers: Iterable[Viewer]) -> None:
        """They read again."""
        for viewer in viewers:
            if not viewer.reads and not viewer.closed:
                self._poll.modify(viewer.sock.fileno(), select.EPOLLIN)
                viewer.reads = True

    def leave(self, viewers: Iterable[Viewer]) -> None:
        """Some clients disconnect."""
        for viewer in list(viewers):
            self.viewers.remove(viewer)
            del self._by_fd[viewer.sock.fileno()]
            self._poll.unregister(viewer.sock.fileno())
            viewer.sock.close()

    def close(self) -> None:
        """Closes all clients."""
        for viewer in self._by_fd.values():
            viewer.sock.close()
        self._by_fd.clear()
        self._poll.close()

    # Faults

    def note(self, fault: str) -> None:
        """Records a fault for failure messages."""
        self.faults.append(f"{time.monotonic() - self._begun_at:.1f} s, message {len(self.stream.ends)}: {fault}")

    def lobbies(self) -> dict[str, int]:
        """Process IDs of the running lobbies by name, without those that are stopped."""
        running = self.up.lobby_processes()
        return {name: each.pid for name, each in sorted(running.items()) if each.pid not in self.stopped}

    async def busiest(self) -> str:
        """Name of the lobby with the most clients."""
        reports = await self.reports()
        return max(reports, key=lambda name: int(reports[name]["clients"]))

    async def reports(self) -> dict[str, dict[str, Any]]:
        """`/seats` of each lobby that answers."""
        found = {}
        for name, pid in self.lobbies().items():
            with contextlib.suppress(OSError, LookupError):
                found[name] = await self.up.seats_of(pid)
        over = {name: report for name, report in found.items() if report["clients"] > report["seats"]}
        assert not over, f"overfilled: {summary(over)}"
        return found

    def signal(self, lobby: str, number: signal.Signals) -> int:
        """Sends a signal to a lobby; returns its process ID."""
        pid = self.up.lobby_processes()[lobby].pid
        self.note(f"{number.name} to {lobby}")
        os.kill(pid, number)
        if number is signal.SIGSTOP:
            self.stopped.add(pid)
        return pid

    def wake(self, pid: int) -> None:
        """Continues a stopped process, unless it was killed meanwhile."""
        self.stopped.discard(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def drain(self, lobby: str) -> None:
        """Asks a lobby to drain, as the lobby host does."""
        pid = self.up.lobby_processes()[lobby].pid
        self.note(f"drain of {lobby}")
        key = key_from_hex(proc.environment(pid)["LOBBY_TOKEN_KEY"])
        answer = await drain(await self.up.admin_of(pid), key, lobby)
        assert answer.status == 202, answer

    async def strike(self) -> None:
        """Strikes one or two lobbies in a random way, of which the others can take the clients."""
        reports = await self.reports()
        ways: list[signal.Signals | None] = [None, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP]
        struck: list[str] = []
        for _ in range(self.chance.choice((1, 1, 2))):
            left = [name for name in reports if name not in struck]
            victim = self.chance.choice(left)
            free = sum(reports[name]["seats"] - reports[name]["clients"] for name in left if name != victim)
            if free < sum(reports[name]["clients"] for name in (*struck, victim)):
                continue
            struck.append(victim)
            way = self.chance.choice(ways)
            if way is None:
                await self.drain(victim)
                continue
            pid = self.signal(victim, way)
            if way is signal.SIGSTOP and self.chance.random() < 0.5:
                asyncio.get_running_loop().call_later(self.chance.uniform(0.1, 6.0), self.wake, pid)

    # Observations

    def mark(self) -> None:
        """Restarts the measurement of silence."""
        now = time.monotonic()
        for viewer in self.viewers:
            viewer.mark(now)
        self.deflated.mark()
        self.own_pause = 0.0

    async def until_sent(self, number: int) -> None:
        """Waits until the origin has sent this many messages."""
        await until(lambda: len(self.stream.ends) >= number, deadline=SETTLE_SECONDS, describe=self.summary)

    async def settled(self) -> None:
        """Waits until each client has everything that the origin has sent by now, and every lobby is one that is wanted."""
        newest = len(self.stream.ends) - 1

        def look() -> bool:
            for task in self.work:
                assert not task.done(), task.result()
            return all(viewer.last >= newest for viewer in self.viewers if not viewer.closed and viewer.reads) and all(
                client.tally.last >= newest for client in self.deflated.open
            )

        await until(
            look, deadline=SETTLE_SECONDS, describe=lambda: f"message {newest} for each client; {self.summary()}"
        )

    async def steady(self) -> None:
        """Waits until enough lobbies are ready and have the stream, none is draining, and all clients are up to date."""
        seen: dict[str, dict[str, Any]] = {}

        async def look() -> bool:
            nonlocal seen
            seen = await self.reports()
            status = await self.up.status()
            calm = not any(report["draining"] for report in seen.values())
            # A lobby knows the places of clients that saw their last messages after it had connected.
            known = all(
                report["messages"] >= self.rate * KNOWN_SECONDS or report["origin"]["state"] == "Idle"
                for report in seen.values()
            )
            flowing = all(report["flowing"] or not report["clients"] for report in seen.values())
            return calm and known and flowing and status.get("readyReplicas", 0) == len(seen) >= self.least_lobbies

        await until(look, deadline=SETTLE_SECONDS, every=0.1, describe=lambda: f"{summary(seen)}; {self.summary()}")
        await self.settled()

    def report(self) -> Report:
        """What clients have noticed so far."""
        now = time.monotonic()
        closes: dict[str, int] = {}
        for viewer in self.viewers:
            if viewer.closed and not viewer.expects_close:
                closes[viewer.closed] = closes.get(viewer.closed, 0) + 1
        for client in self.deflated.clients:
            if client.close_code is not None:
                reason = f"{client.close_code} {client.close_reason}"
                closes[reason] = closes.get(reason, 0) + 1
        watched: list[Viewer | Client] = [*self.viewers, *self.deflated.clients]
        counts: list[Viewer | Tally] = [*self.viewers, *(client.tally for client in self.deflated.clients)]
        return Report(
            clients=len(watched),
            messages=len(self.stream.ends),
            closes=closes,
            gaps=sum(len(each.missing) for each in counts),
            duplicates=sum(each.duplicates for each in counts),
            reorderings=sum(each.reordered for each in counts),
            silence=sorted(each.silence(now) for each in watched),
            own_pause=self.own_pause,
        )

    async def check(self, what: str, *, silence: float | None = None) -> Report:
        """Waits until each client is up to date and has one seat; nobody may have noticed anything.

        Args:
            what: name of what was done, for the report.
            silence: longest silence accepted besides the pauses of this process itself, in seconds.
        """
        await self.settled()
        connected = sum(not viewer.closed for viewer in self.viewers) + len(self.deflated.open)
        await self.up.until_clients(connected, deadline=SETTLE_SECONDS)  # no seat is lost, none is held twice
        report = self.report()
        print(f"{what}: {report}")  # noqa: T201  # the figures, with `pytest -s`
        assert report.zeros, f"{what}: {self.summary()}"
        assert silence is None or report.percentile(1.0) <= silence + report.own_pause, f"{what}: {self.summary()}"
        return report

    def summary(self) -> str:
        """What happened, for failure messages."""
        notes = [note for viewer in self.viewers for note in viewer.notes]
        return "\n".join([str(self.report()), *self.faults[-40:], *notes[:10]])


@contextlib.asynccontextmanager
async def continuity(
    folder: Path,
    *,
    clients: int,
    deflated: int = 2,
    lobbies: int = 5,
    seats: int = 20,
    greeters: int = 2,
    rate: float = 200.0,
    size: int = 0,
    per_connection: bool = False,
    seed: int = 1,
    on_origin: Callable[[FakeOrigin], Awaitable[None]] | None = None,
    **spec: Any,
) -> AsyncIterator[Continuity]:
    """Runs a Lobby with clients that get its stream, for the duration of a block.

    Args:
        folder: for the file of the Lobby.
        clients: clients that compare every byte.
        deflated: further ones, with permessage-deflate.
        lobbies: `replicas` of the Lobby.
        seats: of each lobby.
        greeters: number of greeters.
        rate: messages per second.
        size: bytes of each message, at least.
        per_connection: each message has an id of its connection, as with `eth_subscribe`, and clients compare only numbers.
        seed: of what is random.
        on_origin: awaited before anything connects to the origin.
        spec: further fields of the Lobby, as for `lobby_resource`.
    """
    stream = Stream(size)
    async with FakeOrigin() as origin:
        if on_origin is not None:
            await on_origin(origin)
        fields: dict[str, Any] = {
            "replicas": lobbies,
            "maxReplicas": lobbies + 3,
            "spareSeats": seats,
            "clients_seats": seats,
            "clients_queue": QUEUE,
            "clients_compression": "Shared",
            "origin_connect": "Always",
            "origin_reconnect": {"minMilliseconds": 50, "maxMilliseconds": 500},
        }
        resource = lobby_resource("prices", origin.url, **{**fields, **spec})
        sending = asyncio.create_task(_send(origin, stream, rate, per_connection=per_connection))
        try:
            async with (
                lobby_up("-f", lobby_file(folder, resource), "--greeters", str(greeters)) as up,
                Swarm(up.url, compression=True) as swarm,
            ):
                running = Continuity(up, origin, stream, random.Random(seed), rate, lobbies, swarm)
                reading = asyncio.create_task(running.read())
                running.work = [sending, reading]
                try:
                    await up.until_ready(lobbies, deadline=SETTLE_SECONDS)
                    await running.connect(clients, deflated=deflated)
                    await running.steady()
                    running.mark()
                    yield running
                finally:
                    for pid in list(running.stopped):
                        running.wake(pid)
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                    running.close()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(origin: FakeOrigin, stream: Stream, rate: float, *, per_connection: bool) -> None:
    """Sends messages at a rate, those that are late at once."""
    begun = time.monotonic()
    while True:
        due = int((time.monotonic() - begun) * rate) - len(stream.ends)
        if due > 0:
            frames = [stream.next() for _ in range(due)]
            if per_connection:
                first = len(stream.ends) - due
                for record in origin.open:
                    texts = [f'{{"subscription": "{id(record):x}", "seq": {first + at}}}' for at in range(due)]
                    origin.send_raw(b"".join(server_frame(1, text.encode()) for text in texts), to=[record])
            else:
                origin.send_raw(b"".join(frames))
        await asyncio.sleep(1 / rate)
