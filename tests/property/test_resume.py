"""The laws of resuming by identities, on streams that invite mistakes: periodic, repetitive, reordered, short.

They hold for any `origin.identity`. Where it is a part of a message, each connection has something else in the rest.

A lobby has a part of a stream, and a consumer has seen the stream up to some message on another connection. Whatever the
stream repeats, the answer is never exact unless the next message is the one after the last seen, and it is exact whenever the
identities leave no other place. One thing no lobby can see: that all 16 messages, which it has at one place, are the last seen
at another, of which it has nothing but a message that is there at every turn.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.streams import batches_of

from lobby_gateway.settings import IdentitySettings
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.trunk.identity_index import COMMONPLACE
from lobby_gateway.trunk.position import DIGESTS_KEPT, LiveReason, Position, digests_of
from lobby_gateway.trunk.ring import Exact, Live, MessageRing, Wait
from lobby_gateway.websocket.frames import Batch, Opcode, frame

Stream = list[bytes]
ELSEWHERE = 77  # an epoch that the ring does not have

for_each_identity = pytest.mark.parametrize("identity", ["Content", "/m", "msg.m", '[msg.c == "", msg.m]'])


def distinct(count: int) -> Stream:
    return [b"%d" % number for number in range(count)]


def with_heartbeats(count: int, every: int) -> Stream:
    return [b"" if number % every == 0 else b"%d" % number for number in range(count)]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Streams of up to 150 messages that repeat themselves in all sorts of ways."""
    count = draw(st.integers(1, 150))
    few = st.sampled_from([b"", b"a", b"b"])
    period = draw(st.integers(1, 60))
    blocks = [draw(st.lists(few, min_size=1, max_size=20)) for _ in range(3)]
    return draw(
        st.sampled_from(
            [
                distinct(count),
                [b"same"] * count,
                list(islice(cycle([b"a", b"b"]), count)),
                list(islice(cycle(distinct(period)), count)),
                with_heartbeats(count, draw(st.integers(2, 20))),
                with_heartbeats(count, 1),
                draw(st.lists(few, min_size=count, max_size=count)),
                [each for block in draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=8)) for each in block],
                distinct(count) + distinct(count),
            ]
        )
    )


def received(payload: bytes, identity: str, connection: str) -> bytes:
    """A message of a stream as a connection gets it."""
    if identity == "Content":
        return payload
    return json.dumps({"c": connection, "m": payload.decode()}).encode()


def position(seen: Sequence[bytes], identity: str) -> Position:
    newest_first = [received(each, identity, "other") for each in reversed(seen[-DIGESTS_KEPT:])]
    return Position(ELSEWHERE, len(seen), digests_of(newest_first, identity_of(identity)))


def ring_with(stream: Stream, max_messages: int, sizes: Sequence[int], identity: str) -> MessageRing:
    ring = MessageRing(max_messages, identity=identity_of(identity))
    ring.begin_epoch(1)
    for batch in batches_of([received(each, identity, "own") for each in stream], sizes):
        ring.append(batch)
    return ring


@for_each_identity
@given(stream=streams(), data=st.data())
def test_exact_only_if_the_next_message_is_the_one_after_the_last_seen(
    identity: str, stream: Stream, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(stream)), "where the lobby's connection begins")
    end = data.draw(st.integers(start, len(stream)), "how far it is")
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    ring = ring_with(stream[start:end], data.draw(st.integers(1, 60)), sizes, identity)
    oldest = start + ring.oldest
    # The last message that the consumer saw is one that the ring has, or the ring will have it soon.
    first, last = min(oldest + 1, len(stream)), min(end + DIGESTS_KEPT - 1, len(stream))
    seen = data.draw(st.integers(min(first, last), last), "how many messages the consumer has seen")
    outcome = ring.resume(position(stream[:seen], identity))
    if isinstance(outcome, Exact):
        kept, tail = stream[oldest:end], stream[max(0, seen - DIGESTS_KEPT) : seen]
        assert start + outcome.cursor == seen or seems_elsewhere(
            kept, tail, outcome.cursor - ring.oldest, seen - oldest
        )
    elif isinstance(outcome, Live):
        assert outcome.cursor == ring.cursor


@for_each_identity
@given(stream=streams(), data=st.data())
def test_exact_whenever_the_identities_leave_no_other_place(identity: str, stream: Stream, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(stream)))
    ring = ring_with(stream[start:], data.draw(st.integers(1, 60)), [1, 3], identity)
    seen = data.draw(st.integers(1, len(stream)))
    outcome = ring.resume(position(stream[:seen], identity))
    places = every_place(stream[start + ring.oldest :], stream[max(0, seen - DIGESTS_KEPT) : seen])
    found = [ring.oldest + place for place, whole in places if whole]
    assert isinstance(outcome, Exact) == (len(found) == len(places) == 1)
    if isinstance(outcome, Exact):
        assert [outcome.cursor] == found
    elif len(found) > 1:
        assert outcome == Live(ring.cursor, LiveReason.AMBIGUOUS)
    elif not places:
        assert outcome == Wait(LiveReason.UNKNOWN)


def every_place(here: Stream, tail: Stream) -> list[tuple[int, bool]]:
    """The places where a tail fits, as a person would look for them, and whether all of it could be compared there.

    Places at an edge do not count if what could be compared is commonplace, and something in the tail is not.
    """
    counts = Counter(here)
    special = any(counts[each] < COMMONPLACE for each in tail)
    places = []
    for place in range(1, len(here) + len(tail)):
        begin = place - len(tail)
        known = [(here[at], tail[at - begin]) for at in range(max(0, begin), min(place, len(here)))]
        if not known or any(a != b for a, b in known):
            continue
        whole = len(known) == len(tail)
        if whole or not special or occurrences(here, [b for _, b in known]) < COMMONPLACE:
            places.append((place, whole))
    return places


def seems_elsewhere(here: Stream, tail: Stream, found: int, place: int) -> bool:
    """Whether all of a tail fits where it was found, and nothing but what is commonplace fits at its true place."""
    begin = place - len(tail)
    known = [tail[at - begin] for at in range(max(0, begin), min(place, len(here)))]
    return here[: max(0, found)][-len(tail) :] == tail and occurrences(here, known) >= COMMONPLACE


def occurrences(here: Stream, part: Stream) -> int:
    """How often a part occurs without overlapping itself."""
    count = at = 0
    while at + len(part) <= len(here):
        found = here[at : at + len(part)] == part
        count += found
        at += len(part) if found else 1
    return count


@for_each_identity
@given(data=st.data(), count=st.integers(20, 120))
def test_a_stream_of_distinct_messages_is_always_continued_exactly(
    identity: str, data: st.DataObject, count: int
) -> None:
    stream = distinct(count)
    start = data.draw(st.integers(0, count - 17))
    seen = data.draw(st.integers(start + 16, count))
    assert ring_with(stream[start:], 1000, [1, 5], identity).resume(position(stream[:seen], identity)) == Exact(
        seen - start
    )


@for_each_identity
@given(data=st.data(), every=st.integers(2, 8))
def test_heartbeats_between_distinct_messages_do_not_make_a_place_ambiguous(
    identity: str, data: st.DataObject, every: int
) -> None:
    stream = with_heartbeats(400, every)
    start = data.draw(st.integers(0, 60))
    seen = data.draw(st.integers(start + 16, 400))
    assert ring_with(stream[start:], 1000, [1, 5], identity).resume(position(stream[:seen], identity)) == Exact(
        seen - start
    )


@for_each_identity
@given(data=st.data(), count=st.integers(40, 80))
def test_a_stream_in_another_order_is_continued_only_where_nothing_is_lost_or_repeated(
    identity: str, data: st.DataObject, count: int
) -> None:
    """The lobby's connection got messages up to 15 places earlier or later than the consumer's."""
    stream = distinct(count)
    keys = [number + data.draw(st.sampled_from([0, 0, 0, 0, 1.5, 3.5, 14.5])) for number in range(count)]
    other = [each for _, each in sorted(zip(keys, stream, strict=True))]
    seen = data.draw(st.integers(16, count))
    outcome = ring_with(other, 1000, [1, 2], identity).resume(position(stream[:seen], identity))
    if isinstance(outcome, Exact):
        assert sorted(stream[:seen] + other[outcome.cursor :]) == sorted(stream)


@for_each_identity
@example(stream=[b"", *[b"a"] * 16, *[b""] * 15], behind=15)
@example(stream=[*[b""] * 63, b"a", *[b""] * 15, b"a"], behind=12)
@given(stream=streams(), behind=st.integers(1, DIGESTS_KEPT - 1))
def test_a_lobby_that_is_behind_is_waited_for(identity: str, stream: Stream, behind: int) -> None:
    """Until the consumer's last message arrives; what can't be told then is never exact at another place.

    It can't be told if all that the lobby has of the place is a message that is there at every turn, such as a heartbeat,
    and its oldest messages may be the last of the place.
    """
    ring = ring_with(stream[:-behind], 1000, [2], identity)
    place = position(stream, identity)
    outcome = ring.resume(place)
    untold = {LiveReason.AMBIGUOUS, LiveReason.GONE}
    if isinstance(outcome, Exact):
        assert seems_elsewhere(stream[:-behind], stream[-DIGESTS_KEPT:], outcome.cursor, len(stream))
    else:
        assert isinstance(outcome, Wait) or outcome.reason in untold
    for batch in batches_of([received(each, identity, "own") for each in stream[-behind:]], [1]):
        ring.append(batch)
    ambiguous = (Live(len(stream), LiveReason.AMBIGUOUS), Wait(LiveReason.AMBIGUOUS))
    assert ring.resume(place) in (Exact(len(stream)), *ambiguous)


@for_each_identity
@given(stream=streams(), data=st.data())
def test_searching_again_after_more_messages_is_like_searching_once(
    identity: str, stream: Stream, data: st.DataObject
) -> None:
    """What was computed for one search serves the next; evicted messages are forgotten."""
    limit = data.draw(st.integers(1, 60))
    found = identity_of(identity)
    often, once = MessageRing(limit, identity=found), MessageRing(limit, identity=found)
    for ring in (often, once):
        ring.begin_epoch(1)
    for batch in batches_of([received(each, identity, "own") for each in stream], [1, 7, 2]):
        often.append(batch)
        once.append(batch)
        if data.draw(st.booleans()):
            often.resume(position(stream[: often.cursor], identity))
    seen = data.draw(st.integers(1, len(stream)))
    assert often.resume(position(stream[:seen], identity)) == once.resume(position(stream[:seen], identity))


@for_each_identity
@given(stream=streams(), data=st.data())
def test_searching_in_many_turns_is_like_searching_once(identity: str, stream: Stream, data: st.DataObject) -> None:
    """Messages come and are evicted between the turns; until all identities are there, the answer is to wait."""
    limit = data.draw(st.integers(1, 60))
    settings = IdentitySettings(index_bytes=data.draw(st.integers(1, 5000)))
    turns: list[MessageRing] = []
    found_by = identity_of(identity)
    slowly = MessageRing(limit, identity=found_by, index_later=turns.append, settings=settings)
    once = MessageRing(limit, identity=found_by)
    for ring in (slowly, once):
        ring.begin_epoch(1)
    for batch in batches_of([received(each, identity, "own") for each in stream], [1, 7, 2]):
        slowly.append(batch)
        once.append(batch)
        if data.draw(st.booleans()):
            slowly.resume(position(stream[: slowly.cursor], identity))
        if turns and not slowly.index_more():
            turns.clear()
    seen = position(stream[: data.draw(st.integers(1, len(stream)))], identity)
    while isinstance(found := slowly.resume(seen), Wait) and found.grace:
        assert turns == [slowly]
        if not slowly.index_more():
            turns.clear()
    assert found == once.resume(seen)


@pytest.mark.parametrize("identity", ["/m", "msg.m", 'text == "hb" || msg.m == null ? null : [msg.m]'])
@given(data=st.data(), count=st.integers(17, 60))
def test_messages_without_an_identity_may_be_anywhere(identity: str, data: st.DataObject, count: int) -> None:
    """Each connection has its own; the place is right after the last message that has one."""
    stream = distinct(count)
    ring = MessageRing(identity=identity_of(identity))
    ring.begin_epoch(1)
    places = []
    for payload in stream:
        for _ in range(data.draw(st.integers(0, 2), "messages of this connection alone")):
            ring.append(Batch.of([frame(Opcode.TEXT, data.draw(st.sampled_from([b"hb", b"{}", b'{"m":null}'])))]))
        ring.append(Batch.of([frame(Opcode.TEXT, received(payload, identity, "own"))]))
        places.append(ring.cursor)
    seen = data.draw(st.integers(DIGESTS_KEPT, count))
    assert ring.resume(position(stream[:seen], identity)) == Exact(places[seen - 1])
