"""Both ends of a trunk joined in memory: slow consumers, evictions, lost trunks, moved clients, claims.

The laws: a consumer receives every message once and in order, except the exact number announced by MISSED; the same holds for
every group of clients that moves from one trunk to the next; no seat is ever lost or granted twice. Whoever joins gets what is
kept before all others, and afterwards each kept message of the stream that is newer, but none twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.streams import SeatsOnly, numbered, numbers

from lobby_gateway.trunk.consumer import TrunkConsumer
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import KeptFrame, KeptMessages
from lobby_gateway.trunk.position import DIGESTS_KEPT, LiveReason, Position
from lobby_gateway.trunk.records import (
    Claim,
    Granted,
    Kept,
    Messages,
    Missed,
    Release,
    Replay,
    Resumed,
    Status,
    Welcome,
    decode,
)
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer
from lobby_gateway.websocket.frames import Batch, Opcode, frame

SEATS = 10
ELSEWHERE = 10**9  # the epoch of another lobby
Seen = list[int | None]  # numbers of messages, in order; None for each announced miss


@dataclass
class Group:
    """Clients that moved: what they have received, and how they resumed."""

    seen: Seen
    first: int | None  # number of the next message
    exact: bool | None = None


@dataclass
class Joiner:
    """A client that joined: what it got first, by name, and which kept messages of the stream then; None after a miss."""

    first: dict[str, bytes]
    streamed: list[int] | None = field(default_factory=list)


@dataclass
class Trunk:
    """A trunk, its data in flight, and what its consumer received."""

    server: TrunkServer
    consumer: TrunkConsumer
    to_server: deque[bytes] = field(default_factory=deque)
    to_consumer: deque[bytes] = field(default_factory=deque)
    first: int | None = None  # number of the message at which the stream starts
    seen: Seen = field(default_factory=list)
    groups: dict[int, Group] = field(default_factory=dict)
    joined: list[Group] = field(default_factory=list)
    kept: KeptMessages = field(default_factory=KeptMessages)
    received: int = 0  # messages of the stream, without those that were missed
    joiners: list[Joiner] = field(default_factory=list)


class TrunkMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lobby = SeatsOnly(SEATS)
        self.ring = MessageRing(max_messages=12, max_bytes=60)
        self.places: list[tuple[int, int]] = []  # epoch and offset of message n
        self.epoch = self.offset = 0
        self.trunks: list[Trunk] = []
        self.positions: list[Position] = []
        self.streamed: list[int] = []  # numbers of kept messages of the stream
        self.aside = 0
        self.origin_reconnects()

    # The lobby

    @rule()
    def origin_reconnects(self) -> None:
        self.epoch, self.offset = self.epoch + 1, 0
        self.ring.begin_epoch(self.epoch)

    @rule(count=st.sampled_from([1, 2, 3, 6, 15]))
    def origin_sends(self, count: int) -> None:
        first = len(self.places)
        self.places += [(self.epoch, self.offset + n) for n in range(count)]
        self.offset += count
        self.ring.append(numbered(range(first, first + count)))

    @rule(before=st.integers(0, 3), behind=st.integers(0, 3))
    def origin_sends_what_is_kept(self, before: int, behind: int) -> None:
        """A message of the stream among others in one read."""
        number = len(self.places) + before
        self.keep("streamed", KeptFrame(numbered([number]).data, ahead=before + 1))
        self.streamed.append(number)
        self.origin_sends(before + 1 + behind)

    @rule(tell=st.booleans())
    def origin_sends_what_is_only_kept(self, tell: bool) -> None:
        self.aside += 1
        self.keep("aside", KeptFrame(frame(Opcode.TEXT, b"aside %d" % self.aside)), tell=tell)

    def keep(self, name: str, message: KeptFrame, *, tell: bool = False) -> None:
        self.ring.kept.put({name: message}, cursor=self.ring.cursor, tell=tell)
        for trunk in self.trunks:
            trunk.server.send_kept()

    @rule()
    def drain(self) -> None:
        self.lobby.seat_count.draining = not self.lobby.seat_count.draining

    # Trunks

    @precondition(lambda self: len(self.trunks) < 3)
    @rule(replay=st.integers(0, 5), data=st.data())
    def open_trunk(self, replay: int, data: st.DataObject) -> None:
        position = data.draw(st.none() | self.some_position())
        self.trunks.append(
            Trunk(
                TrunkServer(self.lobby, self.ring, now=self.now),
                TrunkConsumer("g", now=self.now, replay=replay, position=position),
            )
        )

    @precondition(lambda self: self.trunks)
    @rule(data=st.data())
    def lose_trunk(self, data: st.DataObject) -> None:
        """Everything in flight is lost with it."""
        trunk = self.some_trunk(data)
        self.trunks.remove(trunk)
        trunk.server.close()

    @precondition(lambda self: self.trunks)
    @rule(data=st.data(), records=st.integers(1, 5))
    def lobby_receives(self, data: st.DataObject, records: int) -> None:
        self.lobby_reads(self.some_trunk(data), records)

    @precondition(lambda self: self.trunks)
    @rule(data=st.data(), records=st.integers(1, 3), max_bytes=st.sampled_from([1, 10, 1000]))
    def lobby_sends(self, data: st.DataObject, records: int, max_bytes: int) -> None:
        self.lobby_writes(self.some_trunk(data), records, max_bytes)

    @precondition(lambda self: self.trunks)
    @rule(data=st.data(), records=st.integers(1, 5))
    def greeter_receives(self, data: st.DataObject, records: int) -> None:
        self.greeter_reads(self.some_trunk(data), records)

    @rule(seconds=st.sampled_from([0.1, 0.4, 0.5, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for trunk in self.trunks:
            trunk.server.bytes_received(self.now)
            trunk.consumer.bytes_received(self.now)
            assert trunk.server.wake(self.now)
            assert trunk.consumer.wake(self.now)

    # Clients

    @precondition(lambda self: self.trunks)
    @rule(data=st.data(), count=st.integers(1, 6))
    def claim(self, data: st.DataObject, count: int) -> None:
        self.some_trunk(data).consumer.claim(count)

    @precondition(lambda self: any(trunk.consumer.held for trunk in self.trunks))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        consumer = data.draw(st.sampled_from([t.consumer for t in self.trunks if t.consumer.held]))
        consumer.release(data.draw(st.integers(0, consumer.held)))

    @precondition(lambda self: any(trunk.consumer.welcomed for trunk in self.trunks))
    @rule(data=st.data())
    def client_joins(self, data: st.DataObject) -> None:
        trunk = data.draw(st.sampled_from([each for each in self.trunks if each.consumer.welcomed]))
        trunk.joiners.append(Joiner(trunk.kept.frames(trunk.received)))

    @precondition(lambda self: self.trunks)
    @rule(data=st.data())
    def remember_position(self, data: st.DataObject) -> None:
        self.positions.append(self.some_trunk(data).consumer.position())

    @precondition(lambda self: self.trunks and self.positions)
    @rule(data=st.data())
    def resume_group(self, data: st.DataObject) -> None:
        trunk = self.some_trunk(data)
        position = data.draw(self.some_position())
        trunk.groups[trunk.consumer.resume(position)] = Group([], self.number_of(position))

    # Laws

    @invariant()
    def seats_are_conserved(self) -> None:
        assert self.lobby.seat_count.taken == sum(trunk.server.held for trunk in self.trunks) <= SEATS

    @invariant()
    def the_ledger_agrees_with_what_the_lobby_granted(self) -> None:
        """Except for what is in flight: answers to claims, and released seats."""
        for trunk in self.trunks:
            answers = [decode(data) for data in (*trunk.to_consumer, *trunk.server._answers)]
            sent = [decode(data) for data in (*trunk.to_server, *trunk.consumer._out)]
            granted = sum(record.granted for record in answers if isinstance(record, Granted))
            released = sum(record.count for record in sent if isinstance(record, Release)) + trunk.consumer._released
            assert trunk.consumer.ledger.held + granted + released == trunk.server.held
            answered = {record.id for record in answers if isinstance(record, Granted)}
            asked = {record.id for record in sent if isinstance(record, Claim)}
            assert asked | answered == set(trunk.consumer.ledger.claims)

    @invariant()
    def nothing_is_repeated_reordered_or_missed_silently(self) -> None:
        for trunk in self.trunks:
            self.check(trunk.seen, trunk.first)
            for group in (*trunk.groups.values(), *trunk.joined):
                self.check(group.seen, group.first)

    @invariant()
    def no_kept_message_is_got_twice(self) -> None:
        for joiner in (joiner for trunk in self.trunks for joiner in trunk.joiners):
            first = joiner.first.get("streamed")
            if first is not None and joiner.streamed is not None:
                (number,) = numbers(Batch.scan(first))
                assert all(number < each for each in joiner.streamed)

    def teardown(self) -> None:
        """Finally, everything in flight arrives: every consumer has every message, and every claim its answer."""
        for _ in range(3):
            self.time_passes(1.0)
            for trunk in self.trunks:
                self.lobby_reads(trunk, 1000)
                while self.lobby_writes(trunk, 1, 1000):
                    pass
                self.greeter_reads(trunk, 1000)
        for trunk in self.trunks:
            consumer = trunk.consumer
            assert consumer.position() == Position(self.epoch, self.offset, consumer.position().digests)
            assert consumer.held == trunk.server.held
            assert not consumer.ledger.claims
            assert not trunk.groups
            assert consumer.missed == sum(each is None for each in trunk.seen)
            for group in trunk.joined:
                if group.exact:
                    assert group.first is not None
                    assert len(group.seen) == len(self.places) - group.first
            assert trunk.kept.frames(trunk.received) == self.ring.kept.frames(self.ring.cursor)
            for joiner in trunk.joiners:
                if self.streamed and joiner.streamed is not None:
                    first = joiner.first.get("streamed")
                    assert first == numbered(self.streamed[-1:]).data or self.streamed[-1] in joiner.streamed
        self.no_kept_message_is_got_twice()
        self.seats_are_conserved()
        self.nothing_is_repeated_reordered_or_missed_silently()

    # Helpers

    def some_trunk(self, data: st.DataObject) -> Trunk:
        return data.draw(st.sampled_from(self.trunks))

    def some_position(self) -> st.SearchStrategy[Position]:
        """A position of a consumer, of any message, or of no message."""
        here = [Position(epoch, offset) for epoch, offset in self.places[-20:]]
        ahead = [Position(self.epoch, self.offset + n) for n in range(4)]
        elsewhere = [
            self.position_elsewhere(number) for number in range(max(0, len(self.places) - 20), len(self.places))
        ]
        nowhere = [Position(10**6, 1), Position(0, 0)]
        return st.sampled_from([*self.positions, *here, *ahead, *elsewhere, *nowhere])

    def position_elsewhere(self, number: int) -> Position:
        """Before message `number`, at another lobby with the same stream."""
        seen = range(max(0, number - DIGESTS_KEPT), number)
        return Position(ELSEWHERE, number, tuple(digest(b"%d" % each) for each in seen))

    def number_of(self, position: Position) -> int | None:
        """Number of the message after a position in this lobby's stream; at the end of an epoch, the first of the next."""
        if position.epoch == ELSEWHERE:
            return position.offset
        if position.epoch == self.epoch and position.offset > self.offset:
            return len(self.places) + position.offset - self.offset  # if the epoch lasts that long
        place = (position.epoch, position.offset)
        if place in self.places:
            return self.places.index(place)
        later = [number for number, each in enumerate(self.places) if each[0] > position.epoch]
        return later[0] if later else len(self.places) if position.epoch else None

    def lobby_writes(self, trunk: Trunk, records: int, max_bytes: int) -> bool:
        for _ in range(records):
            parts = trunk.server.take(self.now, max_bytes)
            if parts is None:
                return False
            trunk.to_consumer.append(b"".join(parts))
        return True

    def lobby_reads(self, trunk: Trunk, records: int) -> None:
        trunk.to_server += trunk.consumer.data_to_send()
        for _ in range(min(records, len(trunk.to_server))):
            trunk.server.receive(trunk.to_server.popleft(), self.now)

    def greeter_reads(self, trunk: Trunk, records: int) -> None:
        for _ in range(min(records, len(trunk.to_consumer))):
            data = trunk.to_consumer.popleft()
            record = trunk.consumer.receive(data, self.now)
            assert record is not None
            assert type(record) is type(decode(data))
            if isinstance(record, Welcome):
                trunk.first = self.number_of(Position(record.epoch, record.offset))
            elif isinstance(record, Messages):
                self.publish(trunk, list(numbers(record.batch)))
            elif isinstance(record, Replay):
                trunk.groups[record.id].seen += numbers(record.batch)
            elif isinstance(record, Missed):
                if record.id:
                    trunk.groups[record.id].seen += [None] * record.count
                else:
                    self.publish(trunk, [None] * record.count)
            elif isinstance(record, Resumed):
                group = trunk.groups.pop(record.id)
                group.exact = record.exact
                if not record.exact:
                    # A position at a gap lacks nothing of what came after that, which is replayed.
                    assert not group.seen or record.reason == LiveReason.GONE
                    assert record.reason
                    place = self.number_of(Position(record.epoch, record.offset))
                    group.first = None if place is None else place - len(group.seen)
                trunk.joined.append(group)
            elif isinstance(record, Kept):
                trunk.kept.put({record.name: KeptFrame(record.frame, record.ahead)}, cursor=trunk.received)
            else:
                assert isinstance(record, Granted | Status)

    def publish(self, trunk: Trunk, seen: Seen) -> None:
        trunk.seen += seen
        if None in seen:
            trunk.kept.settle(None)
        else:
            trunk.received += len(seen)
        for joiner in trunk.joiners:
            if None in seen:
                joiner.streamed = None
            elif joiner.streamed is not None:
                joiner.streamed += [each for each in seen if each in self.streamed]
        for group in trunk.joined:
            group.seen += seen

    @staticmethod
    def check(seen: Seen, first: int | None) -> None:
        if seen:
            assert first is not None
            assert all(number is None or number == first + index for index, number in enumerate(seen))


TestTrunk = TrunkMachine.TestCase
TestTrunk.settings = settings(max_examples=3 * settings().max_examples, stateful_step_count=60)
