"""Single decisions; the laws are in tests/property/test_stream_source.py."""

from __future__ import annotations

import pytest
from tests.support.streams import numbered, numbers

from lobby_gateway.lobby.stream_source import (
    BeginEpoch,
    Changed,
    Close,
    Command,
    DropRelays,
    Forget,
    Keep,
    Publish,
    Rank,
    Remember,
    Remembered,
    Resume,
    Source,
    StreamSources,
    Suspend,
)
from lobby_gateway.settings import RELAY, IdentitySettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.trunk.ring import MessageRing


class Lobby:
    """The owner of the sources: performs what they say."""

    def __init__(self, *, identifiable: bool = True, ring: MessageRing | None = None) -> None:
        self.ring = MessageRing() if ring is None else ring
        self.sources = StreamSources("a-1", self.ring, identifiable=identifiable)
        self.now = 100.0
        self.epochs = 0
        self.published: list[int] = []
        self.sources.set_needed(True, self.now)

    def perform(self) -> list[Command]:
        commands = self.sources.commands()
        for command in commands:
            match command:
                case BeginEpoch():
                    self.epochs += 1
                    self.ring.begin_epoch(self.epochs)
                case Publish(batch):
                    self.ring.append(batch)
                    self.published += numbers(batch)
                case Remember(batch):
                    self.ring.append(batch)
        return commands

    def opened(self, source: Source, **fields: object) -> list[Command]:
        self.sources.opened(source, self.now, **fields)  # type: ignore[arg-type]
        return self.perform()

    def got(self, source: Source, *messages: int) -> list[Command]:
        self.sources.received(source, numbered(messages), self.now)
        return self.perform()

    def lost(self, source: Source) -> list[Command]:
        self.sources.lost(source, self.now)
        return self.perform()

    def later(self, seconds: float) -> list[Command]:
        self.now += seconds
        self.sources.wake(self.now)
        return self.perform()


def streaming(*messages: int) -> tuple[Lobby, Source]:
    lobby, own = Lobby(), Source(Rank.OWN)
    lobby.opened(own)
    lobby.got(own, *messages)
    return lobby, own


def test_a_gap_after_the_last_message_of_a_candidate_is_not_hidden_when_it_takes_over() -> None:
    lobby = Lobby()
    first, second = Source(Rank.PEER, "b-1"), Source(Rank.PEER, "c-1")
    lobby.opened(first, via=())
    lobby.got(first, 1, 2)
    lobby.sources.told(first, None, lobby.now)
    lobby.opened(second, via=())
    lobby.got(second, 1)
    lobby.sources.missed(second, 1)
    lobby.now += 60
    lobby.sources.wake(lobby.now)
    lobby.perform()
    assert lobby.sources.active is second
    epochs = lobby.epochs
    lobby.got(second, 3)
    assert lobby.published == [1, 2, 1, 3]
    assert lobby.ring.locate(lobby.ring.cursor - 2)[0] != lobby.ring.locate(lobby.ring.cursor - 1)[0]
    assert lobby.epochs == epochs


def beside_a_peer_without_a_stream() -> tuple[Lobby, Source, Source]:
    """A lobby whose stream of 20 messages came from a peer that has none now, its own session beside that, and the peer."""
    lobby, own = streaming(*range(1, 21))
    lobby.lost(own)
    peer = Source(Rank.PEER, "b-1")
    lobby.opened(peer, via=(), exact_at=lobby.ring.cursor)
    lobby.opened(own)
    lobby.sources.told(peer, None, lobby.now)
    lobby.perform()
    return lobby, own, peer


def test_a_peer_that_has_a_stream_again_and_is_about_to_say_so_is_waited_for() -> None:
    """A lobby publishes the first messages of its new source before it tells those that relay it."""
    lobby, own, peer = beside_a_peer_without_a_stream()
    lobby.got(peer, *range(21, 31))
    lobby.got(own, *range(21, 31))
    assert (lobby.published, lobby.epochs) == ([*range(1, 31)], 1)
    lobby.sources.told(peer, (), lobby.now)
    for source in (peer, own):
        lobby.got(source, *range(31, 37))
    lobby.later(1)
    assert lobby.sources.active is own  # found in what both brought
    assert (lobby.published, lobby.epochs) == ([*range(1, 37)], 1)


def test_a_peer_that_brings_a_last_message_after_its_stream_has_stopped_is_not_waited_for_long() -> None:
    lobby, own, peer = beside_a_peer_without_a_stream()
    lobby.got(peer, 21)
    lobby.got(own, 22)
    assert lobby.sources.active is peer
    lobby.later(RELAY.wait_seconds + 0.1)
    assert (lobby.sources.active, lobby.published[-2:], lobby.epochs) == (own, [21, 22], 2)


def test_a_renewed_session_that_opened_when_the_old_one_was_lost_repeats_nothing() -> None:
    lobby = Lobby()
    old, renewed = Source(Rank.OWN), Source(Rank.RENEWED)
    lobby.opened(old)
    lobby.opened(renewed)
    lobby.got(old, 1, 2)
    lobby.lost(old)  # at the time at which the renewed one opened: the clock did not move
    assert lobby.published == [1, 2]
    lobby.got(renewed, 1, 2, 3)
    assert lobby.sources.active is renewed
    assert lobby.published == [1, 2, 3]
    assert lobby.epochs == 1


def test_a_lost_stream_goes_on_over_a_peer_and_back_at_the_same_message() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask({"a-2"})
    lobby.lost(own)
    assert lobby.sources.seeking
    peer = Source(Rank.PEER, "a-2")
    assert lobby.opened(peer, exact_at=lobby.ring.cursor) == [DropRelays(1), Changed()]
    lobby.got(peer, 20, 21)
    again = Source(Rank.OWN)
    assert lobby.opened(again) == []
    lobby.got(again, 21, 22, 23)  # its place is known when the peer has sent what came before
    lobby.got(peer, *range(22, 40))
    lobby.got(again, *range(24, 42))
    assert Close(peer) in lobby.later(0.1)
    assert lobby.published == list(range(42))
    assert lobby.epochs == 1
    assert lobby.sources.via == ()
    assert dict(lobby.sources.changes) == {("peer", "exact"): 1, ("origin", "exact"): 1}


def test_a_peer_that_answered_before_the_one_with_the_place_is_closed_at_once() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask({"a-2", "a-3"})
    lobby.lost(own)
    first, second = Source(Rank.PEER, "a-2"), Source(Rank.PEER, "a-3")
    assert lobby.opened(first) == []
    assert Close(first) in lobby.opened(second, exact_at=lobby.ring.cursor)
    assert lobby.sources.candidates == ()


def test_without_peers_an_own_session_goes_on_at_once_with_its_first_message() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask(set())
    lobby.lost(own)
    again = Source(Rank.OWN)
    lobby.opened(again)
    lobby.got(again, 25)
    assert lobby.published[-1] == 25
    assert (lobby.epochs, lobby.sources.gaps) == (2, 1)


def test_an_own_session_waits_for_a_second_for_a_peer_that_has_the_place() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask({"a-2"})
    lobby.lost(own)
    again = Source(Rank.OWN)
    lobby.opened(again)
    lobby.got(again, 25, 26)
    assert lobby.published[-1] == 19
    lobby.later(1.0)
    assert lobby.published[-2:] == [25, 26]  # nothing that came is lost
    assert lobby.sources.gaps == 1


def beside_a_peer() -> tuple[Lobby, Source, Source]:
    """A lobby that follows a peer, whose own session is open again, and brings nothing of the stream."""
    lobby, own = streaming(*range(20))
    lobby.lost(own)
    peer, again = Source(Rank.PEER, "a-2"), Source(Rank.OWN)
    lobby.opened(peer, exact_at=lobby.ring.cursor)
    lobby.opened(again)
    return lobby, peer, again


def suspended() -> tuple[Lobby, Source]:
    lobby, peer, own = beside_a_peer()
    lobby.got(own, *range(1000, 1032))
    assert lobby.later(29.9) == []
    assert lobby.later(0.1) == [Suspend(60.0)]
    assert lobby.sources.candidates == ()
    return lobby, peer


def test_an_own_session_whose_place_is_not_found_is_suspended_while_the_peers_stream_goes_on() -> None:
    lobby, peer = suspended()
    lobby.got(peer, 20, 21)
    assert lobby.published == list(range(22))
    assert (lobby.sources.gaps, lobby.sources.suspensions) == (0, 1)
    assert lobby.later(59.9) == []
    assert lobby.later(0.1) == [Resume()]
    assert lobby.sources.wake_at() is None


def test_each_pause_of_an_own_session_is_longer_until_it_is_an_hour() -> None:
    lobby, _ = suspended()
    pauses: list[float] = []
    for _ in range(7):
        lobby.later(RELAY.max_pause_seconds)
        own = Source(Rank.OWN)
        lobby.opened(own)
        lobby.got(own, *range(1000, 1032))
        pauses += [each.seconds for each in lobby.later(30.0) if isinstance(each, Suspend)]
    assert pauses == [120, 240, 480, 960, 1920, 3600, 3600]


def test_the_place_in_an_own_session_that_brings_few_messages_is_searched_for_longer() -> None:
    lobby, peer, own = beside_a_peer()
    for number in range(20, 40):
        lobby.got(own, number)
        lobby.got(peer, number)
        commands = lobby.later(120)
        if Close(peer) in commands:
            break
    assert lobby.sources.active is own
    assert lobby.published == list(range(number + 1))
    lobby, peer, own = beside_a_peer()
    lobby.got(own, 1000)
    assert lobby.later(RELAY.own_slow_seconds - 1) == []
    assert lobby.later(1) == [Suspend(60.0)]


def test_a_session_that_is_opened_again_after_a_pause_is_searched_for_as_long() -> None:
    lobby, _, own = beside_a_peer()
    lobby.got(own, *range(1000, 1032))
    lobby.later(0)
    assert lobby.later(30) == [Suspend(60.0)]
    assert lobby.later(60) == [Resume()]
    lobby.opened(own)
    lobby.got(own, *range(2000, 2032))
    lobby.later(0)
    assert lobby.later(29.9) == []
    assert lobby.later(0.1) == [Suspend(120.0)]


def test_a_session_that_is_opened_again_repeats_or_leaves_out_nothing_because_of_the_one_before() -> None:
    lobby, peer, own = beside_a_peer()
    lobby.got(own, *range(1000, 1032))
    lobby.lost(peer)  # what came before may have been seen
    lobby.later(1)
    lobby.got(own, 1032)
    lobby.sources.ask(set())
    lobby.lost(own)
    lobby.opened(own)
    lobby.got(own, 2000)
    assert lobby.published[-2:] == [1032, 2000]


def test_a_peer_that_has_no_stream_any_more_before_it_was_taken_is_closed_at_once() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask(set())
    lobby.lost(own)
    peer = Source(Rank.PEER, "a-2")
    lobby.opened(peer)
    lobby.got(peer, *range(2, 10))
    assert not lobby.sources.seeking
    lobby.sources.told(peer, None, lobby.now)
    assert lobby.perform() == [Close(peer)]
    assert lobby.sources.seeking


def test_the_identities_of_a_stream_that_has_stopped_are_computed_once() -> None:
    computed: list[bytes] = []

    def identity(payload: bytes | memoryview) -> int:
        computed.append(bytes(payload))
        return digest(payload)

    lobby, own = Lobby(ring=MessageRing(identity=identity)), Source(Rank.OWN)
    lobby.opened(own)
    lobby.got(own, *range(20))
    lobby.lost(own)
    peer = Source(Rank.PEER, "a-2")
    lobby.opened(peer)
    for number in range(2, 12):
        lobby.got(peer, number)
    assert lobby.sources.active is None
    assert len(computed) == 16


@pytest.mark.parametrize("how", ["lost", "dry", "moving"])
def test_a_suspended_session_is_resumed_as_soon_as_the_peers_stream_stops(how: str) -> None:
    lobby, peer = suspended()
    if how == "lost":
        commands = lobby.lost(peer)
    elif how == "dry":
        lobby.sources.told(peer, None, lobby.now)
        commands = lobby.perform()
    else:
        lobby.sources.moving(peer)
        commands = lobby.perform()
    assert Resume() in commands
    own = Source(Rank.OWN)
    lobby.opened(own)
    lobby.got(own, *range(30, 62))
    assert not any(isinstance(each, Suspend) for each in lobby.later(100))
    assert (lobby.sources.active is own) == (how != "moving")


def test_a_renewal_beside_a_peers_stream_does_not_break_that() -> None:
    lobby, peer, own = beside_a_peer()
    renewed = Source(Rank.RENEWED)
    lobby.opened(renewed)
    lobby.got(own, *range(1000, 1032))
    lobby.got(renewed, *range(1000, 1032))
    assert lobby.later(30.0) == [Suspend(60.0)]
    assert lobby.sources.active is peer
    assert lobby.sources.candidates == ()
    assert lobby.sources.gaps == 0


def test_a_suspended_session_is_resumed_when_nobody_needs_the_stream() -> None:
    lobby, peer = suspended()
    lobby.sources.set_needed(False, lobby.now)
    assert lobby.later(10) == [Resume(), Close(peer), Forget(), Changed()]


def test_without_identities_a_lobby_waits_for_its_own_session() -> None:
    lobby, own = Lobby(identifiable=False), Source(Rank.OWN)
    lobby.opened(own)
    lobby.sources.ask({"a-2"})
    lobby.lost(own)
    assert not lobby.sources.seeking
    lobby.sources.set_permitted(False)
    assert lobby.sources.seeking


def test_a_renewed_session_takes_over_where_it_is_found() -> None:
    lobby, own = streaming(*range(20))
    renewed = Source(Rank.RENEWED)
    lobby.opened(renewed)
    lobby.got(renewed, *range(20, 37))
    assert not any(isinstance(each, Close) for each in lobby.later(0.1))
    lobby.got(own, *range(20, 38))
    lobby.got(renewed, 37, 38)
    assert Close(own) in lobby.later(0.1)
    assert lobby.published == list(range(39))
    assert lobby.sources.changes["renewal", "exact"] == 1


def renewing(*messages: int) -> tuple[Lobby, Source, Source]:
    """A lobby with a stream whose next session is open."""
    lobby, own = streaming(*messages)
    renewed = Source(Rank.RENEWED)
    lobby.opened(renewed)
    return lobby, own, renewed


def test_a_renewed_session_whose_place_stays_ambiguous_takes_over_in_the_end() -> None:
    lobby, own, renewed = renewing(*[7] * 20)
    lobby.got(renewed, *[7] * 32)
    lobby.got(own, *[7] * 32)
    lobby.later(0.1)
    assert lobby.later(29.8) == []
    assert Close(own) in lobby.later(0.2)
    assert lobby.sources.gaps == 1


@pytest.mark.parametrize("lead", [0.0, 10.0])
def test_the_place_in_a_renewed_session_of_a_slow_stream_is_found(lead: float) -> None:
    """Each message arrives in the renewed session first."""
    lobby, own, renewed = renewing(*range(20))
    commands: list[Command] = []
    for number in range(20, 40):
        commands += lobby.got(renewed, number)
        commands += lobby.later(lead)
        commands += lobby.got(own, number)
        commands += lobby.later(120)
        if Close(own) in commands:
            break
    assert lobby.sources.active is renewed
    assert lobby.published == list(range(number + 1))
    assert dict(lobby.sources.changes) == {("renewal", "exact"): 1}


def test_without_identities_an_own_session_takes_over_from_a_peer_at_once() -> None:
    lobby, own, peer = Lobby(identifiable=False), Source(Rank.OWN), Source(Rank.PEER, "b-1")
    lobby.sources.set_permitted(False)
    lobby.sources.ask({"b-1"})
    lobby.opened(peer, via=())
    lobby.got(peer, 1, 2)
    lobby.sources.set_permitted(True)
    assert Close(peer) in lobby.opened(own)
    lobby.got(peer, 3)
    lobby.got(own, 3, 4)
    assert lobby.published == [1, 2, 3, 4]
    assert not any(isinstance(each, Suspend) for each in lobby.later(60))


def test_without_identities_a_renewed_session_takes_over_at_once() -> None:
    lobby, own, renewed = Lobby(identifiable=False), Source(Rank.OWN), Source(Rank.RENEWED)
    lobby.opened(own)
    lobby.got(own, 1, 2)
    lobby.opened(renewed)
    assert lobby.sources.active is renewed
    lobby.got(own, 3)
    lobby.got(renewed, 3, 4)
    assert lobby.published == [1, 2, 3, 4]
    assert dict(lobby.sources.changes) == {("renewal", "live"): 1}


def test_a_renewed_session_that_brings_something_else_takes_over_after_half_a_minute() -> None:
    lobby, own, renewed = renewing(*range(20))
    lobby.got(own, 20)
    lobby.got(renewed, 1000)
    lobby.later(0.1)
    assert lobby.later(29.8) == []
    assert Close(own) in lobby.later(0.2)
    lobby.got(renewed, 1001)
    assert lobby.published == [*range(21), 1001]
    assert (lobby.sources.gaps, lobby.sources.changes["renewal", "live"]) == (1, 1)


def test_nothing_is_lost_of_a_renewed_session_beside_one_that_has_gone_silent() -> None:
    """An origin that asks for a new connection may send on that one alone."""
    lobby, own, renewed = renewing(*range(20))
    lobby.got(renewed, 20, 21)
    lobby.later(0.1)
    assert Close(own) in lobby.later(30)
    assert lobby.published == list(range(22))


def test_a_renewed_session_that_brings_nothing_takes_over_after_an_hour() -> None:
    lobby, own, _ = renewing(*range(20))
    assert lobby.later(RELAY.renew_slow_seconds - 1) == []
    assert Close(own) in lobby.later(1)


def test_what_a_new_lobby_gets_from_before_its_stream_is_not_published() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "a-2")
    lobby.opened(peer, behind=3)
    commands = lobby.got(peer, 1, 2, 3, 4)
    assert [type(each) for each in commands] == [BeginEpoch, Remember, Remembered, Publish]
    assert lobby.published == [4]
    assert lobby.ring.cursor == 4


def test_a_deeper_source_is_taken_after_relays_that_were_told_less_are_dropped() -> None:
    lobby, own = streaming(*range(20))
    lobby.lost(own)
    peer = Source(Rank.PEER, "a-2")
    commands = lobby.opened(peer, via=("a-3",), exact_at=lobby.ring.cursor)
    assert commands[0] == DropRelays(2)
    assert lobby.sources.via == ("a-2", "a-3")
    assert lobby.sources.refusal("a-4") == "its stream comes over 2 lobbies"


def test_a_lobby_whose_stream_comes_from_the_asking_one_refuses() -> None:
    lobby, own = streaming(*range(20))
    lobby.lost(own)
    assert lobby.sources.refusal("a-2") == "it has no stream now"
    lobby.opened(Source(Rank.PEER, "a-2"), exact_at=lobby.ring.cursor)
    assert lobby.sources.refusal("a-2") == "its stream comes from a-2"
    assert lobby.sources.refusal("a-3") == ""


def test_a_peers_stream_that_nobody_needs_is_given_up_after_a_while() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "a-2")
    lobby.opened(peer)
    lobby.sources.set_needed(False, lobby.now)
    assert lobby.later(9) == []
    assert lobby.later(1) == [Close(peer), Forget(), Changed()]
    assert not lobby.sources.seeking


def test_a_peer_that_answers_after_the_stream_has_gone_on_is_asked_again() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask({"a-2"})
    lobby.lost(own)
    asked_at = lobby.ring.cursor
    again = Source(Rank.OWN)
    lobby.opened(again)
    lobby.got(again, *range(25, 45))
    lobby.later(1.0)
    lobby.sources.ask({"a-2"})
    lobby.lost(again)
    late = Source(Rank.PEER, "a-2")
    assert lobby.opened(late, exact_at=asked_at) == [Close(late)]
    assert lobby.sources.seeking
    assert lobby.published == [*range(20), *range(25, 45)]


def relaying(count: int) -> tuple[Lobby, Source]:
    """A lobby that has got so many messages from a peer, which drains then."""
    lobby, first = Lobby(), Source(Rank.PEER, "a-2")
    lobby.opened(first, via=())
    lobby.got(first, *range(count))
    lobby.sources.moving(first)
    assert lobby.sources.seeking
    return lobby, first


@pytest.mark.parametrize("count", [3, 40])
def test_a_slow_stream_whose_peer_drains_goes_on_over_the_next_one_at_the_same_message(count: int) -> None:
    """That one named the place, so none of the messages that came before need to come over its trunk."""
    lobby, first = relaying(count)
    second = Source(Rank.PEER, "a-3")
    assert Close(first) in lobby.opened(second, via=(), exact_at=count)
    assert lobby.sources.active is second
    lobby.got(second, count, count + 1)
    assert lobby.published == list(range(count + 2))
    assert (lobby.sources.gaps, dict(lobby.sources.changes)) == (0, {("peer", "exact"): 1})


@pytest.mark.parametrize("ends", [False, True])
def test_a_place_that_was_named_is_found_after_the_stream_went_on_from_there(ends: bool) -> None:
    lobby, first = relaying(20)
    asked_at = lobby.ring.cursor
    lobby.got(first, 20, 21, 22)
    second = Source(Rank.PEER, "a-3")
    lobby.opened(second, via=(), exact_at=asked_at)
    lobby.got(second, 20, 21)
    if ends:
        lobby.lost(first)
    lobby.later(0.5)
    assert lobby.published == list(range(23))
    lobby.got(second, 22, 23)
    lobby.later(0.1)
    assert lobby.sources.active is second
    assert (lobby.published, lobby.sources.gaps) == (list(range(24)), 0)


def test_what_the_stream_had_before_a_named_place_is_not_repeated_by_a_peer_that_never_gets_there() -> None:
    lobby, first = relaying(20)
    lobby.got(first, 20, 21)
    second = Source(Rank.PEER, "a-3")
    lobby.opened(second, via=(), exact_at=20)
    lobby.got(second, 20)
    lobby.lost(first)
    lobby.later(5.0)
    lobby.got(second, 30)
    assert (lobby.published, lobby.sources.gaps) == ([*range(22), 30], 1)


def test_what_is_kept_comes_at_its_place_after_a_named_one() -> None:
    lobby, first = relaying(20)
    lobby.got(first, 20)
    second = Source(Rank.PEER, "a-3")
    lobby.sources.keep(second, {"a": KeptFrame(b"A"), "b": KeptFrame(b"B", ahead=3)})
    lobby.opened(second, via=(), exact_at=20)
    commands = [*lobby.got(second, 20), *lobby.later(1.0)]
    assert keeps(commands) == [Keep({"a": KeptFrame(b"A"), "b": KeptFrame(b"B", ahead=2)})]


def test_a_peer_that_may_be_behind_is_waited_for() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask(set())
    lobby.lost(own)
    peer = Source(Rank.PEER, "a-2")
    lobby.opened(peer)
    lobby.got(peer, *range(2, 10))
    assert lobby.published == list(range(20))
    lobby.got(peer, *range(10, 22))
    assert lobby.published == list(range(22))
    assert lobby.sources.gaps == 0


def test_a_peer_that_knows_the_gap_is_taken_at_once() -> None:
    lobby, own = streaming(*range(20))
    lobby.sources.ask(set())
    lobby.lost(own)
    peer = Source(Rank.PEER, "a-2")
    lobby.opened(peer, at_gap=True)
    lobby.got(peer, 30, 31)
    assert lobby.published[-2:] == [30, 31]
    assert lobby.sources.gaps == 1


def test_history_comes_in_pieces_and_is_remembered_at_once() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "a-2")
    lobby.opened(peer, behind=4)
    assert lobby.ring.epoch == 0  # a consumer must not be told a place that is left out then
    assert lobby.got(peer, 1, 2) == []
    lobby.sources.broken(peer)
    assert lobby.perform() == []
    commands = lobby.got(peer, 5, 6, 7)
    kinds = [BeginEpoch, Remember, BeginEpoch, Remember, Remembered, Publish]
    assert [type(each) for each in commands] == kinds
    assert lobby.published == [7]
    assert lobby.sources.gaps == 0


def test_a_peer_that_is_lost_during_its_history_leaves_nothing() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "a-2")
    lobby.opened(peer, behind=4)
    lobby.got(peer, 1, 2)
    lobby.lost(peer)
    assert lobby.ring.cursor == 0
    assert lobby.sources.seeking


def slow_to_search() -> Lobby:
    """A lobby whose new session begins with the latest messages, which are found only when the identities are computed."""
    ring = MessageRing(index_later=lambda _: None, settings=IdentitySettings(index_bytes=1, index_seconds=3))
    lobby, own = Lobby(ring=ring), Source(Rank.OWN)
    lobby.opened(own)
    lobby.got(own, *range(40))
    lobby.sources.ask({"a-2"})
    lobby.lost(own)
    again = Source(Rank.OWN)
    lobby.opened(again)
    lobby.got(again, *range(10, 50))
    return lobby


def test_a_source_whose_place_takes_long_to_compute_is_waited_for() -> None:
    lobby = slow_to_search()
    lobby.later(1.5)
    assert lobby.published == list(range(40))
    while lobby.ring.index_more():
        pass
    lobby.later(0.1)
    assert lobby.published == list(range(50))
    assert dict(lobby.sources.changes) == {("origin", "exact"): 1}


def test_a_source_whose_place_takes_too_long_to_compute_takes_over_as_it_is() -> None:
    lobby = slow_to_search()
    lobby.later(4.1)
    assert dict(lobby.sources.changes) == {("origin", "live"): 1}


A, B, C = {"a": KeptFrame(b"A")}, {"b": KeptFrame(b"B")}, {"a": KeptFrame(b"C")}


def keeps(commands: list[Command]) -> list[Keep]:
    return [each for each in commands if isinstance(each, Keep)]


def test_what_came_before_the_stream_is_kept_and_told_when_it_begins() -> None:
    lobby, own = Lobby(), Source(Rank.OWN)
    lobby.sources.keep(own, A)
    lobby.sources.keep(own, B)
    assert lobby.perform() == []
    commands = lobby.opened(own)
    assert keeps(commands) == [Keep({**A, **B}, tell=True)]
    assert commands.index(Keep({**A, **B}, tell=True)) > commands.index(BeginEpoch())


def test_what_comes_in_the_stream_is_kept_without_being_told() -> None:
    lobby, own = streaming(1, 2)
    streamed = {"a": KeptFrame(b"A", ahead=2)}
    lobby.sources.keep(own, streamed)
    assert keeps(lobby.perform()) == [Keep(streamed)]


def test_a_peer_that_breaks_tells_what_is_new() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "b-1")
    lobby.opened(peer, via=())
    lobby.sources.keep(peer, A, tell=True)
    assert keeps(lobby.perform()) == [Keep(A, tell=True)]


def test_a_source_that_continues_exactly_replaces_what_is_kept_and_nobody_is_told() -> None:
    lobby, own = streaming(*range(1, 21))
    peer = Source(Rank.PEER, "b-1")
    lobby.lost(own)
    lobby.sources.keep(peer, A)
    assert keeps(lobby.opened(peer, via=(), exact_at=lobby.ring.cursor)) == [Keep(A)]


def test_a_source_that_takes_over_live_tells_what_is_kept_except_for_what_is_yet_to_come() -> None:
    lobby, own = streaming(*range(1, 21))
    renewed = Source(Rank.RENEWED)
    lobby.sources.keep(renewed, {**A, **B})
    lobby.opened(renewed)
    lobby.got(renewed, 101)
    lobby.lost(own)
    lobby.sources.keep(renewed, {"c": KeptFrame(b"C", ahead=2)})
    lobby.got(renewed, 102, 103)
    begin, keep, published = (each for each in lobby.later(10) if isinstance(each, BeginEpoch | Keep | Publish))
    assert (begin, keep) == (BeginEpoch(), Keep({**A, **B, "c": KeptFrame(b"C", ahead=2)}, tell=True))
    assert isinstance(published, Publish)
    assert lobby.published[-2:] == [102, 103]


def test_a_source_that_continues_exactly_keeps_what_came_before_the_place_at_once() -> None:
    lobby, _ = streaming(*range(1, 21))
    renewed = Source(Rank.RENEWED)
    lobby.opened(renewed)
    lobby.sources.keep(renewed, {"a": KeptFrame(b"A", ahead=20), "b": KeptFrame(b"B", ahead=22)})
    commands = lobby.got(renewed, *range(1, 24)) or lobby.later(1)
    assert keeps(commands) == [Keep({"a": KeptFrame(b"A"), "b": KeptFrame(b"B", ahead=2)})]
    assert lobby.published == list(range(1, 24))


def test_a_break_behind_the_place_is_told_between_the_messages_before_and_after_it() -> None:
    """Clients get what is kept there like those of the candidate's lobby, who had its stream when it broke."""
    lobby, first = relaying(20)
    lobby.got(first, 20, 21)
    second = Source(Rank.PEER, "a-3")
    lobby.opened(second, via=(), exact_at=20)
    lobby.sources.keep(second, {**A, **B})
    lobby.got(second, 20, 21, 22)
    lobby.sources.keep(second, {"a": KeptFrame(b"C", ahead=1)}, tell=True)
    lobby.sources.broken(second)
    lobby.got(second, 30)
    lobby.sources.keep(second, {"a": KeptFrame(b"D")})
    assert lobby.published == list(range(22))
    commands = [each for each in lobby.later(0.1) if isinstance(each, Publish | Keep | BeginEpoch)]
    first_kept, before, begin, told, after = commands
    assert first_kept == Keep(B)
    assert (type(before), begin) == (Publish, BeginEpoch())
    assert told == Keep({"a": KeptFrame(b"D")}, tell=True)
    assert isinstance(after, Publish)
    assert lobby.published == [*range(23), 30]


def test_a_break_that_is_told_where_a_candidate_continues_is_told_at_once() -> None:
    lobby, first = relaying(20)
    lobby.got(first, 20)
    second = Source(Rank.PEER, "a-3")
    lobby.opened(second, via=(), exact_at=20)
    lobby.got(second, 20)
    lobby.sources.keep(second, A, tell=True)  # what comes next is in another epoch
    assert keeps(lobby.later(0.1)) == [Keep(A, tell=True)]
    assert lobby.sources.active is second


def test_what_an_earlier_session_kept_is_not_taken_for_that_of_the_next() -> None:
    lobby, own = streaming(1, 2)
    lobby.lost(own)
    lobby.sources.keep(own, A)
    lobby.opened(own)  # is yet to be compared
    lobby.lost(own)
    lobby.opened(own)
    lobby.got(own, 101)
    assert keeps(lobby.later(10)) == []
    assert 101 in lobby.published


def test_history_is_taken_before_what_is_kept_is_told() -> None:
    lobby, peer = Lobby(), Source(Rank.PEER, "b-1")
    lobby.sources.keep(peer, A)
    assert keeps(lobby.opened(peer, via=(), behind=2)) == []
    lobby.got(peer, 1)
    lobby.sources.keep(peer, B)
    commands = lobby.got(peer, 2, 3)
    assert keeps(commands) == [Keep({**A, **B}, tell=True)]
    kept = commands.index(Keep({**A, **B}, tell=True))
    assert (
        commands.index(Remembered())
        < kept
        < commands.index(next(each for each in commands if isinstance(each, Publish)))
    )
