"""One message to all clients: the hot path, the same in a lobby and in a greeter.

A batch is framed once, and every client with nothing pending gets it by one direct, non-blocking `send`. There is no task,
queue or callback per client and message. The mailboxes of clients that lag are filled afterwards, so that no other client
waits for them. Which ones these are is determined before the fast loop: it may add others, which must not get the batch twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.clients.fan_out import send_all
from lobby_gateway.websocket.deflate import deflate_batch
from lobby_gateway.websocket.frames import Batch


class BusStats:
    """Plain counters of one or more buses, read when metrics are scraped.

    Attributes:
        messages: messages published.
        bytes: bytes of their frames.
        deliveries: messages that clients' sockets took to the end.
        delivered_bytes: bytes of those.
        dropped: messages dropped from mailboxes.
        high_water: most messages that ever waited for one client; the clients update it.
    """

    __slots__ = ("bytes", "delivered_bytes", "deliveries", "dropped", "high_water", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.deliveries = 0
        self.delivered_bytes = 0
        self.dropped = 0
        self.high_water = 0


class MessageBus:
    """Sends each batch to all attached clients.

    Attributes:
        stats: counters; may be shared by several buses.
    """

    def __init__(self, stats: BusStats | None = None) -> None:
        self.stats = stats or BusStats()
        # Dictionaries as ordered sets: a client joins, leaves and falls behind in constant time. Those that are ready are
        # keyed by the descriptors of their sockets, which are all that the compiled loop touches.
        self._ready: dict[int, ClientConnection] = {}
        self._ready_deflated: dict[int, ClientConnection] = {}
        self._behind: dict[ClientConnection, None] = {}

    def __len__(self) -> int:
        return len(self._ready) + len(self._ready_deflated) + len(self._behind)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter([*self._ready.values(), *self._ready_deflated.values(), *self._behind])

    @property
    def behind(self) -> int:
        """Clients whose socket is full."""
        return len(self._behind)

    def attach(self, client: ClientConnection, replay: Sequence[Batch] = ()) -> None:
        """Adds a client; it gets `replay` first, then everything published from now on."""
        if client.closing:
            return
        if client.bus is not None:
            raise ValueError("the client is attached to a bus")
        client.bus = self
        self._add(client)
        for batch in replay:
            if client.bus is not self:
                return  # lost, or closed as too slow
            self._deliver(client, batch)

    def detach(self, client: ClientConnection) -> None:
        """Removes a client whose socket is still open; its mailbox stays with it."""
        client.bus = None
        self._ready.pop(client.fd, None)
        self._ready_deflated.pop(client.fd, None)
        self._behind.pop(client, None)

    def fell_behind(self, client: ClientConnection) -> None:
        """A client's socket is full: from now on its messages go to its mailbox."""
        self._ready.pop(client.fd, None)
        self._ready_deflated.pop(client.fd, None)
        self._behind[client] = None

    def caught_up(self, client: ClientConnection) -> None:
        """A client that lagged no longer has anything pending."""
        self._behind.pop(client, None)
        self._add(client)

    def publish(self, batch: Batch) -> None:
        """Sends a batch to every attached client."""
        stats = self.stats
        stats.messages += len(batch)
        stats.bytes += len(batch.data)
        deflated = deflate_batch(batch) if self._ready_deflated or self._any_behind_deflated() else batch
        behind = list(self._behind)
        if self._ready:
            self._send(self._ready, batch)
        if self._ready_deflated:
            self._send(self._ready_deflated, deflated)
        for client in behind:
            if client.bus is self:  # the end of another client may have led to its removal
                stats.dropped += client.enqueue((deflated if client.deflate else batch).frames)

    def sweep(self, now: float) -> None:
        """Pings silent clients and closes dead ones; to be called every few seconds."""
        for client in self:
            client.check_liveness(now)

    def _send(self, ready: dict[int, ClientConnection], batch: Batch) -> None:
        """One system call for each client that is ready."""
        incomplete = send_all(ready, batch.data)
        stats = self.stats
        whole = len(ready) - len(incomplete)
        stats.deliveries += whole * len(batch)
        stats.delivered_bytes += whole * len(batch.data)
        for client, sent in [(ready[fd], sent) for fd, sent in incomplete]:  # the loop removes them from `ready`
            if sent < 0:
                client.abort()
            elif client.bus is self:  # as above
                client.enqueue_rest(batch, sent)

    def _deliver(self, client: ClientConnection, batch: Batch) -> None:
        if client.deflate:
            batch = deflate_batch(batch)
        self.stats.dropped += client.deliver(batch)
        if not client.pending:
            self.stats.deliveries += len(batch)
            self.stats.delivered_bytes += len(batch.data)

    def _add(self, client: ClientConnection) -> None:
        if client.pending:
            self._behind[client] = None
        elif client.deflate:
            self._ready_deflated[client.fd] = client
        else:
            self._ready[client.fd] = client

    def _any_behind_deflated(self) -> bool:
        return any(client.deflate for client in self._behind)
