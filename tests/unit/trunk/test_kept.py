"""What clients that join a stream get first."""

from __future__ import annotations

from tests.support.streams import numbered

from lobby_gateway.settings import KeptSettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import Change, Kept, KeptMessages
from lobby_gateway.websocket.frames import AsideBatch, Batch, Opcode, frame

A, B, C = (frame(Opcode.TEXT, each) for each in (b"a", b"b", b"c"))


def firsts(kept: KeptMessages, *replay: Batch, **options: dict[str, bytes]) -> list[bytes]:
    return [each for batch in kept.first(replay, **options) for each in batch.frames]


def test_without_a_kept_message_there_is_nothing_to_get_first() -> None:
    kept = KeptMessages()
    assert (len(kept), kept.first(), kept.next_change(0)) == (0, [], None)


def test_the_newest_message_of_each_name_comes_in_the_order_of_the_first_ones() -> None:
    kept = KeptMessages()
    assert kept.put({"x": A, "y": B}) == Kept((A, B), ())
    assert firsts(kept) == [A, B]
    assert kept.put({"x": C}) == Kept((C,), ())
    assert firsts(kept) == [C, B]
    assert len(kept) == 2


def test_they_have_no_place_in_the_stream_and_are_joined_once() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": B})
    (batch,) = kept.first()
    assert isinstance(batch, AsideBatch)
    assert kept.first()[0] is batch


def test_a_message_that_is_the_same_as_before_changes_nothing() -> None:
    kept = KeptMessages()
    kept.put({"x": A})
    number = kept.newest
    assert kept.put({"x": A}, tell=True) == Kept((), ())
    assert kept.newest == number


def test_a_message_that_is_among_those_of_a_replay_comes_there_alone() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": frame(Opcode.TEXT, b"17")})
    assert firsts(kept, numbered([16, 17, 18])) == [A]
    assert firsts(kept, numbered([16]), numbered([17])) == [A]
    assert firsts(kept, numbered([16, 18])) == [A, frame(Opcode.TEXT, b"17")]


def test_bytes_inside_of_another_message_are_not_a_message() -> None:
    kept = KeptMessages()
    kept.put({"x": A})
    inside = Batch.of([frame(Opcode.TEXT, b"-" + A), frame(Opcode.TEXT, A)])
    assert firsts(kept, inside) == [A]
    assert firsts(kept, Batch.of([*inside.frames, A])) == []


def test_what_somebody_got_elsewhere_is_left_out() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": B})
    assert firsts(kept, known={"x": A, "y": C}) == [B]
    assert firsts(kept, known={"x": A, "y": B}) == []


def test_a_message_that_is_too_large_takes_the_earlier_one_with_it() -> None:
    kept = KeptMessages(KeptSettings(message_bytes=200))
    assert kept.put({"x": frame(Opcode.TEXT, b"a" * 200)}).changed  # the header does not count
    assert kept.put({"x": frame(Opcode.TEXT, b"a" * 201)}) == Kept((), ("x",))
    assert firsts(kept) == []


def test_more_bytes_or_names_than_allowed_are_not_kept() -> None:
    kept = KeptMessages(KeptSettings(messages=2, bytes=8))
    assert kept.put({"x": A, "y": frame(Opcode.TEXT, b"1234")}) == Kept((A,), ("y",))
    assert kept.put({"y": B, "z": C}) == Kept((B,), ("z",))
    assert firsts(kept) == [A, B]
    kept.put({"x": b""})
    assert kept.put({"z": C}) == Kept((C,), ())


def test_changes_are_told_in_order_and_only_the_latest_of_a_name() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": B}, cursor=5, tell=True)
    kept.put({"x": C}, cursor=9)
    first = kept.next_change(0)
    assert first == Change(2, 5, "y", B, True)
    assert kept.next_change(first.number) == Change(3, 9, "x", C, False)
    assert kept.next_change(3) is None


def test_what_is_cleared_is_told_and_comes_anew_in_its_earlier_order() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": B})
    kept.clear(cursor=7)
    assert (len(kept), kept.first()) == (0, [])
    assert kept.next_change(2) == Change(3, 7, "x", b"", False)
    assert kept.put({"y": B, "x": A}) == Kept((B, A), ())
    assert firsts(kept) == [A, B]


def test_digests_are_those_of_the_payloads() -> None:
    kept = KeptMessages()
    kept.put({"x": A, "y": b""})
    assert kept.digests == {digest(b"a")}
    kept.put({"x": B})
    assert kept.digests == {digest(b"b")}
