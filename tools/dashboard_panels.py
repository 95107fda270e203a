"""What the dashboard shows: its panels and their queries. How they look as Grafana's JSON is in `dashboard.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOBBY = 'lobby=~"$lobby"'
"""Of a lobby's own metrics: their pods have the label from Prometheus, and may be in any namespace."""

INSTALLED = 'namespace=~"$namespace"'
"""Of greeters and operators, by the namespace in which they are."""

BOTH = f"{INSTALLED}, {LOBBY}"
RATE = "[$__rate_interval]"


class PanelType(StrEnum):
    """How a panel shows its figures; the value is Grafana's word."""

    LINES = "timeseries"
    NUMBER = "stat"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: PromQL, with Grafana's variables.
        legend: names each of its series.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: short.
        text: what it shows and when to worry.
        queries: of it.
        unit: Grafana's word for it; `short` is a plain number.
        kind: how it looks.
        stacked: the series are parts of a whole.
    """

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: PanelType = PanelType.LINES
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one title."""

    title: str
    panels: tuple[Panel, ...]


def _number(title: str, expression: str, text: str, unit: str = "short") -> Panel:
    return Panel(title, text, (Query(expression),), unit, PanelType.NUMBER)


def _of_processes(expression: str) -> tuple[Query, ...]:
    """Metrics that every program has: those of ours, by what else they tell."""
    kinds = (
        f"lobby_operator_leader{{{INSTALLED}}}",
        f"greeter_trunks{{{INSTALLED}}}",
        f"lobby_seats{{{LOBBY}}}",
    )
    return tuple(Query(f"{expression} and on (instance) {kind}", "{{pod}}") for kind in kinds)


_AT_A_GLANCE = Row(
    "At a glance",
    (
        _number("Clients",
            f"sum(greeter_clients{{{BOTH}}}) + (sum(lobby_clients{{{LOBBY}, via=\"direct\"}}) or vector(0))",
            "Connected now, through greeters or directly."),
        _number("Clients that wait", f"sum(greeter_waiting_clients{{{BOTH}}})", "For a seat. 0 but for moments."),
        _number("Free seats",
            f"sum(max by (lobby) (lobby_operator_seats{{{BOTH}}}) - max by (lobby) (lobby_operator_clients{{{BOTH}}}))",
            "Of lobbies that take clients."),
        _number("Lobbies", f"count(lobby_seats{{{LOBBY}}}) or vector(0)", "Processes that answer Prometheus."),
        _number("Origins away", f"sum(lobby_origin_state{{{LOBBY}, state=~\"Waiting|Refused\"}}) or vector(0)",
            "Lobbies whose origin connection was lost or refused. It should be 0."),
        _number("Deliveries a second",
            f"sum(rate(greeter_deliveries_total{{{INSTALLED}}}{RATE})) + "
            f"(sum(rate(lobby_deliveries_total{{{LOBBY}}}{RATE})) or vector(0))",
            "Messages handed to clients, through greeters or directly."),
    ),
)  # fmt: skip

_SEATS = Row(
    "Clients and seats",
    (
        Panel("Clients and seats", "Of each Lobby: seats taken, and seats of lobbies that take clients.", (
            Query(f"max by (lobby) (lobby_operator_clients{{{BOTH}}})", "{{lobby}} clients"),
            Query(f"max by (lobby) (lobby_operator_seats{{{BOTH}}})", "{{lobby}} seats"),
        )),
        Panel("How full", "Seats taken of those that there are. Above 1 while clients of draining lobbies move.", (
            Query(f"max by (lobby) (lobby_operator_clients{{{BOTH}}}) / (max by (lobby) (lobby_operator_seats{{{BOTH}}}) > 0)",
                "{{lobby}}"),
        ), "percentunit"),
        Panel("Clients that wait for a seat", "Moments are normal when a rush begins; more is LobbyClientsWait.", (
            Query(f"sum by (lobby) (greeter_waiting_clients{{{BOTH}}})", "{{lobby}}"),
        )),
        Panel("Lobbies by phase", "Silent ones do not answer; settling ones do again, and must go on doing so first.", (
            Query(f"sum by (phase) (max by (lobby, phase) (lobby_operator_lobbies{{{BOTH}}}))", "{{phase}}"),
        ), stacked=True),
        Panel("Clients of each lobby", "How lobbies fill and drain.", (
            Query(f"sum by (pod) (lobby_clients{{{LOBBY}}})", "{{pod}}"),
        ), stacked=True),
        Panel("Lobbies of those that may run", "At 1 no more are made, whoever waits: LobbyAtMaximum.", (
            Query(f"sum by (lobby) (max by (lobby, phase) (lobby_operator_lobbies{{{BOTH}, phase!=\"Ended\"}}))"
                f" / max by (lobby) (lobby_operator_max_replicas{{{BOTH}}})", "{{lobby}}"),
        ), "percentunit"),
        Panel("What the lobby host does", "Lobbies created, drained and deleted, and why.", (
            Query(f"sum by (action, reason) (increase(lobby_operator_actions_total{{{BOTH}}}{RATE}))",
                "{{action}} {{reason}}"),
        )),
        Panel("Failed starts", "Lobbies in a row that did not start; 0 once one did.", (
            Query(f"max by (lobby) (lobby_operator_failed_starts{{{BOTH}}})", "{{lobby}}"),
        )),
        Panel("Conditions", "What the status of each Lobby says.", (
            Query(f"max by (lobby, condition, reason) (lobby_operator_condition{{{BOTH}}}) == 1"),
        ), kind=PanelType.TABLE),
    ),
)  # fmt: skip

_ORIGINS = Row(
    "Origins",
    (
        Panel("Origin connections", "Idle: nobody wants messages. Waiting: lost, and tried again. Refused: 401 or 403.", (
            Query(f"sum by (state) (lobby_origin_state{{{LOBBY}}})", "{{state}}"),
        ), stacked=True),
        Panel("Lobbies without their origin", "Waiting or refused, by Lobby.", (
            Query(f"sum by (lobby) (lobby_origin_state{{{LOBBY}, state=~\"Waiting|Refused\"}})", "{{lobby}}"),
        )),
        Panel("Connections made", "More than lobbies were made: origins had to be connected again.", (
            Query(f"sum by (lobby) (increase(lobby_origin_connections_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        )),
        Panel("What goes wrong with origins", "By what went wrong, a second.", (
            Query(f"sum by (failure) (rate(lobby_origin_failures_total{{{LOBBY}}}{RATE}))", "{{failure}}"),
        )),
        Panel("Messages from origins", "A second. All lobbies of a Lobby get the same ones, so the most of them counts.", (
            Query(f"max by (lobby) (rate(lobby_messages_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        )),
        Panel("Bytes from origins", "A second, over all lobbies: what the origins' connections carry.", (
            Query(f"sum by (lobby) (rate(lobby_message_bytes_total{{{LOBBY}}}{RATE}))", "{{lobby}}"),
        ), "Bps"),
    ),
)  # fmt: skip

_MESSAGES = Row(
    "Messages to clients",
    (
        Panel("Deliveries", "Messages handed to clients' sockets, a second, by process.", (
            Query(f"sum by (pod) (rate(greeter_deliveries_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
            Query(f"sum by (lobby) (rate(lobby_deliveries_total{{{LOBBY}}}{RATE}))", "{{lobby}} directly"),
        )),
        Panel("Bytes delivered", "A second, by process.", (
            Query(f"sum by (pod) (rate(greeter_delivered_bytes_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
            Query(f"sum by (lobby) (rate(lobby_delivered_bytes_total{{{LOBBY}}}{RATE}))", "{{lobby}} directly"),
        ), "Bps"),
        Panel("Dropped messages", "Of clients that read too slowly, a second. LobbyMessagesDropped at 5 % of all.", (
            Query(f"sum by (pod) (rate(greeter_dropped_messages_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
            Query(f"sum by (lobby) (rate(lobby_dropped_messages_total{{{LOBBY}}}{RATE}))", "{{lobby}} directly"),
        )),
        Panel("Slow clients", "Whose socket is full now.", (
            Query(f"sum by (pod) (greeter_clients_behind{{{INSTALLED}}})", "{{pod}}"),
            Query(f"sum by (lobby) (lobby_clients_behind{{{LOBBY}}})", "{{lobby}} directly"),
        )),
        Panel("Moves", "Clients that went on in another lobby: exact without a gap, live with the next message.", (
            Query(f"sum by (verdict) (increase(greeter_moves_total{{{INSTALLED}}}{RATE}))", "{{verdict}}"),
            Query(f"sum(increase(greeter_trunk_losses_total{{{INSTALLED}}}{RATE}))", "trunks lost"),
        )),
        Panel("Missed by greeters", "Messages that greeters were too slow to take, a second: LobbyGreeterTooSlow.", (
            Query(f"sum by (pod) (rate(greeter_trunk_missed_messages_total{{{INSTALLED}}}{RATE}))", "{{pod}}"),
        )),
    ),
)  # fmt: skip

_CONNECTIONS = Row(
    "Connections",
    (
        Panel("Handshakes", "Answered with 101, redirected, or left before an answer; a second.", (
            Query(f"sum(rate(greeter_handshakes_total{{{INSTALLED}}}{RATE}))", "greeters"),
            Query(f"sum(rate(lobby_handshakes_total{{{LOBBY}}}{RATE}))", "lobbies"),
            Query(f"sum by (form) (rate(greeter_redirects_total{{{INSTALLED}}}{RATE}))", "redirected: {{form}}"),
            Query(f"sum(rate(greeter_abandoned_handshakes_total{{{INSTALLED}}}{RATE}))", "left"),
        )),
        Panel("Refusals", "Handshakes refused, a second, by reason; docs/metrics.md says what each means.", (
            Query(f"sum by (reason) (rate(greeter_refusals_total{{{INSTALLED}}}{RATE}))", "{{reason}}"),
            Query(f"sum by (reason) (rate(lobby_refusals_total{{{LOBBY}}}{RATE}))", "lobby: {{reason}}"),
        )),
        Panel("Closes", "Clients gone, a second, by what ended them (close codes).", (
            Query(f"sum by (reason) (rate(greeter_closes_total{{{INSTALLED}}}{RATE}))", "{{reason}}"),
            Query(f"sum by (reason) (rate(lobby_closes_total{{{LOBBY}}}{RATE}))", "lobby: {{reason}}"),
        )),
        Panel("Messages from clients", "A second, by what became of them; undeliverable: the origin was away.", (
            Query(f"sum by (fate) (rate(greeter_client_messages_total{{{INSTALLED}}}{RATE}))", "{{fate}}"),
            Query(f"sum by (fate) (rate(lobby_client_messages_total{{{LOBBY}}}{RATE}))", "lobby: {{fate}}"),
        )),
        Panel("Trunks", "Streams from lobbies to greeters.", (
            Query(f"sum by (pod) (greeter_trunks{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("Greeters that hear the news", "0: none of Lobbies comes; it goes on with what it knows.", (
            Query(f"min by (pod) (greeter_directory_current{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("How full greeters are", "Clients, and those who wait, of those that each may have.", (
            Query(f"(sum by (pod) (greeter_clients{{{INSTALLED}}}) + sum by (pod) (greeter_waiting_clients{{{INSTALLED}}}))"
                f" / (sum by (pod) (greeter_max_clients{{{INSTALLED}}}) > 0)", "{{pod}}"),
        ), "percentunit"),
    ),
)  # fmt: skip

_LAG = (
    "histogram_quantile(0.99, sum by (pod, le) (rate({metric}_event_loop_lag_seconds_bucket{{{where}}}" + RATE + ")))"
)

_PROCESSES = Row(
    "Processes",
    (
        Panel("Event loop", "How late what is due is done: 99 % are faster. Clients feel it as latency.", (
            Query(_LAG.format(metric="lobby_operator", where=INSTALLED), "{{pod}}"),
            Query(_LAG.format(metric="greeter", where=INSTALLED), "{{pod}}"),
            Query(_LAG.format(metric="lobby", where=LOBBY), "{{pod}}"),
        ), "s"),
        Panel("CPU", "Cores that each process uses; it can't use more than one.",
            _of_processes(f"rate(process_cpu_seconds_total{RATE})")),
        Panel("Memory", "Resident.", _of_processes("process_resident_memory_bytes"), "bytes"),
        Panel("Descriptors", "Open ones of those that there may be: one for each client.",
            _of_processes("process_open_fds / process_max_fds"), "percentunit"),
    ),
)  # fmt: skip

_OPERATOR = Row(
    "Operator",
    (
        Panel("Who acts", "1 for the one that holds the Lease; the others stand by.", (
            Query(f"max by (pod) (lobby_operator_leader{{{INSTALLED}}})", "{{pod}}"),
        )),
        Panel("Passes", "A second, by Lobby: observe, plan, act.", (
            Query(f"sum by (lobby) (rate(lobby_operator_passes_total{{{BOTH}}}{RATE}))", "{{lobby}}"),
            Query(f"sum by (lobby) (rate(lobby_operator_failed_passes_total{{{BOTH}}}{RATE}))", "{{lobby}} failed"),
        )),
        Panel("Time of a pass", "On average, by Lobby, calls of the API included.", (
            Query(f"sum by (lobby) (rate(lobby_operator_pass_seconds_total{{{BOTH}}}{RATE}))"
                f" / (sum by (lobby) (rate(lobby_operator_passes_total{{{BOTH}}}{RATE})) > 0)", "{{lobby}}"),
        ), "s"),
        Panel("Greeters", "That answer the operator.", (
            Query(f"max by (namespace) (lobby_operator_greeters{{{INSTALLED}}})", "{{namespace}}"),
        )),
        Panel("Calls of the API", "A second, by how they ended. On Kubernetes only.", (
            Query(f"sum by (outcome) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))", "{{outcome}}"),
        )),
        Panel("Calls by kind", "A second. On Kubernetes only.", (
            Query(f"sum by (verb, resource) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))",
                "{{verb}} {{resource}}"),
        )),
        Panel("Time of a call", "On average. On Kubernetes only.", (
            Query(f"sum by (verb) (rate(lobby_operator_api_call_seconds_total{{{INSTALLED}}}{RATE}))"
                f" / sum by (verb) (rate(lobby_operator_api_calls_total{{{INSTALLED}}}{RATE}))", "{{verb}}"),
        ), "s"),
        Panel("Status writes", "A second, by Lobby: at most one. And Events that were one too many. On Kubernetes only.", (
            Query(f"sum by (lobby) (rate(lobby_operator_status_writes_total{{{BOTH}}}{RATE}))", "{{lobby}}"),
            Query(f"sum(rate(lobby_operator_dropped_events_total{{{INSTALLED}}}{RATE}))", "events dropped"),
        )),
        Panel("Objects", "That the operator follows. On Kubernetes only.", (
            Query(f"max by (resource) (lobby_operator_known_objects{{{INSTALLED}}})", "{{resource}}"),
        )),
    ),
)  # fmt: skip

ROWS: tuple[Row, ...] = (_AT_A_GLANCE, _SEATS, _ORIGINS, _MESSAGES, _CONNECTIONS, _PROCESSES, _OPERATOR)
"""The whole dashboard."""
