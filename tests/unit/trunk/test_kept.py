"""What clients that join a stream get first."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.support.streams import numbered

from lobby_gateway.settings import KeptSettings
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.kept import Change, KeptFrame, KeptMessages, NotKeptLog, Update
from lobby_gateway.websocket.frames import AsideBatch, Batch, Opcode, frame

A, B, C = (frame(Opcode.TEXT, each) for each in (b"a", b"b", b"c"))


def firsts(kept: KeptMessages, *replay: Batch, **options: Any) -> list[bytes]:
    return [each for batch in kept.first(replay, **options) for each in batch.frames]


def put(kept: KeptMessages, frames: dict[str, bytes], *, ahead: int = 0, **options: Any) -> Update:
    return kept.put({name: KeptFrame(each, ahead) for name, each in frames.items()}, **options)


def test_without_a_kept_message_there_is_nothing_to_get_first() -> None:
    kept = KeptMessages()
    assert (kept.first(), kept.next_change(0)) == ([], None)


def test_the_newest_message_of_each_name_comes_in_the_order_of_the_first_ones() -> None:
    kept = KeptMessages()
    assert put(kept, {"x": A, "y": B}) == Update((A, B), ())
    assert firsts(kept) == [A, B]
    assert put(kept, {"x": C}) == Update((C,), ())
    assert firsts(kept) == [C, B]


def test_they_have_no_place_in_the_stream_and_are_joined_once() -> None:
    kept = KeptMessages()
    put(kept, {"x": A, "y": B})
    (batch,) = kept.first()
    assert isinstance(batch, AsideBatch)
    assert kept.first()[0] is batch


def test_a_message_that_is_the_same_as_before_changes_nothing() -> None:
    kept = KeptMessages()
    put(kept, {"x": A})
    number = kept.newest
    assert put(kept, {"x": A}, tell=True) == Update((), ())
    assert kept.newest == number


def test_what_came_before_a_break_goes_with_what_was_kept_then_if_that_changed() -> None:
    kept = KeptMessages()
    for cursor, text, tell, broke_at in [
        (1, b"a", True, 0),
        (2, b"b", False, 0),
        (3, b"b", True, 0),
        (4, b"c", True, 4),
    ]:
        kept.put({"x": KeptFrame(frame(Opcode.TEXT, text))}, cursor=cursor, tell=tell)
        assert kept.broke_at == broke_at


def test_a_message_that_is_among_those_of_a_replay_comes_there_alone() -> None:
    kept = KeptMessages()
    put(kept, {"x": A, "y": frame(Opcode.TEXT, b"17")})
    assert firsts(kept, numbered([16, 17, 18])) == [A]
    assert firsts(kept, numbered([16]), numbered([17])) == [A]
    assert firsts(kept, numbered([16, 18])) == [A, frame(Opcode.TEXT, b"17")]


class Read(Batch):
    """A message that counts how often it is looked at."""

    __slots__ = ("looks",)

    def __init__(self, number: int) -> None:
        self.looks = 0
        batch = numbered([number])
        super().__init__(batch.data, batch.ends)

    def __getattribute__(self, name: str) -> Any:
        if name == "data":
            self.looks += 1
        return super().__getattribute__(name)


def test_each_message_of_a_replay_is_searched_once_for_all_who_join() -> None:
    kept = KeptMessages()
    put(kept, {"x": frame(Opcode.TEXT, b"17"), "y": A, "z": B})
    stream = [Read(number) for number in range(10, 20)]
    for end in (9, 10, 10):
        for start in (0, 5):
            assert firsts(kept, *stream[start:end], cursor=end, start=start) == [A, B]
            assert firsts(kept, *stream[8:end], cursor=end, start=8) == [frame(Opcode.TEXT, b"17"), A, B]
    assert [each.looks for each in stream] == [2] * 7 + [3] * 3  # for each name, but not before the last that is found


@pytest.mark.parametrize("seed", range(20))
def test_what_is_among_the_messages_of_a_replay_does_not_depend_on_who_joined_before(seed: int) -> None:
    rng = random.Random(seed)  # no secret
    kept, stream = KeptMessages(), list[Batch]()
    count = 0
    for _ in range(60):
        batch = numbered(rng.randrange(6) for _ in range(rng.randint(1, 3)))
        stream.append(batch)
        count += len(batch)
        if rng.random() < 0.4:
            put(kept, {rng.choice("abcd"): numbered([rng.randrange(8)]).data}, cursor=count)
        if rng.random() < 0.5:
            replay = Batch.join(stream).after(count - rng.randint(0, min(20, count)))
            cut = rng.randint(0, len(replay))
            parts = [each for each in (replay.before(cut), replay.after(cut)) if len(each)]
            whole = firsts(kept, *parts, cursor=count)
            assert firsts(kept, *parts, cursor=count, start=count - len(replay)) == whole


def test_bytes_inside_of_another_message_are_not_a_message() -> None:
    kept = KeptMessages()
    put(kept, {"x": A})
    inside = Batch.of([frame(Opcode.TEXT, b"-" + A), frame(Opcode.TEXT, A)])
    assert firsts(kept, inside) == [A]
    assert firsts(kept, Batch.of([*inside.frames, A])) == []


def test_what_somebody_got_elsewhere_is_left_out() -> None:
    kept = KeptMessages()
    put(kept, {"x": A, "y": B})
    assert firsts(kept, known={"x": A, "y": C}) == [B]
    assert firsts(kept, known={"x": A, "y": B}) == []


def test_a_message_that_is_too_large_takes_the_earlier_one_with_it() -> None:
    kept = KeptMessages(KeptSettings(message_bytes=200))
    assert put(kept, {"x": frame(Opcode.TEXT, b"a" * 200)}).new  # the header does not count
    assert put(kept, {"x": frame(Opcode.TEXT, b"a" * 201)}) == Update((), ("x",))
    assert firsts(kept) == []


def test_more_bytes_or_names_than_allowed_are_not_kept() -> None:
    kept = KeptMessages(KeptSettings(messages=2, bytes=8))
    assert put(kept, {"x": A, "y": frame(Opcode.TEXT, b"1234")}) == Update((A,), ("y",))
    assert put(kept, {"y": B, "z": C}) == Update((B,), ("z",))
    assert firsts(kept) == [A, B]
    put(kept, {"x": b""})
    assert put(kept, {"z": C}) == Update((C,), ())


def test_changes_are_told_in_order_and_only_the_latest_of_a_name() -> None:
    kept = KeptMessages()
    put(kept, {"x": A, "y": B}, cursor=5, tell=True)
    put(kept, {"x": C}, cursor=9)
    first = kept.next_change(0)
    assert first == Change(2, 5, "y", B, False, True)
    assert kept.next_change(first.number) == Change(3, 9, "x", C, False, False)
    assert kept.next_change(3) is None


def test_what_is_cleared_is_told_and_comes_anew_in_its_earlier_order() -> None:
    kept = KeptMessages()
    put(kept, {"x": A, "y": B})
    kept.clear(cursor=7)
    assert kept.first() == []
    assert kept.next_change(2) == Change(3, 7, "x", b"", False, False)
    assert put(kept, {"y": B, "x": A}) == Update((B, A), ())
    assert firsts(kept) == [A, B]


def test_what_a_client_saw_of_the_stream_is_guessed_without_what_is_kept() -> None:
    kept = KeptMessages()
    a, b, c, d = map(digest, (b"a", b"b", b"c", b"d"))
    assert list(kept.without((a, b))) == []
    put(kept, {"x": A})
    put(kept, {"x": B})
    put(kept, {"y": C}, ahead=1)
    assert list(kept.without((a, c, b, d))) == [
        (c, d),
        (d,),
    ]  # the earlier one, too; and C may have come beside the stream
    assert list(kept.without((a, b))) == []
    assert list(kept.without((d,))) == []


def test_a_message_of_the_stream_is_kept_behind_its_place_and_the_earlier_one_before_that() -> None:
    kept = KeptMessages()
    put(kept, {"x": A}, cursor=5)
    assert put(kept, {"x": B, "y": C}, ahead=3, cursor=5, tell=True) == Update((), ())  # they are yet to come
    assert firsts(kept, cursor=7) == [A]
    assert kept.next_change(1) == Change(2, 8, "x", B, True, True)
    assert firsts(kept, cursor=8) == [B, C]
    assert firsts(kept, cursor=8) == [B, C]


def test_a_newer_message_that_is_yet_to_come_leaves_the_earlier_one_until_then() -> None:
    kept = KeptMessages()
    put(kept, {"x": A})
    put(kept, {"x": B}, ahead=3)
    put(kept, {"x": C}, ahead=3, cursor=1)
    assert (firsts(kept, cursor=3), firsts(kept, cursor=4)) == ([A], [C])
    put(kept, {"x": A}, ahead=1, cursor=4)
    put(kept, {"x": B}, cursor=4)
    assert firsts(kept, cursor=4) == [B]


def test_what_was_yet_to_come_is_past_if_nobody_knows_the_place() -> None:
    kept = KeptMessages()
    put(kept, {"x": A}, ahead=3)
    assert firsts(kept, cursor=0) == []
    kept.settle(None)
    assert firsts(kept, cursor=0) == [A]
    change = kept.next_change(0)
    assert change is not None
    assert (change.ahead_of(0), change.streamed) == (0, False)


def test_how_far_ahead_a_message_is_depends_on_the_reader() -> None:
    kept = KeptMessages()
    put(kept, {"x": A}, ahead=3, cursor=4)
    put(kept, {"y": A}, cursor=4)
    of_stream, aside = kept.next_change(0), kept.next_change(1)
    assert of_stream is not None
    assert aside is not None
    assert [of_stream.ahead_of(cursor) for cursor in (2, 6, 8)] == [5, 1, 0]
    assert aside.ahead_of(2) == 0


def test_a_frame_is_within_a_limit_if_its_payload_is() -> None:
    frames = [KeptFrame(frame(Opcode.TEXT, b"a" * size), 3) for size in (200, 201)]
    assert [each.within(200) for each in frames] == [frames[0], KeptFrame(b"", 3)]


def test_what_is_not_kept_is_logged_once_for_each_name(caplog: pytest.LogCaptureFixture) -> None:
    log = NotKeptLog()
    for name in ("x", "y", "x"):
        log.tell(name, "it is too large", max_bytes=1)
    assert [(each.__dict__["keep"], each.__dict__["max_bytes"]) for each in caplog.records] == [("x", 1), ("y", 1)]
