"""One message to all clients: the hot path, the same in a lobby and in a greeter.

A batch is framed once, and every client with nothing pending gets it by one direct, non-blocking `send`. There is no task,
queue or callback per client and message. For clients that lag the batch is kept once, in the backlog, and nothing is done for
each of them until its socket has room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from lobby_gateway.clients.backlog import Backlog, QueueLimits
from lobby_gateway.clients.batching import Batching
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.fan_out import send_all
from lobby_gateway.clients.mailbox import Dropped, Mailbox
from lobby_gateway.websocket.deflate import deflate_batch
from lobby_gateway.websocket.frames import AsideBatch, Batch

LINE_CHECK_SECONDS = 0.25
"""Interval between looks at the lines of clients that lag. A look takes a microsecond for each of them, and until the first
one a client that has stopped reading is treated as one that is far away."""


class BusStats:
    """Plain counters of one or more buses, read when metrics are scraped.

    Attributes:
        messages: messages published.
        bytes: bytes of their frames.
        deliveries: messages that clients' sockets took to the end.
        delivered_bytes: bytes of those.
        dropped_slow, dropped_old, dropped_memory: messages dropped from mailboxes, by reason: see `Dropped`.
        high_water: most messages seen waiting for one client.
    """

    __slots__ = (
        "bytes", "delivered_bytes", "deliveries", "dropped_memory", "dropped_old", "dropped_slow", "high_water", "messages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.deliveries = 0
        self.delivered_bytes = 0
        self.dropped_slow = 0
        self.dropped_old = 0
        self.dropped_memory = 0
        self.high_water = 0

    @property
    def dropped(self) -> int:
        """Messages dropped from mailboxes."""
        return self.dropped_slow + self.dropped_old + self.dropped_memory

    @property
    def dropped_by(self) -> dict[str, int]:
        """The same by reason, as metrics and reports name it."""
        return {"slow": self.dropped_slow, "old": self.dropped_old, "memory": self.dropped_memory}

    def count_dropped(self, dropped: Dropped) -> None:
        """Messages were dropped from one mailbox."""
        self.dropped_slow += dropped.slow
        self.dropped_old += dropped.old
        self.dropped_memory += dropped.memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Clients whose socket is full.

    Attributes:
        on_the_way: those that take what their line can carry.
        not_reading: those that do not read.
        messages: most messages that wait for one of them.
        seconds: longest that one of those has waited.
    """

    on_the_way: int = 0
    not_reading: int = 0
    messages: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, lags: Iterable[Lag]) -> Lag:
        """The lag of several buses."""
        lags = list(lags)
        return cls(
            on_the_way=sum(each.on_the_way for each in lags),
            not_reading=sum(each.not_reading for each in lags),
            messages=max((each.messages for each in lags), default=0),
            seconds=max((each.seconds for each in lags), default=0.0),
        )


class _Encoding:
    """The clients of a bus that get the same bytes: deflated or not.

    Attributes:
        ready: clients with nothing pending, by the descriptors of their sockets, which are all that the compiled loop touches.
        behind: clients whose socket is full, with what waits for each.
        backlog: what waits for all of those; empty if there are none.
    """

    __slots__ = ("backlog", "behind", "ready")

    def __init__(self, limits: QueueLimits) -> None:
        self.ready: dict[int, ClientConnection] = {}
        self.behind: dict[ClientConnection, Mailbox] = {}
        self.backlog = Backlog(limits)


class MessageBus:
    """Sends each batch to all attached clients.

    Attributes:
        stats: counters; may be shared by several buses.
        publish: sends a batch to every attached client; with `batch_seconds`, within that time.
    """

    def __init__(
        self,
        stats: BusStats | None = None,
        limits: QueueLimits | None = None,
        *,
        batch_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = stats or BusStats()
        self._clock = clock
        self._limits = limits or QueueLimits()
        self._plain = _Encoding(self._limits)
        self._deflated = _Encoding(self._limits)
        self._look_at = 0.0  # when the lines of clients that lag are looked at again
        self.publish: Callable[[Batch], None] = self._publish  # chosen once, so that it costs nothing per batch
        self._batching: Batching | None = None
        self.batch_seconds = batch_seconds

    def __len__(self) -> int:
        return sum(len(each.ready) + len(each.behind) for each in (self._plain, self._deflated))

    def __iter__(self) -> Iterator[ClientConnection]:
        plain, deflated = self._plain, self._deflated
        return iter([*plain.ready.values(), *deflated.ready.values(), *plain.behind, *deflated.behind])

    @property
    def limits(self) -> QueueLimits:
        """What may wait for a client; may be replaced."""
        return self._limits

    @limits.setter
    def limits(self, limits: QueueLimits) -> None:
        self._limits = self._plain.backlog.limits = self._deflated.backlog.limits = limits

    @property
    def batch_seconds(self) -> float:
        """How long messages are gathered, to go out in one send per client; 0: not at all. May be changed."""
        return self._batch_seconds

    @batch_seconds.setter
    def batch_seconds(self, seconds: float) -> None:
        self.flush()
        self._batch_seconds = seconds
        self._batching = Batching(self._publish, seconds) if seconds else None
        self.publish = self._batching.add if self._batching is not None else self._publish

    def flush(self) -> None:
        """Sends what was gathered, so that every attached client is at the end of the stream."""
        if self._batching is not None:
            self._batching.flush()

    @property
    def behind(self) -> int:
        """Clients whose socket is full."""
        return len(self._plain.behind) + len(self._deflated.behind)

    def lag(self) -> Lag:
        """How far the clients lag whose socket is full."""
        now = self._clock()
        mailboxes = [*self._plain.behind.values(), *self._deflated.behind.values()]
        return Lag(
            on_the_way=sum(not each.not_reading for each in mailboxes),
            not_reading=sum(each.not_reading for each in mailboxes),
            messages=max(map(len, mailboxes), default=0),
            seconds=max((each.age(now) for each in mailboxes), default=0.0),
        )

    def tell(self, batch: AsideBatch) -> None:
        """Sends messages that have no place in the stream to every attached client, behind all that was published."""
        self.flush()
        self._publish(batch)

    def attach(self, client: ClientConnection, replay: Sequence[Batch] = ()) -> None:
        """Adds a client; it gets `replay` first, then everything published from now on."""
        if client.closing:
            return
        if client.bus is not None:
            raise ValueError("the client is attached to a bus")
        self.flush()  # what came before it is in `replay`, or not for it
        client.bus = self
        encoding = self._encoding(client)
        if client.mailbox is not None:
            self.fell_behind(client, client.mailbox)
        else:
            encoding.ready[client.fd] = client
        for batch in replay:
            if client.bus is not self:
                return  # lost, or closed as too slow
            self._deliver(client, batch)

    def detach(self, client: ClientConnection) -> None:
        """Removes a client that continues elsewhere: it gets everything published so far; what waits stays with it."""
        self.flush()
        if client.bus is self:  # otherwise it was lost
            self.remove(client)

    def remove(self, client: ClientConnection) -> None:
        """Removes a client, without what was gathered; what waits stays with it, as long as it has a mailbox."""
        client.bus = None
        encoding = self._encoding(client)
        encoding.ready.pop(client.fd, None)
        if client.mailbox is not None:
            client.mailbox.detach()
        if client in encoding.behind:
            self._leave(encoding, client)

    def fell_behind(self, client: ClientConnection, mailbox: Mailbox) -> None:
        """A client's socket is full: from now on its messages wait."""
        encoding = self._encoding(client)
        encoding.ready.pop(client.fd, None)
        encoding.behind[client] = mailbox
        if not mailbox.attached:
            mailbox.attach(encoding.backlog)

    def caught_up(self, client: ClientConnection) -> None:
        """A client that lagged no longer has anything pending."""
        encoding = self._encoding(client)
        self._leave(encoding, client)
        encoding.ready[client.fd] = client

    def _publish(self, batch: Batch) -> None:
        stats = self.stats
        stats.messages += len(batch.ends)
        stats.bytes += len(batch.data)
        plain, deflated = self._plain, self._deflated
        now = self._clock() if plain.behind or deflated.behind else 0.0
        if plain.ready or plain.behind:
            self._send(plain, batch, now)
        if deflated.ready or deflated.behind:
            self._send(deflated, deflate_batch(batch), now)
        if now >= self._look_at and (plain.behind or deflated.behind):
            self.look(now or self._clock())

    def look(self, now: float) -> None:
        """Looks at the clients that lag: drops what may no longer wait for them, and closes those that make no progress."""
        self._look_at = now + LINE_CHECK_SECONDS
        for encoding in (self._plain, self._deflated):
            for client in list(encoding.behind):
                client.check_line(now)
            if encoding.behind:
                encoding.backlog.forget(min(mailbox.cursor for mailbox in encoding.behind.values()))

    def sweep(self, now: float) -> None:
        """Pings silent clients and closes dead ones; to be called every few seconds."""
        self.look(now)
        for client in self:
            client.check_liveness(now)

    def _send(self, encoding: _Encoding, batch: Batch, now: float) -> None:
        """One system call for each client that is ready, none for one that is behind."""
        ready, backlog = encoding.ready, encoding.backlog
        start = backlog.cursor
        if encoding.behind:
            backlog.append(batch, now)
        if not ready:
            return
        incomplete = send_all(ready, batch.data)
        stats = self.stats
        whole = len(ready) - len(incomplete)
        stats.deliveries += whole * len(batch.ends)
        stats.delivered_bytes += whole * len(batch.data)
        if not incomplete:
            return
        if backlog.cursor == start and any(sent >= 0 for _, sent in incomplete):
            backlog.append(batch, self._clock())
        clients = [(ready[fd], sent) for fd, sent in incomplete]  # the loops remove them from `ready`
        for client, sent in clients:
            if sent >= 0:
                client.wait_from(Mailbox(backlog, start), batch, sent)
        for client, sent in clients:
            if sent < 0:
                client.abort()  # last: its owner may remove others

    def _deliver(self, client: ClientConnection, batch: Batch) -> None:
        if client.deflate:
            batch = deflate_batch(batch)
        client.deliver(batch, self._clock())

    def _encoding(self, client: ClientConnection) -> _Encoding:
        return self._deflated if client.deflate else self._plain

    def _leave(self, encoding: _Encoding, client: ClientConnection) -> None:
        encoding.behind.pop(client, None)
        if not encoding.behind:
            self._empty(encoding)

    def _empty(self, encoding: _Encoding) -> None:
        if encoding.backlog.cursor:
            encoding.backlog = Backlog(self._limits)
