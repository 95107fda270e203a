from __future__ import annotations

import re
from pathlib import Path

import pytest

from lobby_gateway import close_codes

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def documented(head: str) -> list[tuple[int, str, bool]]:
    """Number, label, and whether Retry-After is named, for each row with a label."""
    start = PAGE.index(f"| {head} | label | when |")
    rows = PAGE[start : PAGE.index("\n\n", start)].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [
        (int(number.split()[0]), label, "Retry-After" in number)
        for number, labels, _ in cells
        for label in re.findall(r"`(\w+)`", labels)
    ]


def test_operations_md_lists_exactly_the_refusals() -> None:
    known = [(each.status, each.label, each.retry_after is not None) for each in close_codes.REFUSALS]
    assert sorted(documented("answer")) == sorted(known)


def test_operations_md_lists_exactly_the_close_codes() -> None:
    known = [(each.code, each.label, False) for each in close_codes.CLOSES]
    assert sorted(documented("close code")) == sorted(known)
    assert f"`{close_codes.BY_CLIENT}`" in PAGE
    assert f"`{close_codes.LOST}`" in PAGE


def test_tables_hold_everything_that_is_defined() -> None:
    defined = [
        each for each in vars(close_codes).values() if isinstance(each, close_codes.Refusal | close_codes.CloseCode)
    ]
    assert len(defined) == len(close_codes.REFUSALS) + len(close_codes.CLOSES)
    assert set(defined) == {*close_codes.REFUSALS, *close_codes.CLOSES}


def test_labels_are_unique() -> None:
    for labels in ([each.label for each in close_codes.REFUSALS], list(close_codes.CLOSE_LABELS)):
        assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("close", close_codes.CLOSES, ids=lambda close: close.label)
def test_close_codes_may_be_sent(close: close_codes.CloseCode) -> None:
    # RFC 6455 §7.4: 1004 to 1006 and 1015 are never sent, and a reason has at most 123 bytes.
    assert 1000 <= close.code <= 1003 or 1007 <= close.code <= 1014 or 3000 <= close.code <= 4999
    assert len(close.reason.encode()) <= 123


@pytest.mark.parametrize("refusal", close_codes.REFUSALS, ids=lambda refusal: refusal.label)
def test_a_client_that_should_retry_later_is_told_when(refusal: close_codes.Refusal) -> None:
    assert 400 <= refusal.status <= 599
    assert (refusal.retry_after is None) or refusal.retry_after > 0
    assert ("Retry-After" not in refusal.client_should) or refusal.retry_after is not None
