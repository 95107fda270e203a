from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import LiveReason, Position, digests_of

NUMBERS = st.integers(0, 2**64 - 1)


@given(NUMBERS, NUMBERS)
def test_a_position_survives_a_round_trip_through_text(epoch: int, offset: int) -> None:
    assert Position.parse(str(Position(epoch, offset))) == Position(epoch, offset)


def test_is_written_as_sixteen_hex_digits_and_a_number() -> None:
    assert str(Position(0xAB, 12, (1, 2))) == "00000000000000ab-12"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000000000ab",
        "00000000000000ab-",
        "0000000000000ab-1",
        "00000000000000AB-1",
        "00000000000000ag-1",
        "00000000000000ab--1",
        "00000000000000ab-+1",
        "00000000000000ab-1 ",
        "00000000000000ab-²",
        "00000000000000ab-18446744073709551616",
        "00000000000000ab-000000000000000000001",
    ],
)
def test_refuses_a_text_that_is_not_a_position(text: str) -> None:
    with pytest.raises(ValueError, match="is not a position"):
        Position.parse(text)


def test_quotes_only_the_beginning_of_a_long_text() -> None:
    with pytest.raises(ValueError, match=r"'x{60}' is not"):
        Position.parse("x" * 10000)


@pytest.mark.parametrize(("epoch", "offset"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**64)])
def test_refuses_numbers_that_do_not_fit_64_bits(epoch: int, offset: int) -> None:
    with pytest.raises(ValueError, match="out of range; accepted: 0 to"):
        Position(epoch, offset)


def test_refuses_more_digests_than_a_position_has() -> None:
    assert len(Position(1, 1, (0,) * 16).digests) == 16
    with pytest.raises(ValueError, match="17 is too many"):
        Position(1, 1, (0,) * 17)


def test_digests_are_of_the_latest_sixteen_oldest_first() -> None:
    payloads = [b"%d" % number for number in range(20)]
    assert digests_of(reversed(payloads)) == tuple(digest(each) for each in payloads[4:])


def test_digests_leave_out_messages_without_an_identity() -> None:
    payloads = [b"%d" % number for number in range(40)]

    def even(payload: bytes | memoryview) -> int | None:
        return None if int(bytes(payload)) % 2 else digest(payload)

    assert digests_of(reversed(payloads), even) == tuple(digest(each) for each in payloads[8::2])


def test_digests_are_looked_for_among_the_latest_messages_only() -> None:
    payloads = [b"1"] * 16 + [b"0"] * 1000
    assert digests_of(reversed(payloads), lambda payload: digest(payload) if payload == b"1" else None) == ()


def test_every_reason_has_a_label() -> None:
    assert [each.label for each in LiveReason] == ["none", "no_position", "unknown", "gone", "ahead", "ambiguous"]
