from __future__ import annotations

import base64
import hmac
import json
import math
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.clients.tokens import (
    MAX_TOKEN_CHARACTERS,
    Claims,
    Purpose,
    TokenError,
    TokenProblem,
    UsedTokens,
    key_from_hex,
    sign,
    verify,
)
from lobby_gateway.errors import UserError

KEY = bytes(range(32))
NOW = 1_800_000_000.0


def token(**changed: Any) -> str:
    return sign(
        KEY, **{"purpose": Purpose.SEAT, "lobby": "prices-3", "path": "/prices", "expires": NOW + 30, **changed}
    )


def check(text: str, **changed: Any) -> Claims:
    wanted = {"keys": [KEY], "purpose": Purpose.SEAT, "lobby": "prices-3", "path": "/prices", "now": NOW, **changed}
    return verify(text, **wanted)


def problem(text: str, **changed: Any) -> TokenProblem:
    with pytest.raises(TokenError) as caught:
        check(text, **changed)
    assert len(text) < 20 or text not in str(caught.value)
    return caught.value.problem


@given(
    key=st.binary(min_size=32, max_size=64),
    purpose=st.sampled_from(Purpose),
    lobby=st.text(max_size=60),
    path=st.text(max_size=60),
    expires=st.integers(1, 2**53) | st.floats(min_value=1e-300, allow_infinity=False),
)
def test_what_was_signed_is_read_back(key: bytes, purpose: Purpose, lobby: str, path: str, expires: float) -> None:
    text = sign(key, purpose=purpose, lobby=lobby, path=path, expires=expires)
    claims = verify(text, [key], purpose=purpose, lobby=lobby, path=path, now=0.0)
    assert (claims.purpose, claims.lobby, claims.path, claims.expires) == (purpose, lobby, path, expires)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")


@given(st.data())
def test_a_token_with_any_character_changed_opens_nothing(data: st.DataObject) -> None:
    text = token()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=~ é").filter(lambda c: c != text[at]))
    assert problem(text[:at] + other + text[at + 1 :]) in {TokenProblem.FORGED, TokenProblem.MALFORMED}


@given(st.data())
def test_a_token_that_is_cut_or_extended_opens_nothing(data: st.DataObject) -> None:
    text = token()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    longer = text + data.draw(st.text(min_size=1))
    assert {problem(cut), problem(longer)} <= {TokenProblem.FORGED, TokenProblem.MALFORMED}


@given(st.text())
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    assert problem(text) in {TokenProblem.MALFORMED, TokenProblem.FORGED}


@pytest.mark.parametrize("text", ["", "v1", "v1..", "v1.W10", "v2." + "a" * 40 + "." + "a" * 43, "a" * 3_000_000])
def test_what_has_not_the_form_of_a_token_is_malformed(text: str) -> None:
    assert problem(text) is TokenProblem.MALFORMED


def test_a_token_signed_with_another_key_is_forged() -> None:
    assert problem(token(), keys=[bytes(32)]) is TokenProblem.FORGED


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"purpose": Purpose.TRUNK}, TokenProblem.WRONG_PURPOSE),
        ({"lobby": "prices-4"}, TokenProblem.WRONG_LOBBY),
        ({"path": "/prices/"}, TokenProblem.WRONG_PATH),
        ({"now": NOW + 30}, TokenProblem.EXPIRED),
        ({"now": NOW + 30_000}, TokenProblem.EXPIRED),
    ],
)
def test_a_good_token_for_something_else_says_why(changed: dict[str, Any], why: TokenProblem) -> None:
    assert problem(token(), **changed) is why
    assert check(token()).lobby == "prices-3"


def test_a_token_is_good_up_to_its_expiry() -> None:
    assert check(token(), now=NOW + 29.999).expires == NOW + 30


def test_two_tokens_are_never_the_same() -> None:
    assert len({token() for _ in range(100)}) == 100


@pytest.mark.parametrize("expires", [math.nan, math.inf])
def test_a_token_without_an_end_can_not_be_made(expires: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        token(expires=expires)


def test_the_longest_name_and_path_fit() -> None:
    text = token(lobby="p" * 63, path="/" + "é" * 127)
    assert len(text) < MAX_TOKEN_CHARACTERS
    assert check(text, lobby="p" * 63, path="/" + "é" * 127).expires == NOW + 30
    assert len(token(lobby="p" * 63, path="/" * 512)) < MAX_TOKEN_CHARACTERS


def signed(claims: bytes) -> str:
    """A token of whatever claims, with a good signature, as a newer version of ours might make it."""

    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    text = f"v1.{encode(claims)}"
    return f"{text}.{encode(hmac.digest(KEY, text.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "claims",
    [
        b"no json",
        b"\xff",
        b"1",
        b"{}",
        b"[]",
        b'["seat", "prices-3", "/prices", 1]',
        b'["dance", "prices-3", "/prices", 1900000000, "n"]',
        b'["seat", 3, "/prices", 1900000000, "n"]',
        b'["seat", "prices-3", "/prices", "1900000000", "n"]',
        b'["seat", "prices-3", "/prices", NaN, "n"]',
        b'["seat", "prices-3", "/prices", Infinity, "n"]',
        b'["seat", "prices-3", "/prices", 1900000000, null]',
        b'[["seat"], "prices-3", "/prices", 1900000000, "n"]',
        b"[" * 1400,
        b'["seat", "prices-3", "/prices", 1' + b"0" * 400 + b', "n"]',
    ],
)
def test_claims_of_another_version_are_malformed(claims: bytes) -> None:
    assert problem(signed(claims)) is TokenProblem.MALFORMED


def test_claims_as_they_are_written_today_are_read() -> None:
    claims = check(signed(json.dumps(["seat", "prices-3", "/prices", NOW + 1, "nonce"]).encode()))
    assert claims == Claims(purpose=Purpose.SEAT, lobby="prices-3", path="/prices", expires=NOW + 1, nonce="nonce")


def claims_of(nonce: str, expires: float) -> Claims:
    return Claims(purpose=Purpose.SEAT, lobby="prices-3", path="/prices", expires=expires, nonce=nonce)


def refused(used: UsedTokens, claims: Claims, now: float) -> TokenProblem:
    with pytest.raises(TokenError) as caught:
        used.use(claims, now)
    return caught.value.problem


def test_a_token_opens_once() -> None:
    used = UsedTokens()
    used.use(claims_of("a", 10), 0)
    used.use(claims_of("b", 10), 0)
    assert refused(used, claims_of("a", 10), 9.9) is TokenProblem.USED
    assert len(used) == 2


def test_used_tokens_are_forgotten_when_they_expire() -> None:
    used = UsedTokens()
    for number in range(100):
        used.use(claims_of(f"late {number}", 1000), 0)
        used.use(claims_of(f"soon {number}", 10), 0)
    used.use(claims_of("next", 1000), 10)
    assert len(used) == 101


def test_a_full_memory_refuses_until_something_expires() -> None:
    used = UsedTokens(capacity=2)
    used.use(claims_of("a", 20), 0)
    used.use(claims_of("b", 10), 0)
    assert refused(used, claims_of("c", 30), 9) is TokenProblem.NO_ROOM
    assert refused(used, claims_of("a", 20), 9) is TokenProblem.USED
    used.use(claims_of("c", 30), 10)
    assert len(used) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), max_size=60))
def test_no_token_opens_twice_before_it_expires(uses: list[tuple[int, int, int]]) -> None:
    used, opened, now = UsedTokens(capacity=4), dict[str, int](), 0
    for nonce, lifetime, later in uses:
        now += later
        opened = {name: expires for name, expires in opened.items() if now < expires}
        claims = claims_of(str(nonce), now + lifetime)
        if claims.nonce in opened:
            assert refused(used, claims, now) is TokenProblem.USED
        elif len(opened) == 4:
            assert refused(used, claims, now) is TokenProblem.NO_ROOM
        else:
            used.use(claims, now)
            opened[claims.nonce] = now + lifetime
        assert len(used) == len(opened)


def test_a_key_is_read_from_hex() -> None:
    assert key_from_hex(f" {'0F' * 32}\n") == b"\x0f" * 32
    assert key_from_hex("ab" * 64) == b"\xab" * 64


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "KEY: missing; accepted: at least 64 hex digits"),
        (" \n", "KEY: missing; accepted: at least 64 hex digits"),
        ("ab" * 31, "KEY: only 62 hex digits; accepted: at least 64"),
        ("a" * 65, "KEY: not an even number of hex digits (65 characters); accepted:"),
        ("xy" * 32, "KEY: not an even number of hex digits (64 characters); accepted:"),
        ("ab " * 32, "KEY: not an even number of hex digits (95 characters); accepted:"),
        ("٣٤" * 32, "KEY: not an even number of hex digits (64 characters); accepted:"),
    ],
)
def test_a_bad_key_is_refused_without_showing_it(text: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        key_from_hex(text, "KEY")
    assert str(caught.value).startswith(line)
    assert not text.strip() or text.strip() not in str(caught.value)
