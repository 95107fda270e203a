from __future__ import annotations

import base64
import hashlib
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
    NamespaceKeys,
    Purpose,
    TokenError,
    TokenKeys,
    TokenProblem,
    UsedTokens,
    key_from_hex,
    keys_from_text,
    namespace_key,
    sign,
    verify,
)
from lobby_gateway.errors import UserError
from lobby_gateway.settings import TokenSettings

KEY = bytes(range(32))
NOW = 1_800_000_000.0
A, B, C = (bytes([each]) * 32 for each in b"abc")
ACTIVATION, RETIRED = TokenSettings().activation_seconds, TokenSettings().retired_key_seconds


# Keys


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


def test_one_line_is_one_key() -> None:
    assert keys_from_text(f"{A.hex()}\n", "FILE") == (A,)


def test_keys_keep_the_order_of_their_lines_and_empty_lines_are_ignored() -> None:
    assert keys_from_text(f"\n{B.hex()}\n\n {A.hex()} \n{B.hex()}\n", "FILE") == (B, A)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE: missing"),
        ("\n \n", "FILE: missing"),
        ("abc", "FILE: not an even"),
        (f"{A.hex()}\nabcd", "FILE: line 2: only 4"),
        (f"{A.hex()}\n" * 9, "FILE: 9 lines; accepted: at most 8"),
    ],
)
def test_a_bad_list_of_keys_is_refused_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        keys_from_text(text, "FILE")
    assert A.hex() not in str(refused.value)


def test_the_first_key_signs_and_all_verify() -> None:
    keys = TokenKeys([A, B])
    assert keys.signing_key(0.0) == A
    assert keys.verification_keys(0.0) == (A, B)
    with pytest.raises(ValueError, match="none"):
        TokenKeys([])


def test_a_new_key_verifies_at_once_and_signs_when_all_processes_have_it() -> None:
    keys = TokenKeys([A])
    assert keys.replace([B], 100.0)
    assert keys.verification_keys(100.0) == (B, A)
    assert keys.signing_key(100.0) == A
    assert keys.signing_key(100.0 + ACTIVATION - 0.1) == A
    assert keys.signing_key(100.0 + ACTIVATION) == B


def test_a_key_that_verified_before_signs_at_once() -> None:
    keys = TokenKeys([A, B])
    assert keys.replace([B, A], 100.0)
    assert keys.signing_key(100.0) == B
    keys.replace([B], 200.0)
    assert keys.signing_key(200.0) == B


def test_a_removed_key_verifies_while_another_process_may_sign_with_it() -> None:
    keys = TokenKeys([A])
    keys.replace([B], 100.0)
    last_token = 100.0 + ACTIVATION + ACTIVATION + 30.0  # of the process that saw the change last
    assert A in keys.verification_keys(last_token)
    assert keys.verification_keys(100.0 + RETIRED) == (B,)
    assert repr(keys) == "<TokenKeys: 1 current, 0 retired>"


def test_a_peer_that_may_not_know_the_first_key_is_offered_the_others() -> None:
    keys = TokenKeys([A, B])
    assert keys.signing_keys_to_try(0.0) == (A, B)
    keys.replace([C], 0.0)
    assert keys.signing_keys_to_try(0.0) == (A, C, B)
    assert keys.signing_keys_to_try(ACTIVATION) == (C, A, B)


def test_replacing_keys_by_the_same_ones_changes_nothing() -> None:
    keys = TokenKeys([A])
    assert not keys.replace([A], 1.0)
    assert not keys.replace([], 1.0)
    assert keys.verification_keys(1.0) == (A,)


def test_a_key_that_is_added_again_is_not_retired() -> None:
    keys = TokenKeys([A])
    keys.replace([B], 1.0)
    keys.replace([A], 2.0)
    assert keys.signing_key(2.0) == A
    assert keys.verification_keys(2.0) == (A, B)
    assert keys.verification_keys(2.0 + RETIRED) == (A,)


def test_processes_accept_tokens_of_others_whenever_each_sees_the_change() -> None:
    for seen_by_greeter in (0.0, ACTIVATION / 2, ACTIVATION - 1):
        for seen_by_lobby in (0.0, ACTIVATION / 3, ACTIVATION - 1):
            greeter, lobby = TokenKeys([A]), TokenKeys([A])
            for now in range(0, int(4 * ACTIVATION), 7):
                if now >= seen_by_greeter:
                    greeter.replace([B], float(now))
                if now >= seen_by_lobby:
                    lobby.replace([B], float(now))
                assert greeter.signing_key(float(now)) in lobby.verification_keys(now + 30.0)


def test_a_token_signed_with_any_of_the_keys_is_valid() -> None:
    token = sign(B, purpose=Purpose.SEAT, lobby="a-1", path="/a", expires=10.0)
    verify(token, [A, B], purpose=Purpose.SEAT, lobby="a-1", path="/a", now=0.0)
    with pytest.raises(TokenError, match="forged"):
        verify(token, [A, C], purpose=Purpose.SEAT, lobby="a-1", path="/a", now=0.0)


# Tokens


def token(**changed: Any) -> str:
    return sign(
        KEY, **{"purpose": Purpose.SEAT, "lobby": "prices-3", "path": "/prices", "expires": NOW + 30, **changed}
    )


def check(text: str, **changed: Any) -> Claims:
    arguments = {"keys": [KEY], "purpose": Purpose.SEAT, "lobby": "prices-3", "path": "/prices", "now": NOW, **changed}
    return verify(text, **arguments)


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
    host=st.text(max_size=60),
)
def test_claims_survive_signing_and_verifying(
    *, key: bytes, purpose: Purpose, lobby: str, path: str, expires: float, host: str
) -> None:
    text = sign(key, purpose=purpose, lobby=lobby, path=path, expires=expires, host=host)
    claims = verify(text, [key], purpose=purpose, lobby=lobby, path=path, now=0.0)
    assert claims == Claims(purpose=purpose, lobby=lobby, path=path, expires=expires, nonce=claims.nonce, host=host)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.")


ONE = token()  # the same for all examples: a nonce is random, and Hypothesis repeats what it draws


@given(st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    text = ONE
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=~ é").filter(lambda c: c != text[at]))
    assert problem(text[:at] + other + text[at + 1 :]) in {TokenProblem.FORGED, TokenProblem.MALFORMED}


@given(st.data())
def test_a_truncated_or_extended_token_is_refused(data: st.DataObject) -> None:
    text = ONE
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    longer = text + data.draw(st.text(min_size=1))
    assert {problem(cut), problem(longer)} <= {TokenProblem.FORGED, TokenProblem.MALFORMED}


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    assert problem(text) in {TokenProblem.MALFORMED, TokenProblem.FORGED}


@pytest.mark.parametrize("text", ["", "v1", "v1..", "v1.W10", "v2." + "a" * 40 + "." + "a" * 43, "a" * 3_000_000])
def test_text_that_is_not_a_token_is_malformed(text: str) -> None:
    assert problem(text) is TokenProblem.MALFORMED


def test_a_token_signed_with_another_key_is_forged() -> None:
    assert problem(token(), keys=[bytes(32)]) is TokenProblem.FORGED


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"purpose": Purpose.TRUNK}, TokenProblem.WRONG_PURPOSE),
        ({"lobby": "prices-4"}, TokenProblem.WRONG_LOBBY),
        ({"path": "/prices/"}, TokenProblem.WRONG_PATH),
        ({"now": NOW + 30 + TokenSettings().clock_tolerance_seconds}, TokenProblem.EXPIRED),
        ({"now": NOW + 30_000}, TokenProblem.EXPIRED),
    ],
)
def test_a_valid_token_for_something_else_is_refused_with_the_reason(
    changed: dict[str, Any], why: TokenProblem
) -> None:
    assert problem(token(), **changed) is why
    assert check(token()).lobby == "prices-3"


def test_a_token_is_valid_until_it_has_expired_by_any_tolerable_clock() -> None:
    assert check(token(), now=NOW + 29.999).expires == NOW + 30
    assert check(token(), now=NOW + 60).expires == NOW + 30, "the clock of this node is 30 s ahead"
    assert check(token(), now=NOW - 60).expires == NOW + 30, "the clock of this node is a minute behind"
    assert TokenSettings().clock_tolerance_seconds >= 2 * TokenSettings().ticket_seconds


def test_a_used_token_is_remembered_as_long_as_it_is_accepted() -> None:
    used, claims = UsedTokens(), claims_of("a", 10)
    used.use(claims, 0)
    tolerance = TokenSettings().clock_tolerance_seconds
    assert refused(used, claims, 9 + tolerance) is TokenProblem.USED
    used.use(claims_of("b", 10_000), 10 + tolerance)
    assert len(used) == 1


def test_tokens_are_unique() -> None:
    assert len({token() for _ in range(100)}) == 100


@pytest.mark.parametrize("expires", [math.nan, math.inf])
def test_a_token_must_expire(expires: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        token(expires=expires)


def test_the_longest_name_and_path_fit() -> None:
    text = token(lobby="p" * 63, path="/" + "é" * 127)
    assert len(text) < MAX_TOKEN_CHARACTERS
    assert check(text, lobby="p" * 63, path="/" + "é" * 127).expires == NOW + 30
    assert len(token(lobby=f"{'n' * 63}/{'p' * 63}", path="/" * 512, host="h" * 255)) < MAX_TOKEN_CHARACTERS


def signed(claims: bytes) -> str:
    """A token with any claims and a valid signature, as a newer version of ours might make it."""

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
        b'["seat", "prices-3", "/prices", 1900000000, "n", 1]',
        b'["seat", "prices-3", "/prices", 1900000000, "n", null]',
        b'["seat", "prices-3", "/prices", 1900000000, "n", "h", "more"]',
        b"[" * 1400,
        b'["seat", "prices-3", "/prices", 1' + b"0" * 400 + b', "n"]',
    ],
)
def test_claims_of_another_version_are_malformed(claims: bytes) -> None:
    assert problem(signed(claims)) is TokenProblem.MALFORMED


def test_claims_in_the_current_format_are_read() -> None:
    claims = check(signed(json.dumps(["seat", "prices-3", "/prices", NOW + 1, "nonce"]).encode()))
    assert claims == Claims(purpose=Purpose.SEAT, lobby="prices-3", path="/prices", expires=NOW + 1, nonce="nonce")
    claims = check(signed(json.dumps(["seat", "prices-3", "/prices", NOW + 1, "nonce", "greeter.example"]).encode()))
    assert claims.host == "greeter.example"


def claims_of(nonce: str, expires: float) -> Claims:
    return Claims(purpose=Purpose.SEAT, lobby="prices-3", path="/prices", expires=expires, nonce=nonce)


def refused(used: UsedTokens, claims: Claims, now: float) -> TokenProblem:
    with pytest.raises(TokenError) as caught:
        used.use(claims, now)
    return caught.value.problem


def test_a_token_is_accepted_once() -> None:
    used = UsedTokens(settings=TokenSettings(clock_tolerance_seconds=0))
    used.use(claims_of("a", 10), 0)
    used.use(claims_of("b", 10), 0)
    assert refused(used, claims_of("a", 10), 9.9) is TokenProblem.USED
    assert len(used) == 2


def test_used_tokens_are_forgotten_when_they_expire() -> None:
    used = UsedTokens(settings=TokenSettings(clock_tolerance_seconds=0))
    for number in range(100):
        used.use(claims_of(f"late {number}", 1000), 0)
        used.use(claims_of(f"soon {number}", 10), 0)
    used.use(claims_of("next", 1000), 10)
    assert len(used) == 101


def test_a_full_memory_refuses_tokens_until_one_expires() -> None:
    used = UsedTokens(settings=TokenSettings(used_tokens=2, clock_tolerance_seconds=0))
    used.use(claims_of("a", 20), 0)
    used.use(claims_of("b", 10), 0)
    assert refused(used, claims_of("c", 30), 9) is TokenProblem.NO_ROOM
    assert refused(used, claims_of("a", 20), 9) is TokenProblem.USED
    used.use(claims_of("c", 30), 10)
    assert len(used) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(0, 3)), max_size=60))
def test_no_token_is_accepted_twice_before_it_expires(uses: list[tuple[int, int, int]]) -> None:
    used, opened, now = (
        UsedTokens(settings=TokenSettings(used_tokens=4, clock_tolerance_seconds=0)),
        dict[str, int](),
        0,
    )
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


def test_the_key_of_a_namespace_is_an_hmac_of_its_name() -> None:
    # printf %s shop | openssl dgst -sha256 -mac HMAC -macopt hexkey:abab...
    expected = hmac.new(A, b"shop", hashlib.sha256).digest()
    assert namespace_key(A, "shop") == expected
    assert len({A, B, *(namespace_key(key, name) for key in (A, B) for name in ("shop", "shops"))}) == 6
    assert namespace_key(A, "") == A  # local mode: one user


def test_a_token_of_one_namespace_opens_nothing_in_another() -> None:
    shop, lab = (NamespaceKeys(TokenKeys([A]), name) for name in ("shop", "lab"))
    made = sign(shop.signing_key(0), purpose=Purpose.SEAT, lobby="lab/prices-1", path="/p", expires=1e12)
    lobby = TokenKeys([namespace_key(A, "lab")])
    with pytest.raises(TokenError) as refused:
        verify(made, lobby.verification_keys(0), purpose=Purpose.SEAT, lobby="lab/prices-1", path="/p", now=0)
    assert refused.value.problem is TokenProblem.FORGED
    made = sign(lab.signing_key(0), purpose=Purpose.SEAT, lobby="lab/prices-1", path="/p", expires=1e12)
    claims = verify(made, lobby.verification_keys(0), purpose=Purpose.SEAT, lobby="lab/prices-1", path="/p", now=0)
    assert claims.lobby == "lab/prices-1"


def test_keys_of_a_namespace_follow_the_master_keys() -> None:
    master = TokenKeys([A])
    keys = NamespaceKeys(master, "shop")
    master.replace([B], 0.0)
    assert keys.signing_key(0.0) == namespace_key(A, "shop")
    assert keys.signing_keys_to_try(0.0) == (namespace_key(A, "shop"), namespace_key(B, "shop"))
    assert keys.signing_key(ACTIVATION) == namespace_key(B, "shop")
