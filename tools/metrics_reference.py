"""`docs/metrics.md`, made from the tables: `python -m tools.metrics_reference > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from lobby_gateway import close_codes
from lobby_gateway.metrics import GREETER, LAG_BUCKETS, LOBBY, PROCESS, Definition, Label
from lobby_operator.kube.metrics import API_CALLS, OPERATOR
from lobby_operator.metrics import LOBBY_HOST
from lobby_operator.planner.reasons import ACTION_REASONS, placeholders

_INTRODUCTION = """\
# Metrics

<!-- Made from the code by `python -m tools.metrics_reference`; a test fails when they differ. -->

Every process answers on its admin port at `/metrics`, in the format that Prometheus asks for (text or OpenMetrics).
[operations.md](operations.md) says which process has which port. Counters count from the start of the process.

No label is without a bound. Its values are listed below, and those that are known start at 0; a label `lobby` holds keys of
Lobbies (`namespace/name`, in local mode the name), of which there are as many as somebody made: no client, address or lobby's
name ever becomes a label.
"""

_PARTS: tuple[tuple[str, str, tuple[Definition, ...]], ...] = (
    ("A lobby", "What it has from its origin, and what it hands to its direct clients and to greeters.", LOBBY),
    ("A greeter", "What it has from lobbies over trunks, and what it hands to its clients.", GREETER),
    ("The lobby host", "In local mode it is `lobby up` that answers.", LOBBY_HOST),
    ("The operator", "Of the lobby host on Kubernetes only.", (*API_CALLS, *OPERATOR)),
    ("Every process", "", PROCESS),
)

_READ = """\
## How to read them

| question | expression |
| --- | --- |
| How many clients are there? | `sum(lobby_clients)` |
| How full is it? | `sum by (lobby) (lobby_operator_clients) / sum by (lobby) (lobby_operator_seats)` |
| Do clients wait for a seat? | `sum by (lobby) (greeter_waiting_clients)` |
| How many messages reach clients a second? | `sum(rate({__name__=~"(lobby\\|greeter)_deliveries_total"}[1m]))` |
| How much is dropped, of what reaches clients? | `rate(greeter_dropped_messages_total[5m]) \
/ rate(greeter_deliveries_total[5m])` |
| Is an origin away? | `max by (state) (lobby_origin_state{state=~"Waiting\\|Refused"}) == 1` |
| How often did origins have to be connected again? | `increase(lobby_origin_connections_total[1h])` |
| Did clients miss messages when they moved? | `increase(greeter_moves_total{verdict="live"}[1h])` |
| Is a process too busy? | `histogram_quantile(0.99, rate(greeter_event_loop_lag_seconds_bucket[5m])) > 0.05` |

The alert rules and the dashboard of the chart ask more: [alerts.md](alerts.md), `charts/lobby-gateway/dashboards`.

## How Prometheus finds the processes

Rules and dashboard count on these labels: `job` (`operator`, `greeter` or `lobby`), `pod` (name of the process), `namespace`
in a cluster, and for a lobby its `lobby`: namespace/name of the Lobby, in local mode its name.

In a cluster with the Prometheus operator the chart's PodMonitor sees to it (`metrics.podMonitor.enabled`). Without it:

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

`lobby up` tells where its processes are, and these labels, on its admin port (`/targets`):

```yaml
scrape_configs:
- job_name: lobby-gateway
  http_sd_configs:
  - {url: "http://127.0.0.1:8001/targets", refresh_interval: 10s}
```
"""


def render() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for title, text, table in _PARTS:
        parts.append(f"## {title}\n")
        if text:
            parts.append(f"{text}\n")
        parts += ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |", *map(_row, table), ""]
    buckets = ", ".join(f"{bound:g}" for bound in LAG_BUCKETS)
    parts += ["## Values of the labels\n", *_values(), f"Buckets of the histograms, in seconds: {buckets}.\n", _READ]
    return "\n".join(parts)


def _row(definition: Definition) -> str:
    labels = ", ".join(f"`{label.name}`" for label in definition.labels)
    return f"| `{definition.name}` | {definition.kind} | {labels} | {definition.text} |"


def _values() -> Iterator[str]:
    """A table of all labels, then one for each kind of reason."""
    used: dict[Label, list[str]] = {}
    for _, _, table in _PARTS:
        for definition in table:
            for label in definition.labels:
                used.setdefault(label, []).append(definition.name)
    yield "| label | of | values |\n| --- | --- | --- |"
    for label, names in used.items():
        values = ", ".join(f"`{value}`" for value in label.values) or label.bound
        yield f"| `{label.name}` | {', '.join(f'`{name}`' for name in names)} | {values} |"
    yield "\n### Why a handshake is refused\n"
    yield from _table(
        ("reason", "status", "what the client is told", "what it should do"),
        ((each.label, each.status, each.explanation, each.client_should) for each in close_codes.REFUSALS),
    )
    yield "### Why a client is gone\n"
    yield from _table(
        ("reason", "close code", "what it is told", "what it should do"),
        (
            *((each.label, each.code, each.reason, each.client_should) for each in close_codes.CLOSES),
            (close_codes.BY_CLIENT, "its own", "", "nothing: it closed by itself"),
            (close_codes.LOST, 1006, "", "the connection ended without a close: reconnect"),
        ),
    )
    yield "### Why the lobby host acts\n"
    yield from _table(
        ("reason", "what is logged"), ((why.value, placeholders(sentence)) for why, sentence in ACTION_REASONS.items())
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n|{' --- |' * len(head)}"
    for name, *rest in rows:
        yield f"| `{name}` | {' | '.join(map(str, rest))} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(render())
