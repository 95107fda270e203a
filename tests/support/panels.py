"""The dashboard's queries, answered by a running Prometheus."""

from __future__ import annotations

import math
from collections.abc import Collection

from tests.support.prometheus import Prometheus
from tests.support.promql import metrics_named
from tools.dashboard import ROWS, Query


def panels(*, without: Collection[str] = ()) -> list[tuple[str, Query]]:
    """Every dashboard query with its panel title, except those that use certain metrics."""
    found = [(panel.title, query) for row in ROWS for panel in row.panels for query in panel.queries]
    return [(title, query) for title, query in found if not metrics_named(query.expression) & set(without)]


def filled(expression: str, *, window: str) -> str:
    """A query as Grafana sends it with all installations and Lobbies selected; `window` is the range of rates."""
    return expression.replace("$__rate_interval", window).replace("$namespace", ".*").replace("$lobby", ".*")


async def without_data(server: Prometheus, queries: Collection[tuple[str, Query]], *, window: str) -> list[str]:
    """Panels without data, each with query and response."""
    empty = []
    for title, query in queries:
        series = await server.query(filled(query.expression, window=window))
        if not any(math.isfinite(value) for _, value in series):
            empty.append(f"{title}: {query.expression} -> {series}")
    return empty


async def number(server: Prometheus, title: str, *, window: str) -> float:
    """The value of a single-number panel."""
    (query,) = [query for panel, query in panels() if panel == title]
    ((_, value),) = await server.query(filled(query.expression, window=window))
    return value
