"""Any bytes are a record, are ignored, or raise `TrunkError`; decoded records survive a round trip."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from tests.support.streams import SeatsOnly, numbered
from tests.unit.trunk.test_records import EXAMPLES

from lobby_gateway.trunk.consumer import TrunkConsumer
from lobby_gateway.trunk.records import Hello, Record, TrunkError, Type, Welcome, decode
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.trunk.server import TrunkServer

TYPES = st.sampled_from([*Type, 0x00, 0x07, 0x7F, 0xFF])
NOISE = st.builds(lambda kind, rest: bytes((kind, 0)) + rest, TYPES, st.binary(max_size=200)) | st.binary(max_size=40)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid record with some bytes changed, removed or inserted."""
    data = bytearray(draw(st.sampled_from(EXAMPLES))[0].encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data[at : at + cut] = draw(st.binary(max_size=3))
    return bytes(data)


RECORDS = NOISE | mutations()


def read(data: bytes) -> Record | None:
    with contextlib.suppress(TrunkError):
        return decode(data)
    return None


@given(RECORDS)
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    record = read(data)
    if record is not None:
        again = read(record.encode())
        assert again is not None
        assert again.encode() == record.encode()


@given(st.lists(RECORDS, max_size=10))
def test_server_accepts_or_refuses_any_records_and_loses_no_seat(records: list[bytes]) -> None:
    lobby, ring = SeatsOnly(8), MessageRing(16)
    ring.begin_epoch(0x0102030405060708)
    ring.append(numbered(range(20)))
    server = TrunkServer(lobby, ring, now=0.0)
    server.receive(Hello("g").encode(), 0.0)
    with contextlib.suppress(TrunkError):
        for data in records:
            server.receive(data, 0.0)
            while server.take(0.0) is not None:
                pass
    assert server.held == lobby.seat_count.taken <= 8
    server.close()
    assert lobby.seat_count.taken == 0


@given(st.lists(RECORDS, max_size=10))
def test_consumer_accepts_or_refuses_any_records(records: list[bytes]) -> None:
    consumer = TrunkConsumer("g", now=0.0)
    consumer.receive(Welcome(False, 1, True, 8, 8, 0x0102030405060708, 255, "p-1").encode(), 0.0)
    consumer.claim(3)
    with contextlib.suppress(TrunkError):
        for data in records:
            consumer.receive(data, 0.0)
    assert consumer.held in range(4)
    assert len(consumer.position().digests) <= 16
