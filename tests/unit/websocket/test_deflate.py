from __future__ import annotations

import json
import os
import sys
import zlib

import pytest

from lobby_gateway.websocket.deflate import InflateError, Inflater, deflate_batch, negotiate
from lobby_gateway.websocket.frames import Batch, Opcode, frame

RESPONSE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"
JSON = json.dumps([{"price": 101.25, "size": number, "symbol": "BTC-USD"} for number in range(400)]).encode()


def inflated(payload: bytes | memoryview) -> bytes:
    """What a client without context takeover reads."""
    return zlib.decompressobj(wbits=-15).decompress(bytes(payload) + TAIL)


# Negotiation


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        'permessage-deflate; client_max_window_bits="15"',
        "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
        " permessage-deflate ; client_max_window_bits = 10 ",
        "x-other; a=b, permessage-deflate",
        ", permessage-deflate",
    ],
)
def test_offer_is_accepted_without_context_takeover(offer: str) -> None:
    assert negotiate(offer) == RESPONSE


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate;",
        "permessage-deflate; ; client_max_window_bits",
        "permessage-deflate; =",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover=",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=",
        'permessage-deflate; client_max_window_bits="',
        'permessage-deflate; client_max_window_bits="15',
        "permessage-deflate; client_max_window_bits=\u0661\u0660",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate client_max_window_bits",
    ],
)
def test_offer_that_is_malformed_or_unknown_is_declined(offer: str) -> None:
    assert negotiate(offer) is None


@pytest.mark.parametrize("bits", range(8, 15))
def test_offer_of_a_smaller_server_window_is_declined(bits: int) -> None:
    # The bytes are the same for all clients, and their window is 32 KiB.
    offer = f"permessage-deflate; server_max_window_bits={bits}"
    assert negotiate(offer) is None
    assert negotiate(f"{offer}, permessage-deflate; client_max_window_bits") == RESPONSE


def test_requested_window_is_confirmed() -> None:
    for value in ("15", '"15"'):
        assert (
            negotiate(f"permessage-deflate; server_max_window_bits={value}") == f"{RESPONSE}; server_max_window_bits=15"
        )


def test_first_acceptable_offer_is_accepted() -> None:
    offers = "permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=15, permessage-deflate"
    assert negotiate(offers) == f"{RESPONSE}; server_max_window_bits=15"


# To clients


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("size", [128, 200, 1024, 4000, 16384, len(JSON)])
def test_message_is_deflated(size: int, opcode: Opcode) -> None:
    batch = deflate_batch(Batch.of([frame(opcode, JSON[:size])]))
    assert batch.data[0] == 0x80 | 0x40 | opcode
    assert len(batch.data) < size
    assert inflated(batch.payload(0)) == JSON[:size]
    assert not bytes(batch.payload(0)).endswith(TAIL)


def test_each_message_is_independent() -> None:
    batch = Batch.of([frame(Opcode.TEXT, JSON[:5000])] * 3)
    deflated = deflate_batch(batch)
    assert len(deflated) == 3
    assert len(set(deflated.frames)) == 1
    assert [inflated(deflated.payload(index)) for index in range(3)] == [JSON[:5000]] * 3


def test_message_that_would_grow_stays_as_it_is() -> None:
    frames = [
        frame(Opcode.BINARY, os.urandom(300)),
        frame(Opcode.TEXT, JSON[:2000]),
        frame(Opcode.TEXT, b""),
        frame(Opcode.TEXT, b"tiny"),
        frame(Opcode.BINARY, os.urandom(70000)),
    ]
    deflated = deflate_batch(Batch.of(frames))
    assert [part == original for part, original in zip(deflated.frames, frames, strict=True)] == [
        True,
        False,
        True,
        True,
        True,
    ]
    assert inflated(deflated.payload(1)) == JSON[:2000]
    assert deflated.data == b"".join(deflated.frames)


def test_repetition_across_the_whole_window_is_found() -> None:
    # A window that is fitted to the message must not be too small to reach its beginning.
    for size in (200, 300, 500, 1000, 4000, 16000):
        part = os.urandom(size)
        deflated = deflate_batch(Batch.of([frame(Opcode.BINARY, part + part)]))
        assert len(deflated.data) < size + size // 8 + 40
        assert inflated(deflated.payload(0)) == part + part
    part = os.urandom(200)  # and zlib looks back by its window less 262 bytes
    deflated = deflate_batch(Batch.of([frame(Opcode.BINARY, part + os.urandom(620) + part)]))
    assert len(deflated.data) < 900


def test_message_larger_than_the_window_is_deflated() -> None:
    payload = os.urandom(40000) + JSON * 10
    deflated = deflate_batch(Batch.of([frame(Opcode.BINARY, payload)]))
    assert len(deflated.data) < len(payload)
    assert inflated(deflated.payload(0)) == payload


def test_empty_batch_is_deflated_to_an_empty_one() -> None:
    assert len(deflate_batch(Batch.of([]))) == 0


# From peers


def raw_deflate(payload: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(flush)).removesuffix(TAIL)


@pytest.mark.parametrize(
    "payload",
    [
        bytes.fromhex("f248cdc9c90700"),  # one block: RFC 7692 §7.2.3.1
        bytes.fromhex("000500faff48656c6c6f00"),  # stored: §7.2.3.3
        bytes.fromhex("f348cdc9c9070000"),  # final block: §7.2.3.4
        bytes.fromhex("f348cdc9c90700"),  # final block, and nothing appended
        bytes.fromhex("f248050000 00ffff cac9c90700"),  # two blocks: §7.2.3.5
    ],
)
def test_message_may_be_deflated_in_many_ways(payload: bytes) -> None:
    assert Inflater(100).inflate(payload) == b"Hello"


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x02\x00"])
def test_empty_message_is_inflated(payload: bytes) -> None:
    assert Inflater(0).inflate(payload) == b""


def test_inflater_is_stateless() -> None:
    inflater = Inflater(100000)
    for size in (10000, 20, 40000):
        assert inflater.inflate(raw_deflate(JSON[:size])) == JSON[:size]
    assert not hasattr(inflater, "__dict__")
    assert sys.getsizeof(inflater) < 64


@pytest.mark.parametrize("size", [1, 100, 4096, 65536])
def test_message_may_be_as_large_as_the_limit_and_no_larger(size: int) -> None:
    for payload in (b"x" * size, os.urandom(size)):
        assert Inflater(size).inflate(raw_deflate(payload)) == payload
        with pytest.raises(InflateError, match=f"more than {size - 1} bytes") as caught:
            Inflater(size - 1).inflate(raw_deflate(payload))
        assert caught.value.code == 1009


def test_zip_bomb_is_not_inflated() -> None:
    bomb = raw_deflate(bytes(64 << 20))
    assert len(bomb) < 70000
    with pytest.raises(InflateError) as caught:
        Inflater(1000).inflate(bomb)
    assert caught.value.code == 1009


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"\x06",  # block type 3
        bytes.fromhex("0005000000"),  # length of a stored block without its complement
        raw_deflate(b"Hello", zlib.Z_FINISH) + b"garbage",
        raw_deflate(b"Hello", zlib.Z_FINISH) + b"\x00\x00",
        raw_deflate(b"Hello", zlib.Z_FINISH) * 2,
    ],
)
def test_data_that_is_not_deflate_is_refused(payload: bytes) -> None:
    with pytest.raises(InflateError) as caught:
        Inflater(100).inflate(payload)
    assert caught.value.code == 1007
