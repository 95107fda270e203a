"""Renders `docs/metrics.md` from the tables of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lobby_gateway import close_codes
from lobby_gateway.metrics import GREETER, LAG_BUCKETS, LOBBY, PROCESS, Definition, Label
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.metrics import LOBBY_HOST
from lobby_operator.planner.reasons import ACTION_REASONS, placeholders

_INTRODUCTION = """\
# Metrics

<!-- Generated from the code by `make docs`; a test fails when this page is out of date. -->

Every process serves `/metrics` on its admin port, in the format that Prometheus requests (text or OpenMetrics).
[operations.md](operations.md) lists the ports. Counters start at 0 when the process starts.

Every label has a bounded set of values, listed below; series for known values start at 0. The label `lobby` holds the key of a
Lobby (`namespace/name`, or the name in local mode), so it has one value per Lobby. Clients, addresses and names of single
lobbies never become labels.
"""

_PARTS: tuple[tuple[str, str, tuple[Definition, ...]], ...] = (
    ("A lobby", "What it receives from its origin, and what it sends to its direct clients and to greeters.", LOBBY),
    ("A greeter", "What it receives from lobbies over trunks, and what it sends to its clients.", GREETER),
    ("The lobby host", "In local mode, `lobby up` serves these.", LOBBY_HOST),
    ("The operator", "In addition to the lobby host's metrics, on Kubernetes only.", (*API_CALLS, *OPERATOR)),
    ("Every process", "", PROCESS),
)

_READ = """\
## Useful queries

| question | expression |
| --- | --- |
| How many clients are there? | `sum(lobby_clients)` |
| How full are the lobbies? | `sum by (lobby) (lobby_operator_clients) / sum by (lobby) (lobby_operator_seats)` |
| Are clients waiting for a seat? | `sum by (lobby) (greeter_waiting_clients)` |
| How many messages per second reach clients? | `sum(rate({__name__=~"(lobby\\|greeter)_deliveries_total"}[1m]))` |
| How many messages are dropped per delivered message, and why? | \
`sum by (reason) (rate({__name__=~"(lobby\\|greeter)_dropped_messages_total"}[5m])) \
/ on () group_left () sum(rate({__name__=~"(lobby\\|greeter)_deliveries_total"}[5m]))` |
| How many clients lag, and why? | `sum by (cause) ({__name__=~"(lobby\\|greeter)_clients_behind"})` |
| Is an origin disconnected? | `max by (state) (lobby_origin_state{state=~"Waiting\\|Refused"}) == 1` |
| How many origin connections were made? | `increase(lobby_origin_connections_total[1h])` |
| Did clients miss messages when they moved? | `increase(greeter_moves_total{verdict="live"}[1h])` |
| Is a process too busy? | `histogram_quantile(0.99, rate(greeter_event_loop_lag_seconds_bucket[5m])) > 0.05` |

The chart's alert rules ([alerts.md](alerts.md)) and dashboard (`charts/lobby-gateway/dashboards`) have more.

## Scraping

The rules and the dashboard rely on these labels: `job` (`operator`, `greeter` or `lobby`), `pod` (name of the process),
`namespace` in a cluster, and for lobbies `lobby`: namespace/name of the Lobby, or its name in local mode.

In a cluster with the Prometheus operator, the chart's PodMonitor sets them (`metrics.podMonitor.enabled`). Without it:

```yaml
scrape_configs:
- job_name: lobby-gateway
  kubernetes_sd_configs:
  - role: pod
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], regex: lobby-gateway, action: keep}
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: admin, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Running, action: keep}
  - {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_component], target_label: job}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_label_lobby_gateway_io_lobby]
    separator: /
    regex: (.+/.+)
    target_label: lobby
```

`lobby up` serves its targets with these labels on its admin port (`/targets`):

```yaml
scrape_configs:
- job_name: lobby-gateway
  http_sd_configs:
  - {url: "http://127.0.0.1:8001/targets", refresh_interval: 10s}
```
"""


def render() -> str:
    """Renders the page."""
    parts = [_INTRODUCTION]
    for title, text, table in _PARTS:
        parts.append(f"## {title}\n")
        if text:
            parts.append(f"{text}\n")
        parts += ["| metric | type | labels | description |", "| --- | --- | --- | --- |", *map(_row, table), ""]
    buckets = ", ".join(f"{bound:g}" for bound in LAG_BUCKETS)
    parts += ["## Label values\n", *_values(), f"Buckets of the histograms, in seconds: {buckets}.\n", _READ]
    return "\n".join(parts)


def _row(definition: Definition) -> str:
    labels = ", ".join(f"`{label.name}`" for label in definition.labels)
    return f"| `{definition.name}` | {definition.kind} | {labels} | {definition.text} |"


def _values() -> Iterator[str]:
    """A table of all labels, then one for each group of reasons."""
    used: dict[Label, list[str]] = {}
    for _, _, table in _PARTS:
        for definition in table:
            for label in definition.labels:
                used.setdefault(label, []).append(definition.name)
    yield "| label | metrics | values |\n| --- | --- | --- |"
    for label, names in used.items():
        values = ", ".join(f"`{value}`" for value in label.values) or label.bound
        yield f"| `{label.name}` | {', '.join(f'`{name}`' for name in names)} | {values} |"
    yield "\n### Reasons for refusing a handshake\n"
    yield from _table(
        ("reason", "status", "explanation", "what the client should do"),
        ((each.label, each.status, each.explanation, each.client_should) for each in close_codes.REFUSALS),
    )
    yield "### Reasons for closing a client\n"
    yield from _table(
        ("reason", "close code", "close reason", "what the client should do"),
        (
            *((each.label, each.code, each.reason, each.client_should) for each in close_codes.CLOSES),
            (close_codes.BY_CLIENT, "its own", "", "nothing: the client closed the connection"),
            (close_codes.LOST, 1006, "", "reconnect: the connection ended without a close frame"),
        ),
    )
    yield "### Reasons for actions of the lobby host\n"
    yield from _table(
        ("reason", "log message"), ((why.value, placeholders(sentence)) for why, sentence in ACTION_REASONS.items())
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n|{' --- |' * len(head)}"
    for name, *rest in rows:
        yield f"| `{name}` | {' | '.join(map(str, rest))} |"
    yield ""
