"""Keys that take over from each other, in virtual time."""

from __future__ import annotations

import pytest

from lobby_gateway.clients.tokens import (
    KEEP_SECONDS,
    SETTLE_SECONDS,
    Purpose,
    TokenError,
    TokenKeys,
    keys_from_text,
    sign,
    verify,
)
from lobby_gateway.errors import UserError

A, B, C = (bytes([each]) * 32 for each in b"abc")


def test_one_line_is_one_key() -> None:
    assert keys_from_text(f"{A.hex()}\n", "FILE") == (A,)


def test_of_several_lines_the_first_is_first_and_empty_ones_are_passed_over() -> None:
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
def test_what_is_no_list_of_keys_is_said_without_showing_it(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        keys_from_text(text, "FILE")
    assert A.hex() not in str(refused.value)


def test_the_first_key_signs_and_all_are_good() -> None:
    keys = TokenKeys([A, B])
    assert keys.signing(0.0) == A
    assert keys.good(0.0) == (A, B)
    with pytest.raises(ValueError, match="none"):
        TokenKeys([])


def test_a_key_never_seen_before_is_good_at_once_and_signs_when_all_have_it() -> None:
    keys = TokenKeys([A])
    assert keys.replace([B], 100.0)
    assert keys.good(100.0) == (B, A)
    assert keys.signing(100.0) == A
    assert keys.signing(100.0 + SETTLE_SECONDS - 0.1) == A
    assert keys.signing(100.0 + SETTLE_SECONDS) == B


def test_a_key_that_was_good_before_signs_at_once() -> None:
    keys = TokenKeys([A, B])
    assert keys.replace([B, A], 100.0)
    assert keys.signing(100.0) == B
    keys.replace([B], 200.0)
    assert keys.signing(200.0) == B


def test_a_key_that_is_taken_away_stays_good_while_somebody_may_sign_with_it() -> None:
    keys = TokenKeys([A])
    keys.replace([B], 100.0)
    last_token = 100.0 + SETTLE_SECONDS + SETTLE_SECONDS + 30.0  # of one who saw the change last of all
    assert A in keys.good(last_token)
    assert keys.good(100.0 + KEEP_SECONDS) == (B,)
    assert repr(keys) == "<TokenKeys: 1, and 0 former ones>"


def test_who_may_not_know_the_first_key_is_tried_with_the_others() -> None:
    keys = TokenKeys([A, B])
    assert keys.to_try(0.0) == (A, B)
    keys.replace([C], 0.0)
    assert keys.to_try(0.0) == (A, C, B)
    assert keys.to_try(SETTLE_SECONDS) == (C, A, B)


def test_the_same_again_is_no_news() -> None:
    keys = TokenKeys([A])
    assert not keys.replace([A], 1.0)
    assert not keys.replace([], 1.0)
    assert keys.good(1.0) == (A,)


def test_a_key_that_comes_back_is_no_former_one() -> None:
    keys = TokenKeys([A])
    keys.replace([B], 1.0)
    keys.replace([A], 2.0)
    assert keys.signing(2.0) == A
    assert keys.good(2.0) == (A, B)
    assert keys.good(2.0 + KEEP_SECONDS) == (A,)


def test_whenever_two_processes_see_the_change_each_takes_the_others_tokens() -> None:
    for seen_by_greeter in (0.0, SETTLE_SECONDS / 2, SETTLE_SECONDS - 1):
        for seen_by_lobby in (0.0, SETTLE_SECONDS / 3, SETTLE_SECONDS - 1):
            greeter, lobby = TokenKeys([A]), TokenKeys([A])
            for now in range(0, int(4 * SETTLE_SECONDS), 7):
                if now >= seen_by_greeter:
                    greeter.replace([B], float(now))
                if now >= seen_by_lobby:
                    lobby.replace([B], float(now))
                assert greeter.signing(float(now)) in lobby.good(now + 30.0)


def test_a_token_is_good_if_any_of_the_keys_signed_it() -> None:
    token = sign(B, purpose=Purpose.SEAT, lobby="a-1", path="/a", expires=10.0)
    verify(token, [A, B], purpose=Purpose.SEAT, lobby="a-1", path="/a", now=0.0)
    with pytest.raises(TokenError, match="forged"):
        verify(token, [A, C], purpose=Purpose.SEAT, lobby="a-1", path="/a", now=0.0)
