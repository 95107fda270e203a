from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.redaction import MAX_REASON_CHARACTERS, Redactor

KEY = "k3y\"/\\ é=+%41&😀'<x>"


def json_text(text: str) -> str:
    return json.dumps(text)[1:-1]


def percent_lower(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def base64_text(text: str) -> str:
    return b64encode(text.encode()).decode()


ENCODERS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json_text,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON as of Go": lambda text: (
        json_text(text).replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
    ),
    "JSON as of PHP": lambda text: json_text(text).replace("/", r"\/"),
    "JSON in JSON": lambda text: json_text(json_text(text)),
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded path": quote,
    "percent-encoded component": lambda text: quote(text, safe="!'()*~"),
    "percent-encoded in lower case": percent_lower,
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "HTML": html.escape,
    "HTML in numbers": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "Python": lambda text: repr(text)[1:-1],
    "bytes of Python": lambda text: repr(text.encode())[2:-1],
    "JavaScript": lambda text: "".join(f"\\u{{{ord(character):x}}}" for character in text),
    "base64": base64_text,
    "base64 without padding": lambda text: base64_text(text).rstrip("="),
    "base64 of a URL": lambda text: urlsafe_b64encode(text.encode()).decode(),
    "base64 behind a user": lambda text: base64_text(f"u:{text}"),
    "base64 behind a user's name": lambda text: base64_text(f"us:{text}"),
    "base64 behind text": lambda text: f"token_{base64_text(text)}",
    "base64 in a URL": lambda text: quote(base64_text(text), safe=""),
    "base64 of JSON": lambda text: base64_text(json.dumps({"key": text})),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in upper case": lambda text: text.encode().hex().upper(),
}


@pytest.mark.parametrize("secret", [KEY, "abcd", "hunter22", "a b/c+d", "Zm9vYmFy" * 15])
@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_secret_is_hidden_however_it_is_encoded(encode: Callable[[str], str], secret: str) -> None:
    shown = Redactor([secret]).line(f"invalid key: {encode(secret)}, see https://docs.example.com")
    assert shown in (
        "invalid key: ***, see https://docs.example.com",
        "invalid key: ***=, see https://docs.example.com",
        "invalid key: ***==, see https://docs.example.com",
        "invalid key: ***%3D, see https://docs.example.com",
        "invalid key: ***%3D%3D, see https://docs.example.com",
    )


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_secret_that_was_cut_is_hidden(encode: Callable[[str], str]) -> None:
    secret = "".join(f'{number:x}!/é"' for number in range(1000, 1100))
    reason = f"1008 (invalid key: {encode(secret)[:80]}…)"
    shown = Redactor([f"Bearer {secret}"]).line(reason)
    assert shown.replace(" ", "").startswith("1008(invalidkey:***"), shown
    assert len(shown) < 32  # at most half an escape is left


@pytest.mark.parametrize("length", range(8, 16))
def test_beginning_of_a_secret_at_the_end_is_hidden(length: int) -> None:
    secret = "0123456789abcdefgh"
    assert Redactor([secret]).line(f"1008 (no key {secret[:length]})") == "1008 (no key ***)"


def test_text_that_merely_resembles_a_secret_stays() -> None:
    redactor = Redactor(["https://app.example.com", "Bearer 0123456789abcdef", "hunter22"])
    for text in ("see https://docs.example.com", "0123456 is no key", "aHVudGVy", "hunter2", "100%41 sure"):
        assert redactor.line(text) == text


def test_several_secrets_are_hidden_and_the_rest_is_kept() -> None:
    redactor = Redactor(["hunter22", "swordfish"])
    assert redactor.hide("\ta hunter22\nb\\u0073wordfish c%68unter22") == "\ta ***\nb*** c***"


def test_long_text_is_searched_within_bounds() -> None:
    text = "eyJhbGciOiJIUzI1NiJ9%25252525" * 3000
    assert len(Redactor(["hunter22" * 1000]).line(text)) == MAX_REASON_CHARACTERS


def test_a_piece_of_a_long_secret_is_hidden_wherever_it_was_cut_out() -> None:
    secret = "".join(f"{number:x}!" for number in range(1000, 1100))
    redactor = Redactor([secret, secret[::-1]])
    for start in range(40):
        for length in (15, 16, 17, 24, 100):
            piece = secret[start : start + length]
            assert redactor.hide(f"x{piece}y") == ("x***y" if length >= 16 else f"x{piece}y")


def test_what_a_secret_repeats_is_hidden_without_a_search_for_all_its_places() -> None:
    redactor = Redactor(["ab" * 5000 + "".join(f"{number:x}!" for number in range(1000, 1100))])
    assert redactor.hide("no " + "ab" * 5 + " there") == "no *** there"
    assert redactor.hide("x" + "3e9!3ea!3eb!3ec!") == "x***"
    assert redactor.hide("abab and 3e9!3ea") == "abab and 3e9!3ea"


def test_text_becomes_one_printable_line() -> None:
    assert Redactor().line("two\r\n lines\x00 and\ttabs \u202e ") == "two lines and tabs"


def test_long_text_is_cut() -> None:
    line = Redactor().line("x" * 1000)
    assert len(line) == MAX_REASON_CHARACTERS
    assert line.endswith("x…")


def test_secret_is_replaced_as_it_is_and_as_it_stood_in_the_url() -> None:
    redactor = Redactor(["a b/c+d", "Bearer abc123"])
    assert redactor.line("1 a b/c+d 2 a%20b%2Fc%2Bd 3 a+b%2Fc%2Bd 4") == "1 *** 2 *** 3 *** 4"
    assert redactor.line("token abc123 is void") == "token *** is void"


def test_secret_inside_another_leaves_nothing_of_either() -> None:
    assert Redactor(["hunter", "hunter22"]).line("no hunter22") == "no ***"


def test_secret_is_not_put_together_by_what_is_taken_out() -> None:
    assert "hunter 22" not in Redactor(["hunter 22"]).line("hunter\x00\x0022 hunter\n22")


def test_too_short_texts_make_no_holes() -> None:
    assert Redactor(["4", "01", ""]).line("HTTP 401") == "HTTP 401"


def test_repr_shows_no_secret() -> None:
    assert "hunter22" not in repr(Redactor(["hunter22"]))


@given(
    encodes=st.lists(st.sampled_from(list(ENCODERS)), max_size=2),
    secret=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="*…"), min_size=4, max_size=20),
    before=st.text(max_size=300),
    after=st.text(max_size=300),
)
def test_secret_never_comes_through(encodes: list[str], secret: str, before: str, after: str) -> None:
    encoded = secret
    for name in encodes:
        encoded = ENCODERS[name](encoded)
    between = " " if encodes else ""  # or "%" before it would be half an escape
    line = Redactor([secret]).line(f"{before}{between}{encoded}{between}{after}")
    assert secret not in line
    assert encoded not in line
    assert len(line) <= MAX_REASON_CHARACTERS
    assert line.isprintable()
