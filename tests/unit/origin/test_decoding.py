"""Messages that come compressed, or several in one."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.decoding import LATER, Decoder, Later, Undecodable
from lobby_gateway.resource.spec import Decode
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Event, Ping


def deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


COMPRESS: dict[Decode, Callable[[bytes], bytes]] = {
    Decode.GZIP: gzip.compress,
    Decode.ZLIB: zlib.compress,
    Decode.DEFLATE: deflate,
}


def binary(*payloads: bytes) -> Batch:
    return Batch.of([frame(Opcode.BINARY, each) for each in payloads])


def text(*payloads: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in payloads])


def decoded(decoder: Decoder, *events: Event) -> list[tuple[int, bytes] | Event | Undecodable | Later]:
    made: list[tuple[int, bytes] | Event | Undecodable | Later] = []
    for each in decoder.events(events):
        if isinstance(each, Batch):
            made += [(each.opcode(i), bytes(each.payload(i))) for i in range(len(each))]
        else:
            made.append(each)
    return made


@pytest.mark.parametrize("how", COMPRESS)
def test_binary_messages_become_texts_and_the_rest_stays(how: Decode) -> None:
    decoder = Decoder(how, None, 1000)
    ping = Ping(b"")
    found = decoded(decoder, binary(COMPRESS[how](b"caf\xc3\xa9"), COMPRESS[how](b"")), ping, text("plain"))
    assert found == [(Opcode.TEXT, b"caf\xc3\xa9"), (Opcode.TEXT, b""), ping, (Opcode.TEXT, b"plain")]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"not gzip", "a binary message is not Gzip"),
        (gzip.compress(b"x" * 500, mtime=0)[:-9], "a message ends in the middle of its Gzip data"),
        (gzip.compress(b"\xff\xfe", mtime=0), "a message is not UTF-8 once it is decoded (Gzip)"),
        (b"", "a message ends in the middle of its Gzip data"),
    ],
)
def test_what_can_not_be_decoded_ends_the_events_behind_what_could(payload: bytes, reason: str) -> None:
    found = decoded(Decoder(Decode.GZIP, None, 1000), binary(gzip.compress(b"good"), payload, gzip.compress(b"late")))
    assert found == [(Opcode.TEXT, b"good"), Undecodable(reason)]


def test_a_bomb_is_not_unpacked() -> None:
    found = decoded(Decoder(Decode.GZIP, None, 1000), binary(gzip.compress(b"x" * 50_000_000)))
    assert found == [Undecodable("a message has more than 1000 bytes once it is decoded", too_big=True)]


def test_a_text_that_is_cut_within_a_character_is_too_large_or_not_at_its_end() -> None:
    euros = "€".encode() * 500
    found = decoded(Decoder(Decode.GZIP, None, 1000), binary(gzip.compress(euros)))
    assert found == [Undecodable("a message has more than 1000 bytes once it is decoded", too_big=True)]
    stored = zlib.compressobj(0, wbits=16 + zlib.MAX_WBITS)
    whole = stored.compress("ab€".encode()) + stored.flush()
    found = decoded(Decoder(Decode.GZIP, None, 1000), binary(whole[:-9]))
    assert found == [Undecodable("a message ends in the middle of its Gzip data")]


@given(st.lists(st.text(max_size=5), max_size=6), st.sampled_from(["\n", "\x1e", "||"]))
def test_a_text_is_split_into_its_parts_without_empty_ones(parts: list[str], separator: str) -> None:
    whole = separator.join(parts)
    found = decoded(Decoder(Decode.NONE, separator, 1000), text(whole, "end"))
    assert found == [(Opcode.TEXT, each.encode()) for each in whole.split(separator) if each] + [(Opcode.TEXT, b"end")]


def test_binary_messages_are_not_split_unless_they_are_decoded() -> None:
    assert decoded(Decoder(Decode.NONE, "\n", 1000), binary(b"a\nb")) == [(Opcode.BINARY, b"a\nb")]
    assert decoded(Decoder(Decode.ZLIB, "\n", 1000), binary(zlib.compress(b"a\nb"))) == [
        (Opcode.TEXT, b"a"), (Opcode.TEXT, b"b"),
    ]  # fmt: skip


def test_without_either_it_is_not_needed() -> None:
    assert not Decoder(Decode.NONE, None, 1000).needed


def turns(decoder: Decoder, *events: Event) -> list[int]:
    """Messages in each turn."""
    counts = [0]
    for each in decoder.events(events):
        if each is LATER:
            counts.append(0)
        elif isinstance(each, Batch):
            counts[-1] += len(each)
    return counts


def test_many_small_bombs_in_one_read_are_unpacked_in_turns() -> None:
    bomb = gzip.compress(bytes(100_000), mtime=0)
    decoder = Decoder(Decode.GZIP, None, 100_000, turn_bytes=250_000)
    assert turns(decoder, binary(*[bomb] * 7)) == [3, 3, 1]
    assert turns(decoder, binary(bomb), binary(bomb), binary(bomb)) == [1 + 1 + 1]


def test_many_small_parts_are_split_in_turns() -> None:
    decoder = Decoder(Decode.NONE, "\n", 100_000, turn_bytes=6400)
    assert turns(decoder, text("\n".join("x" * 1000))) == [100] * 10


def test_bombs_of_nothing_but_separators_are_unpacked_in_turns() -> None:
    bomb = gzip.compress(b"\n" * 100_000, mtime=0)
    decoder = Decoder(Decode.GZIP, "\n", 100_000, turn_bytes=250_000)
    assert turns(decoder, binary(*[bomb] * 7)) == [0, 0, 0]


@given(st.lists(st.text(max_size=5), max_size=9), st.integers(1, 400))
def test_turns_change_nothing_else(parts: list[str], turn_bytes: int) -> None:
    events = binary(*(zlib.compress(each.encode()) for each in parts)), Ping(b""), binary(zlib.compress(b"a\nb"))
    at_once = decoded(Decoder(Decode.ZLIB, "\n", 1000), *events)
    in_turns = decoded(Decoder(Decode.ZLIB, "\n", 1000, turn_bytes), *events)
    assert [each for each in in_turns if each is not LATER] == at_once
