from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.secrets import LONGEST, Redactor


def test_text_becomes_one_printable_line() -> None:
    assert Redactor().line("two\r\n lines\x00 and\ttabs \u202e ") == "two lines and tabs"


def test_long_text_is_cut() -> None:
    line = Redactor().line("x" * 1000)
    assert len(line) == LONGEST
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
    secret=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="*…"), min_size=4, max_size=20),
    before=st.text(max_size=300),
    after=st.text(max_size=300),
)
def test_secret_never_comes_through(secret: str, before: str, after: str) -> None:
    line = Redactor([secret]).line(before + secret + after)
    assert secret not in line
    assert len(line) <= LONGEST
    assert line.isprintable()
