"""Clients of one bus whose sockets take as much as they like, as a state machine.

The laws: what a client is sent is a subsequence of its stream, in order, each message whole; what is missing was dropped and
counted; no more waits than the limits allow; and whoever reads gets the newest message.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lobby_gateway.clients.backlog import Backlog, QueueLimits
from lobby_gateway.clients.mailbox import Mailbox
from lobby_gateway.websocket.frames import Batch, Opcode, frame

COUNT = 3
SIZES = st.lists(st.integers(8, 60), min_size=1, max_size=6)


class Client:
    """What one client was sent, and what it should have been."""

    def __init__(self) -> None:
        self.mailbox: Mailbox | None = None
        self.stream = bytearray()
        self.expected: list[int] = []
        self.rest = b""
        self.dropped = 0
        self.bus = 0

    def sent(self) -> list[int]:
        whole = len(self.stream) + len(self.rest)
        batch = Batch.scan(bytes(self.stream) + self.rest)
        assert len(batch.data) == whole, "a frame is torn"
        return [int(bytes(batch.payload(index))[:8]) for index in range(len(batch))]


class Mailboxes(RuleBasedStateMachine):
    """Two buses, as before and after a move between lobbies, and clients that fall behind, catch up and move."""

    @initialize(
        messages=st.integers(1, 5),
        seconds=st.integers(0, 3),
        bytes_=st.integers(40, 600),
        clients=st.integers(1, COUNT),
    )
    def begin(self, messages: int, seconds: int, bytes_: int, clients: int) -> None:
        self.limits = QueueLimits(messages=messages, seconds=seconds, bytes=bytes_)
        self.backlogs = [Backlog(self.limits), Backlog(self.limits)]
        self.clients = [Client() for _ in range(clients)]
        self.now = 0.0
        self.number = 0
        self.largest_batch = 0

    @rule(sizes=SIZES, bus=st.integers(0, 1), data=st.data())
    def publish(self, sizes: list[int], bus: int, data: st.DataObject) -> None:
        numbers = range(self.number, self.number + len(sizes))
        self.number += len(sizes)
        batch = Batch.of(
            [frame(Opcode.BINARY, b"%08d".ljust(size, b".") % n) for n, size in zip(numbers, sizes, strict=True)]
        )
        self.largest_batch = max(self.largest_batch, len(batch.data))
        backlog = self.backlogs[bus]
        start = backlog.cursor
        backlog.append(batch, self.now)
        for client in self.clients:
            if client.bus != bus:
                continue
            client.expected += numbers
            if client.mailbox is not None:
                continue
            took = data.draw(st.integers(0, len(batch.data)), label="bytes taken")
            client.stream += batch.data[:took]
            if took < len(batch.data):
                client.mailbox = Mailbox(backlog, start)
                if took:
                    _, unsent = client.mailbox.took(took)
                    client.rest = batch.data[took : took + unsent]

    @rule(which=st.integers(0, COUNT - 1), room=st.integers(-10, 300), data=st.data())
    def room(self, which: int, room: int, data: st.DataObject) -> None:
        """A socket has room: the rest of a begun frame goes first, then what waits."""
        client = self.clients[which % len(self.clients)]
        mailbox = client.mailbox
        if mailbox is None:
            return
        taken = data.draw(st.integers(0, len(client.rest)), label="bytes of the rest")
        client.stream += client.rest[:taken]
        client.rest = client.rest[taken:]
        if client.rest:
            return
        self.drop(client, mailbox)
        if len(mailbox):
            before = len(mailbox)
            chunk = bytes(mailbox.next(room))
            whole = Batch.scan(chunk)
            assert len(chunk) <= room or len(whole) == 1
            taken = data.draw(st.integers(1, len(chunk)), label="bytes taken")
            client.stream += chunk[:taken]
            count, unsent = mailbox.took(taken)
            assert len(mailbox) == before - count
            client.rest = chunk[taken : taken + unsent]
        if not len(mailbox) and not client.rest:
            client.mailbox = None

    @rule(seconds=st.floats(0.1, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, COUNT - 1), not_reading=st.booleans())
    def look(self, which: int, not_reading: bool) -> None:
        client = self.clients[which % len(self.clients)]
        if client.mailbox is not None:
            client.mailbox.not_reading = not_reading
            self.drop(client, client.mailbox)

    @rule(which=st.integers(0, COUNT - 1))
    def move(self, which: int) -> None:
        client = self.clients[which % len(self.clients)]
        client.bus = 1 - client.bus
        if client.mailbox is not None:
            client.mailbox.detach()
            client.mailbox.attach(self.backlogs[client.bus])

    @rule(bus=st.integers(0, 1))
    def forget(self, bus: int) -> None:
        """As a bus does now and then."""
        cursors = [each.mailbox.cursor for each in self.clients if each.mailbox is not None and each.bus == bus]
        self.backlogs[bus].forget(min(cursors, default=self.backlogs[bus].cursor))

    @precondition(lambda self: any(client.mailbox is not None for client in self.clients))
    @rule()
    def all_read(self) -> None:
        """Whoever reads gets everything that waits, and the newest message is always among it."""
        for client in self.clients:
            mailbox = client.mailbox
            if mailbox is None:
                continue
            client.stream += client.rest
            client.rest = b""
            self.drop(client, mailbox)
            while len(mailbox):
                chunk = bytes(mailbox.next(1 << 20))
                mailbox.took(len(chunk))
                client.stream += chunk
            client.mailbox = None
            if client.expected:
                assert client.sent()[-1] == client.expected[-1]

    @invariant()
    def order_is_kept(self) -> None:
        for client in getattr(self, "clients", []):
            sent = client.sent()
            assert sent == sorted(set(sent))
            assert set(sent) <= set(client.expected)

    @invariant()
    def no_more_bytes_wait_than_the_limit(self) -> None:
        for backlog in getattr(self, "backlogs", []):
            assert backlog.bytes <= max(self.limits.bytes, self.largest_batch)

    def drop(self, client: Client, mailbox: Mailbox) -> None:
        """Drops what may no longer wait; all that is missing is counted then, and what waits is within the limits."""
        dropped = mailbox.drop(self.now)
        client.dropped += int(dropped)
        assert len(client.sent()) + len(mailbox) + client.dropped == len(client.expected)
        if mailbox.not_reading:
            assert len(mailbox) <= self.limits.messages
        if len(mailbox) > self.limits.messages:
            assert mailbox.age(self.now) <= self.limits.seconds
        if dropped.old or dropped.slow:
            assert len(mailbox) >= self.limits.messages or dropped.memory


TestMailboxes = Mailboxes.TestCase
