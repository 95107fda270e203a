"""The sources of a lobby's stream, under any order of losses, delays and answers.

The laws: where the stream goes on in the same epoch, the next message is the one after the last (unless the identities of the
messages fit in several places of the origin's stream); what is known to be missing is announced; the stream never stops while
a source has messages; a peer that named the place and has brought all that was missed is never a gap; an own session in which
the place is not found is not kept for ever beside a peer's stream, which goes on; and lobbies that relay each other's streams
never form a loop.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.content_ring import content_batch, content_ring, content_window

from lobby_gateway.lobby.stream_source import (
    BeginEpoch,
    Close,
    DropRelays,
    Forget,
    Publish,
    Rank,
    Resume,
    Skip,
    Source,
    StreamSources,
    Suspend,
)
from lobby_gateway.settings import RelaySettings
from lobby_gateway.trunk.ring import MessageRing

SETTINGS = RelaySettings(
    candidate_messages=40,
    own_messages=30,
    own_slow_seconds=60.0,
    renew_slow_seconds=60.0,
    min_pause_seconds=40.0,
    max_pause_seconds=80.0,
)


@dataclass(eq=False)
class Feed:
    """A source, and the messages that are on their way from it."""

    source: Source
    next: int  # index in the origin's stream
    named: int | None = None  # what had been published when its lobby named the place, unless its stream broke since
    dry_at: int = 0  # what was next when its lobby had no stream any more
    start: int = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.next


class OneLobby(RuleBasedStateMachine):
    """One lobby; the origin's stream is the same for all of its sources, which lag differently."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.origin: list[str] = []  # the identities of the messages
        self.ring = content_ring(400)
        self.sources = StreamSources(
            "a-1", self.ring, collect=lambda: content_ring(SETTINGS.candidate_messages), settings=SETTINGS
        )
        self.sources.set_needed(True, self.now)
        self.epochs = 0
        self.feeds: list[Feed] = []
        self.published: list[int | None] = []  # indices; None: a new epoch, or an announced gap
        self.peers = 0
        self.own = Source(Rank.OWN)  # the same for each session of a connection
        self.suspended = False  # no session of its own may be opened
        self.beside_since: float | None = None  # when a session of its own began to be open beside a peer's stream
        self.lives = (
            0  # sources that know no place for this lobby: peers that said so, sessions that were too late for it
        )
        # Cursor and number of `published` when a peer was asked, and the index of the next message.
        self.asked: list[tuple[int, int, int]] = []
        self.breaks = 0  # live changes to a source that is not a renewed session

    @initialize(follows=st.sampled_from(["", "different", "alike"]), seconds=st.sampled_from([0.0, 29.0, 31.0]))
    def begin(self, follows: str, seconds: float) -> None:
        """Some runs begin with a peer's stream, or with a session beside one that repeats itself: few others get there."""
        if follows:
            self.own_session_opens()
            self.origin_sends(20)
            (feed,) = self.feeds
            self.deliver(feed, 20)
            self.lose(feed)
            self.peer_is_asked()
            self.peer_answers_exactly(0)
        if follows == "alike":
            self.own_session_opens()
            self.all_sources_bring_what_the_origin_sends("a", seconds)

    @rule(count=st.integers(1, 20))
    def origin_sends(self, count: int) -> None:
        """Messages that are all different."""
        self.origin += [f"m{len(self.origin) + n}" for n in range(count)]

    @rule(content=st.lists(st.sampled_from("ab"), min_size=1, max_size=6), times=st.integers(1, 8))
    def origin_repeats_itself(self, content: list[str], times: int) -> None:
        self.origin += content * times

    def own_sessions(self) -> list[Feed]:
        return [feed for feed in self.feeds if feed.source.rank is not Rank.PEER]

    @precondition(lambda self: not self.own_sessions() and not self.suspended)
    @rule()
    def own_session_opens(self) -> None:
        self.open(Feed(self.own, len(self.origin)))

    @precondition(
        lambda self: len(self.own_sessions()) == 1 and self.sources.active in map(_source, self.own_sessions())
    )
    @rule()
    def renewed_session_opens(self) -> None:
        self.open(Feed(Source(Rank.RENEWED), len(self.origin)))

    @precondition(lambda self: self.sources.seeking)
    @rule()
    def peer_is_asked(self) -> None:
        last = self.published[-1] if self.published else None
        if last is not None and content_window(self.origin, last, self.ring.position().digests):
            self.asked.append((self.ring.cursor, len(self.published), last + 1))

    @precondition(lambda self: self.asked)
    @rule(depth=st.integers(0, 1))
    def peer_answers_exactly(self, depth: int) -> None:
        """Perhaps so late that the stream has gone on from another source meanwhile."""
        cursor, published, after = self.asked.pop()
        self.peers += 1
        self.open(Feed(Source(Rank.PEER, f"p-{self.peers}"), after, published), via=("q",) * depth, exact_at=cursor)

    @precondition(lambda self: self.follows_a_peer)
    @rule(count=st.integers(0, 12), more=st.integers(0, 2), ends=st.booleans())
    def the_peer_drains_and_another_one_names_the_place(self, count: int, more: int, *, ends: bool) -> None:
        """Few runs get there by themselves."""
        (draining,) = (feed for feed in self.feeds if feed.source is self.sources.active)
        self.sources.moving(draining.source)
        self.perform()
        self.peer_is_asked()
        self.origin_sends(count + 1)
        self.deliver(draining, count)
        if self.asked and self.sources.seeking:
            self.peer_answers_exactly(0)
            self.deliver(self.feeds[-1], count + more)
        self.dry_peers_tell()
        if ends and draining in self.feeds:
            self.lose(draining)

    @precondition(lambda self: self.sources.seeking)
    @rule(back=st.integers(0, 3))
    def peer_answers_live(self, back: int) -> None:
        self.peers += 1
        self.lives += 1
        self.open(Feed(Source(Rank.PEER, f"p-{self.peers}"), max(0, len(self.origin) - back)), via=())

    @precondition(lambda self: len(self.feeds) > 1)
    @rule(content=st.sampled_from(["a", "ab", ""]), seconds=st.sampled_from([0.05, 31.0, 61.0]))
    def all_sources_bring_what_the_origin_sends(self, content: str, seconds: float) -> None:
        if content:
            self.origin_repeats_itself([*content], 20)
        else:
            self.origin_sends(10)
        for feed in list(self.feeds):
            self.deliver(feed, len(self.origin))
        self.dry_peers_tell()
        self.time_passes(seconds)

    @precondition(lambda self: self.feeds)
    @rule(data=st.data(), count=st.integers(1, 12))
    def delivers(self, data: st.DataObject, count: int) -> None:
        self.deliver(data.draw(st.sampled_from(self.feeds)), count)
        self.dry_peers_tell()

    @precondition(lambda self: self.feeds)
    @rule(data=st.data())
    def is_lost(self, data: st.DataObject) -> None:
        self.lose(data.draw(st.sampled_from(self.feeds)))

    @precondition(lambda self: any(feed.source.rank is Rank.PEER for feed in self.feeds))
    @rule(data=st.data(), event=st.sampled_from(["dry", "flows", "moving", "missed", "broken"]))
    def peer_tells(self, data: st.DataObject, event: str) -> None:
        feed = data.draw(st.sampled_from([feed for feed in self.feeds if feed.source.rank is Rank.PEER]))
        match event:
            case "dry":
                feed.dry_at = feed.next
                self.sources.told(feed.source, None, self.now)
            case "flows":
                self.sources.told(feed.source, (), self.now)
            case "moving":
                self.sources.moving(feed.source)
            case "missed" if feed.next < len(self.origin):
                feed.next += 1
                feed.named = None
                self.sources.missed(feed.source, 1)
            case "broken" if feed.next < len(self.origin):
                feed.next += 1
                feed.named = None
                self.sources.broken(feed.source)
        self.perform()

    @rule(seconds=st.sampled_from([0.05, 0.4, 1.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        until, before = self.now + seconds, self.sources.changes["renewal", "live"]
        while (at := self.sources.wake_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.sources.wake(self.now)
            self.perform()
            if at == self.sources.wake_at():
                break
        self.now = until
        self.lives += self.sources.changes["renewal", "live"] - before

    # The owner

    def open(self, feed: Feed, *, via: tuple[str, ...] | None = (), exact_at: int | None = None) -> None:
        self.feeds.append(feed)
        self.sources.opened(feed.source, self.now, via=via, exact_at=exact_at)
        self.perform()

    def lose(self, feed: Feed) -> None:
        self.feeds.remove(feed)
        self.sources.lost(feed.source, self.now)
        self.perform()

    def deliver(self, feed: Feed, count: int) -> None:
        end = min(feed.next + count, len(self.origin))
        if feed.next < end:
            batch = content_batch(self.origin, range(feed.next, end))
            feed.next = end
            self.sources.received(feed.source, batch, self.now)
            self.perform()

    def dry_peers_tell(self) -> None:
        """A peer that has a stream again says so a moment after its first messages, or before them."""
        for feed in list(self.feeds):
            if feed.source.via is None and feed.next > feed.dry_at:
                self.sources.told(feed.source, (), self.now)
                self.perform()

    def has_all(self, feed: Feed) -> bool:
        """Whether a peer that named the place has brought all that was published since, in a stream that did not break."""
        since = self.published[feed.named :] if feed.named is not None else [None]
        last = self.published[-1] if self.published else None
        kept = feed.next - feed.start <= SETTINGS.candidate_messages - 16
        return feed.source.usable and None not in since and last is not None and feed.next > last and kept

    def perform(self) -> None:
        changes = self.sources.changes
        breaks = changes["peer", "live"] + changes["origin", "live"]
        if breaks > self.breaks and len(set(self.origin)) == len(self.origin):
            assert not any(map(self.has_all, self.feeds)), "a gap, although a peer has all that was missed"
        self.breaks = breaks
        for command in self.sources.commands():
            match command:
                case Publish(batch):
                    self.ring.append(batch)
                    self.published += [json.loads(bytes(batch.payload(at)))["n"] for at in range(len(batch))]
                case BeginEpoch():
                    self.epochs += 1
                    self.ring.begin_epoch(1_000_000 + self.epochs)
                    self.published.append(None)
                case Skip(count):
                    self.ring.begin_epoch(self.ring.epoch, self.ring.offset + count)
                    self.published.append(None)
                case Close(source):
                    self.feeds = [feed for feed in self.feeds if feed.source is not source]
                case Suspend(seconds):
                    assert 0 < seconds <= SETTINGS.max_pause_seconds
                    assert self.follows_a_peer
                    own = self.own_sessions()
                    assert own, "nothing to suspend"
                    self.feeds = [feed for feed in self.feeds if feed not in own]
                    self.suspended = True
                case Resume():
                    assert self.suspended
                    self.suspended = False
                case Forget():
                    self.ring.forget()
        if self.sources.active is not None and self.sources.active.rank is Rank.OWN:
            self.own = self.sources.active  # perhaps the renewed one

    # The laws

    @property
    def follows_a_peer(self) -> bool:
        active = self.sources.active
        return active is not None and active.rank is Rank.PEER and active.usable and not active.moving

    @invariant()
    def an_own_session_is_not_kept_for_ever_beside_the_stream_of_a_peer(self) -> None:
        if not self.follows_a_peer or not self.own_sessions():
            self.beside_since = None
            return
        self.beside_since = self.now if self.beside_since is None else self.beside_since
        assert self.now - self.beside_since <= SETTINGS.own_slow_seconds + 0.1, "two connections for nothing"

    @invariant()
    def a_renewal_does_not_take_for_ever(self) -> None:
        active = self.sources.active
        if active is not None and active.rank is Rank.OWN:
            for feed in self.feeds:
                open_for = self.now - feed.source.since
                assert feed.source.rank is not Rank.RENEWED or open_for <= SETTINGS.renew_slow_seconds + 0.1

    @invariant()
    def only_a_lobby_that_follows_a_peer_has_its_own_session_suspended(self) -> None:
        assert not self.suspended or self.follows_a_peer

    @invariant()
    def the_next_message_is_the_one_after_the_last(self) -> None:
        for at in range(1, len(self.published)):
            last, following = self.published[at - 1], self.published[at]
            if last is None or following is None or following == last + 1:
                continue
            start = max((n for n in range(at) if self.published[n] is None), default=-1) + 1
            window = self.origin_window(self.published[max(start, at - 16) : at])
            places = sum(self.origin[n : n + len(window)] == window for n in range(len(self.origin) - len(window) + 1))
            assert places > 1, f"{last} is followed by {following}, although {window} is there once"

    def origin_window(self, indices: list[int | None]) -> list[str]:
        return [self.origin[index] for index in indices if index is not None]

    @invariant()
    def a_peer_that_answers_late_repeats_nothing(self) -> None:
        """Of messages that are all different none is published twice, unless a source that knows no place here is behind."""
        if not self.lives and len(set(self.origin)) == len(self.origin):
            known = [index for index in self.published if index is not None]
            assert len(known) == len(set(known))

    @invariant()
    def candidates_are_kept_apart(self) -> None:
        known = {feed.source for feed in self.feeds}
        assert set(self.sources.candidates) <= known
        assert self.sources.active is None or self.sources.active in known
        assert self.sources.active not in self.sources.candidates
        assert sum(feed.source.rank is Rank.OWN for feed in self.feeds) <= 1

    def teardown(self) -> None:
        """Whatever happened: a source that sends gets through, and messages that are all different end on its own session."""
        for _ in range(12):
            if not self.own_sessions() and not self.suspended:
                self.own_session_opens()
            self.origin_sends(20)
            for feed in list(self.feeds):
                self.deliver(feed, len(self.origin))
            self.time_passes(31.0)
        assert self.sources.active is not None
        assert self.sources.active.rank is Rank.OWN
        assert self.published[-1] == len(self.origin) - 1
        assert self.sources.candidates == ()


def _source(feed: Feed) -> Source:
    return feed.source


TestOneLobby = OneLobby.TestCase


# Several lobbies that relay each other's streams


@dataclass(eq=False)
class Edge:
    """A trunk from a relaying lobby to the one that serves it, with what is on its way."""

    consumer: Node
    server: Node
    source: Source
    told: int = 9  # the smallest depth that the server told
    open: bool = False
    answer: deque[tuple[str, tuple[str, ...] | None]] = field(default_factory=deque)
    seen_closed: bool = False


@dataclass(eq=False)
class Node:
    name: str
    sources: StreamSources
    ring: MessageRing
    own: Source | None = None
    served: list[Edge] = field(default_factory=list)


class ManyLobbies(RuleBasedStateMachine):
    """Nobody ever takes its stream from itself, in any interleaving of what is said, heard and lost."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epoch = 0
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        for number in range(3):
            ring = content_ring(100)
            node = Node(f"n-{number}", StreamSources(f"n-{number}", ring), ring)
            node.sources.set_needed(True, 0.0)
            self.nodes.append(node)

    @rule(data=st.data())
    def own_session_opens(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.nodes))
        if node.own is None:
            node.own = Source(Rank.OWN)
            node.sources.opened(node.own, self.now)
            self.perform(node)

    @rule(data=st.data())
    def own_session_ends(self, data: st.DataObject) -> None:
        self.end_own_session(data.draw(st.sampled_from(self.nodes)))

    def end_own_session(self, node: Node) -> None:
        if node.own is not None:
            source, node.own = node.own, None
            node.sources.lost(source, self.now)
            self.perform(node)

    @rule(data=st.data())
    def asks(self, data: st.DataObject) -> None:
        consumer, server = data.draw(st.sampled_from(self.nodes)), data.draw(st.sampled_from(self.nodes))
        if consumer is not server and consumer.sources.seeking:
            self.edges.append(Edge(consumer, server, Source(Rank.PEER, server.name)))

    def takeable(self) -> list[tuple[Node, Node]]:
        """Lobbies that ask for a stream, each with one that would serve it."""
        asking = [node for node in self.nodes if node.sources.seeking]
        return [(a, b) for a in asking for b in self.nodes if a is not b and not b.sources.refusal(a.name)]

    @precondition(lambda self: self.takeable())
    @rule(data=st.data())
    def takes_the_stream_at_once(self, data: st.DataObject) -> None:
        """Asks, and hears the answer: without this, few runs get as far as a lobby whose source changes while it serves."""
        self.take(*data.draw(st.sampled_from(self.takeable())))

    @precondition(lambda self: any(node.own is not None and node.served for node in self.nodes))
    @rule(data=st.data())
    def loses_its_session_and_takes_the_stream_of_another(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.own is not None and node.served]))
        self.end_own_session(node)
        if servers := [server for consumer, server in self.takeable() if consumer is node]:
            self.take(node, data.draw(st.sampled_from(servers)))

    def take(self, consumer: Node, server: Node) -> None:
        edge = Edge(consumer, server, Source(Rank.PEER, server.name))
        self.edges.append(edge)
        self.answer(edge)
        self.hear(edge)

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def is_answered(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.edges)))

    def answer(self, edge: Edge) -> None:
        if edge.told == 9 and not edge.open and not edge.answer:
            if edge.server.sources.refusal(edge.consumer.name):
                self.edges.remove(edge)
                return
            edge.open = True
            edge.server.served.append(edge)
            self.tell(edge, "welcome")

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def hears(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(self.edges)))

    def hear(self, edge: Edge) -> None:
        if not edge.answer:
            return
        kind, via = edge.answer.popleft()
        node = edge.consumer
        if kind == "closed":
            self.edges.remove(edge)
            node.sources.lost(edge.source, self.now)
        elif kind == "welcome":
            node.sources.opened(edge.source, self.now, via=via)
        else:
            node.sources.told(edge.source, via, self.now)
        self.perform(node)

    @rule(data=st.data())
    def says_its_status(self, data: st.DataObject) -> None:
        for edge in data.draw(st.sampled_from(self.nodes)).served:
            self.tell(edge, "status")

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def trunk_is_lost(self, data: st.DataObject) -> None:
        edge = data.draw(st.sampled_from(self.edges))
        if edge.open:
            self.close_at_server(edge)

    @rule(seconds=st.sampled_from([0.1, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes:
            node.sources.wake(self.now)
            self.perform(node)

    def tell(self, edge: Edge, kind: str) -> None:
        via = edge.server.sources.via
        if via is not None:
            edge.told = min(edge.told, len(via))
        edge.answer.append((kind, via))

    def close_at_server(self, edge: Edge) -> None:
        edge.open = False
        edge.server.served.remove(edge)
        edge.answer.append(("closed", None))

    def perform(self, node: Node) -> None:
        for command in node.sources.commands():
            match command:
                case BeginEpoch():
                    self.epoch += 1
                    node.ring.begin_epoch(self.epoch)
                case DropRelays(depth):
                    for edge in [edge for edge in node.served if edge.told < depth]:
                        self.close_at_server(edge)
                case Close(source):
                    if source is node.own:
                        node.own = None
                    for edge in [edge for edge in self.edges if edge.source is source]:
                        self.edges.remove(edge)
                        if edge.open:
                            edge.server.served.remove(edge)

    @invariant()
    def there_is_no_loop(self) -> None:
        for node in self.nodes:
            at = self.source_of(node)
            for _ in self.nodes:
                assert at is not node, f"{node.name} takes its stream from itself"
                at = self.source_of(at) if at is not None else None

    @invariant()
    def nobody_is_served_from_deeper_than_it_was_told(self) -> None:
        """So a lobby is always deeper than the one that it takes its stream from, whatever is still on its way."""
        for node in self.nodes:
            for edge in node.served:
                assert len(node.sources.via or ()) <= edge.told, f"{node.name} told {edge.consumer.name} {edge.told}"

    @invariant()
    def no_stream_comes_over_more_than_two_lobbies(self) -> None:
        for node in self.nodes:
            assert len(node.sources.via or ()) <= 2

    def source_of(self, node: Node) -> Node | None:
        active = node.sources.active
        for edge in self.edges:
            if edge.source is active and edge.open:
                return edge.server
        return None


TestManyLobbies = ManyLobbies.TestCase
