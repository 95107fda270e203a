"""Checks PromQL expressions against the tables of metrics; covers the syntax used in our rules and panels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lobby_gateway.metrics import GREETER, LOBBY, PROCESS, Definition
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.metrics import LOBBY_HOST

TARGET_LABELS = frozenset({"namespace", "pod", "job", "lobby", "instance"})
"""Given by Prometheus to all that it scrapes; `lobby` to the lobbies."""

_OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset"})
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_]\w*)?\s*\{([^{}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_NAME = re.compile(r"\b([a-zA-Z_]\w*)\b(?!\s*\()")


@dataclass(frozen=True)
class Selector:
    """A selector of series.

    Attributes:
        metrics: names of the selected metrics.
        matchers: label, operator and value of each.
    """

    metrics: tuple[str, ...]
    matchers: tuple[tuple[str, str, str], ...] = ()


def known() -> dict[str, Definition]:
    """Every metric by the names of its series."""
    tables = (*LOBBY, *GREETER, *LOBBY_HOST, *API_CALLS, *OPERATOR, *PROCESS)
    return {
        f"{definition.name}{suffix}": definition
        for definition in tables
        for suffix in (_OF_HISTOGRAMS if definition.kind == "histogram" else ("",))
    }


KNOWN = known()


def selectors(expression: str) -> Iterator[Selector]:
    """All selectors in an expression.

    Raises:
        AssertionError: a regular expression for names has an alternative that matches no metric.
    """
    rest = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", expression))
    for name, inside in _SELECTOR.findall(rest):
        matchers = tuple(_MATCHER.findall(inside))
        if name:
            yield Selector((name,), matchers)
            continue
        ((_, _, names),) = [matcher for matcher in matchers if matcher[0] == "__name__"]
        found = tuple(each for each in KNOWN if re.fullmatch(names, each))
        assert len(found) == 1 + names.count("|"), (names, found)
        yield Selector(found, tuple(matcher for matcher in matchers if matcher[0] != "__name__"))
    for name in _NAME.findall(re.sub(r'"[^"]*"', "", _SELECTOR.sub("", rest))):
        if name not in _KEYWORDS:
            yield Selector((name,))


def metrics_named(expression: str) -> set[str]:
    """Names of all metrics in an expression."""
    return {name for selector in selectors(expression) for name in selector.metrics}


def check(expression: str) -> None:
    """Checks that every metric, label and label value in an expression exists; `$` starts a dashboard variable.

    Raises:
        AssertionError: one does not exist.
    """
    used = list(selectors(expression))
    assert used, expression
    labels = set(TARGET_LABELS)
    for selector in used:
        for name in selector.metrics:
            assert name in KNOWN, name
            definition = {label.name: label for label in KNOWN[name].labels}
            labels |= {*definition, *(("le",) if name.endswith("_bucket") else ())}
            for label, operator, value in selector.matchers:
                assert label in {*definition, *TARGET_LABELS}, (name, label)
                if "$" in value or label not in definition or definition[label].bound:
                    continue
                for alternative in value.split("|") if "~" in operator else [value]:
                    assert alternative in definition[label].values, (name, label, alternative)
    for _, grouped in _GROUPING.findall(expression):
        for label in filter(None, re.split(r"[\s,]+", grouped)):
            assert label in labels, label
