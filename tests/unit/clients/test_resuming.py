from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.clients import resuming
from lobby_gateway.trunk.identity import digest
from lobby_gateway.trunk.position import NO_EPOCH, Position
from lobby_gateway.websocket.server_handshake import HandshakeError, Request

A, B = "ypeBEsobvco", "PiPoFgA5WUo"
"""Hashes of the payloads `a` and `b`."""


def asked(query: str) -> Position | None:
    return resuming.position_of(Request("GET", f"/prices?{query}", {}, b""))


def refusal(query: str) -> str:
    with pytest.raises(HandshakeError) as caught:
        asked(query)
    assert caught.value.refusal.status == 400
    return caught.value.detail


def test_a_hash_is_what_a_browser_computes() -> None:
    """The first 8 bytes of `crypto.subtle.digest("SHA-256", ...)`, in base64url without padding."""
    for payload, text in ((b"a", A), (b"b", B)):
        assert base64.urlsafe_b64encode(hashlib.sha256(payload).digest()[:8]).decode() == f"{text}="
        assert resuming.hashes([payload]) == text


def test_hashes_give_a_position_without_an_epoch() -> None:
    assert asked(f"resume={A}.{B}") == Position(NO_EPOCH, 0, (digest(b"a"), digest(b"b")), of_payloads=True)
    assert asked(f"token=x&resume={A}") == Position(NO_EPOCH, 0, (digest(b"a"),), of_payloads=True)


def test_a_position_of_a_close_reason_is_accepted() -> None:
    assert asked("resume=9f2c41d05ab3e871-1042") == Position(0x9F2C41D05AB3E871, 1042)


def test_without_the_parameter_there_is_no_position() -> None:
    assert asked("") is None
    assert asked("resumed=1") is None


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=16))
def test_what_a_client_sends_is_understood(payloads: list[bytes]) -> None:
    text = resuming.hashes(payloads)
    assert len(text) <= 16 * 12
    position = asked(f"resume={text}")
    assert position is not None
    assert position.digests == tuple(map(digest, payloads))


@pytest.mark.parametrize(
    "text",
    [
        "", "here", ".", f"{A}.", f".{A}", f"{A}..{B}", f"{A},{B}", f"{A}%2E{B}%00", A[:-1], f"{A}=", f"{A}I",
        "ypeBEsobvcp",  # bits after the eighth byte
        A[:-1] + "+", A[:-1] + "%20", "é" * 11, ".".join([A] * 17), ".".join([A] * 1000), "9f2c41d05ab3e871-",
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_one_line_that_says_what_is_accepted(text: str) -> None:
    detail = refusal(f"resume={text}")
    assert detail.startswith("resume: '")
    assert "\n" not in detail
    assert len(detail) < 300
    assert detail.endswith(
        "' is neither a position (16 hex digits, '-', a number) nor 1 to 16 hashes, oldest first, separated by '.' "
        "(11 characters each: 8 bytes of SHA-256 in base64url)."
    )


def test_the_answer_is_a_text_that_clients_recognize() -> None:
    assert bytes(resuming.answer("").payload(0)) == b'{"lobby-gateway":{"resume":"exact"}}'
    assert bytes(resuming.answer("gone").payload(0)) == b'{"lobby-gateway":{"resume":"live","reason":"gone"}}'
    assert resuming.read_answer('{"lobby-gateway":{"resume":"exact"}}') == ""
    assert resuming.read_answer('{"lobby-gateway":{"resume":"live","reason":"gone"}}') == "gone"


@pytest.mark.parametrize(
    "message",
    [
        "", "{}", '{"seq": 1}', b'{"lobby-gateway":{"resume":"exact"}}', '{"lobby-gateway":', '{"lobby-gateway":1}',
        '{"lobby-gateway":{}}', '{"lobby-gateway":{"resume":"live"}}',
    ],
)  # fmt: skip
def test_any_other_message_is_no_answer(message: str | bytes) -> None:
    assert resuming.read_answer(message) is None
