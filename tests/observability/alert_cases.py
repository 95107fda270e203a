"""For each alert rule: series for which it must fire, with its texts, and series for which it must not.

Values use promtool's notation: `0x60` is 0 for 61 samples, `0+2x60` grows by 2 with each. Samples are 30 s apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]
"""Values by series."""

PRICES = 'namespace="shop", lobby="shop/prices"'
_OF_PRICES = {"namespace": "shop", "lobby": "shop/prices"}
_POD = f'{PRICES}, job="lobby", pod="prices-1"'
_OTHER_POD = f'{PRICES}, job="lobby", pod="prices-2"'
_GREETER = 'namespace="shop", job="greeter", pod="greeter-1"'
_OTHER_GREETER = 'namespace="shop", job="greeter", pod="greeter-2"'
_OPERATOR = 'namespace="shop", job="operator", pod="operator-1"'
_STANDBY = 'namespace="shop", job="operator", pod="operator-2"'


@dataclass(frozen=True, kw_only=True)
class Case:
    """The test cases of one alert.

    Attributes:
        fires: series for which it fires.
        labels: its labels then, without alertname and severity.
        summary: its summary then.
        description: its description then; empty: the text of the rules, which has no template.
        at: when it fires.
        not_yet: when it does not fire yet for the same series; empty: not tested.
        quiet: series for which it never fires.
    """

    fires: Series
    labels: Mapping[str, str] = field(default_factory=lambda: _OF_PRICES)
    summary: str
    description: str = ""
    at: str = "30m"
    not_yet: str = ""
    quiet: tuple[Series, ...]


def _lag(of: str, metric: str, slow: int) -> dict[str, str]:
    """A histogram with 60 measurements per sample, of which `slow` take between 0.25 and 0.5 s."""
    return {
        f'{metric}_bucket{{{of}, le="0.25"}}': f"0+{60 - slow}x120",
        f'{metric}_bucket{{{of}, le="0.5"}}': "0+60x120",
        f'{metric}_bucket{{{of}, le="+Inf"}}': "0+60x120",
    }


def _drops(of: str, *, slow: int = 0, old: int = 0, memory: int = 0, delivered: int) -> dict[str, str]:
    """Messages dropped and delivered by a process per sample."""
    job = "lobby" if 'job="lobby"' in of else "greeter"
    dropped = {"slow": slow, "old": old, "memory": memory}
    return {
        **{f'{job}_dropped_messages_total{{{of}, reason="{why}"}}': f"0+{each}x120" for why, each in dropped.items()},
        f"{job}_deliveries_total{{{of}}}": f"0+{delivered}x120",
    }


def _condition(condition: str, reason: str, values: str, lobby: str = PRICES) -> dict[str, str]:
    of = f'{lobby}, job="operator", pod="operator-1"'
    return {f'lobby_operator_condition{{{of}, condition="{condition}", reason="{reason}"}}': values}


ORIGINS: Mapping[str, Case] = {
    "LobbyOriginAway": Case(
        fires={
            f'lobby_origin_state{{{_POD}, state="Waiting"}}': "1 1 0 1 0 1x120",
            f'lobby_origin_state{{{_POD}, state="Connecting"}}': "0 0 1 0 1 0x120",
            f'lobby_origin_state{{{_POD}, state="Connected"}}': "0x120",
        },
        summary="No lobby of shop/prices has a connection to its origin.",
        at="3m",
        not_yet="1m",
        quiet=(
            {
                f'lobby_origin_state{{{_POD}, state="Waiting"}}': "1x120",
                f'lobby_origin_state{{{_POD}, state="Connected"}}': "0x120",
                f'lobby_origin_state{{{_OTHER_POD}, state="Connected"}}': "1x120",
            },
            {
                f'lobby_origin_state{{{_POD}, state="Idle"}}': "1x120",
                f'lobby_origin_state{{{_POD}, state="Waiting"}}': "0x120",
            },
        ),
    ),
    "LobbyOriginPartlyAway": Case(
        fires={
            f'lobby_origin_state{{{_POD}, state="Waiting"}}': "1x120",
            f'lobby_origin_state{{{_OTHER_POD}, state="Waiting"}}': "0x120",
            f'lobby_origin_state{{{_OTHER_POD}, state="Connected"}}': "1x120",
        },
        summary="Lobbies of shop/prices without an origin connection, while others have one: 1.",
        at="6m",
        not_yet="4m",
        quiet=(
            {  # a lobby that starts connects for a moment
                f'lobby_origin_state{{{_POD}, state="Connecting"}}': "1x4 0x120",
                f'lobby_origin_state{{{_OTHER_POD}, state="Connected"}}': "1x120",
            },
            {
                f'lobby_origin_state{{{_POD}, state="Waiting"}}': "1x120",
                f'lobby_origin_state{{{_POD}, state="Connected"}}': "0x120",
            },
        ),
    ),
    "LobbyOriginRefused": Case(
        fires={f'lobby_origin_state{{{_POD}, state="Refused"}}': "1x120"},
        summary="The origin of shop/prices answers 401 or 403.",
        at="2m",
        not_yet="30s",
        quiet=({f'lobby_origin_state{{{_POD}, state="Refused"}}': "0x120"},),
    ),
    "LobbyOriginUnsteady": Case(
        fires={
            f'lobby_origin_failures_total{{{_POD}, failure="closed"}}': "0+0.1x120",
            f'lobby_origin_failures_total{{{_POD}, failure="stale"}}': "0+0.1x120",
        },
        summary="A lobby of shop/prices has lost its origin 12 times in half an hour.",
        at="40m",
        quiet=(
            {  # each of many lobbies lost it once
                f'lobby_origin_failures_total{{{PRICES}, pod="prices-{number}", failure="lost"}}': "0x10 1x110"
                for number in range(10)
            },
            {f'lobby_origin_failures_total{{{_POD}, failure="unreachable"}}': "0+1x120"},
        ),
    ),
}

SEATS: Mapping[str, Case] = {
    "LobbyClientsRefused": Case(
        fires={
            f'greeter_refusals_total{{{_GREETER}, reason="no_seat"}}': "0+1x120",
            f'greeter_refusals_total{{{_OTHER_GREETER}, reason="no_seat"}}': "0+1x120",
        },
        labels={"namespace": "shop", "reason": "no_seat"},
        summary="Greeters refused 20 clients in five minutes: no_seat.",
        quiet=(
            {f'greeter_refusals_total{{{_GREETER}, reason="no_such_path"}}': "0+100x120"},
            {f'greeter_refusals_total{{{_GREETER}, reason="no_seat"}}': "0x20 1x100"},
        ),
    ),
    "LobbyClientsWait": Case(
        fires={
            f'greeter_waiting_clients{{{_GREETER}, lobby="shop/prices"}}': "1 0 1 0 1 0 1x120",
            f'greeter_waiting_clients{{{_OTHER_GREETER}, lobby="shop/prices"}}': "0 1 0 1 0 1 2x120",
        },
        summary="Clients of shop/prices have been waiting for a seat for a minute; waiting now: 3.",
        at="5m",
        not_yet="30s",
        quiet=({f'greeter_waiting_clients{{{_GREETER}, lobby="shop/prices"}}': "900 0 900 0 900 0x120"},),
    ),
    "LobbyNotReady": Case(
        fires=_condition("Ready", "WaitingToStart", "1x4 stale") | _condition("Ready", "Failing", "_x4 1x120"),
        summary="shop/prices has had no seat for new clients for three minutes.",
        at="4m",
        not_yet="2m",
        quiet=(
            _condition("Ready", "Starting", "1x3 stale"),
            _condition("Ready", "PathTaken", "1x120"),
            _condition("Ready", "Open", "1x120"),
            _condition("Scaling", "Full", "1x120"),
        ),
    ),
    "LobbyUnreachable": Case(
        fires=_condition("Scaling", "LobbiesUnreachable", "1x120"),
        summary="The operator gets no answer from healthy lobbies of shop/prices.",
        at="2m",
        not_yet="30s",
        quiet=(_condition("Scaling", "LobbiesUnreachable", "1x1 stale"), _condition("Scaling", "Growing", "1x120")),
    ),
    "LobbyAtMaximum": Case(
        fires=_condition("Scaling", "AtMaximum", "1x120"),
        summary="shop/prices needs more lobbies than `maxReplicas` allows.",
        at="6m",
        not_yet="4m",
        quiet=(_condition("Scaling", "AsNeeded", "_x4 1x120") | _condition("Scaling", "AtMaximum", "1x4 stale"),),
    ),
    "LobbyInvalid": Case(
        fires=_condition("Scaling", "InvalidSpec", "1x120"),
        summary="The spec of shop/prices is invalid.",
        at="6m",
        not_yet="4m",
        quiet=(_condition("Scaling", "Growing", "1x120"),),
    ),
    "LobbyPathTaken": Case(
        fires=_condition("PathAccepted", "PathTaken", "1x120"),
        summary="The path of shop/prices belongs to an older Lobby.",
        at="6m",
        not_yet="4m",
        quiet=(_condition("PathAccepted", "Accepted", "1x120"),),
    ),
    "LobbyNotServed": Case(
        fires=_condition("Ready", "NotServed", "1x120"),
        summary="shop/prices is in a namespace whose Lobbies are not served.",
        at="6m",
        not_yet="4m",
        quiet=(_condition("Ready", "Open", "1x120"),),
    ),
}

LOBBIES: Mapping[str, Case] = {
    "LobbyStartsFail": Case(
        fires={f"lobby_operator_failed_starts{{{PRICES}}}": "0 1 2 3x120"},
        summary="3 consecutive lobbies of shop/prices failed to start.",
        at="4m",
        not_yet="2m",
        quiet=({f"lobby_operator_failed_starts{{{PRICES}}}": "2x120"},),
    ),
    "LobbyStartsBlocked": Case(
        fires=_condition("Scaling", "SecretMissing", "1x120"),
        labels={"namespace": "shop", "lobby": "shop/prices", "reason": "SecretMissing"},
        summary="A lobby of shop/prices has not been able to start for ten minutes: SecretMissing.",
        at="11m",
        not_yet="9m",
        quiet=(
            _condition("Scaling", "Unschedulable", "1x9 stale"),  # until an autoscaler has a node
            _condition("Scaling", "RollingOut", "1x120"),
        ),
    ),
    "LobbyRolloutFails": Case(
        fires=_condition("Ready", "RolloutFails", "1x120"),
        summary="The rollout of shop/prices has not gone on for ten minutes.",
        at="11m",
        not_yet="9m",
        quiet=(_condition("Ready", "RolloutFails", "1x9 stale"), _condition("Scaling", "RollingOut", "1x120")),
    ),
    "LobbyLobbiesDie": Case(
        fires={
            f'lobby_operator_actions_total{{{PRICES}, action="Delete", reason="Ended"}}': "0x20 3x100",
            f'lobby_operator_actions_total{{{PRICES}, action="Delete", reason="Silent"}}': "0x20 3x100",
        },
        summary="6 lobbies of shop/prices died or became unresponsive within an hour.",
        at="60m",
        quiet=(
            {f'lobby_operator_actions_total{{{PRICES}, action="Delete", reason="Drained"}}': "0+1x120"},
            {f'lobby_operator_actions_total{{{PRICES}, action="Delete", reason="Ended"}}': "0x20 3x100"},
        ),
    ),
}

MESSAGES: Mapping[str, Case] = {
    "LobbyClientsNotReading": Case(
        fires=_drops(_GREETER, slow=10, old=5, delivered=65) | _drops(_OTHER_GREETER, slow=10, old=5, delivered=105),
        labels={"namespace": "shop", "job": "greeter"},
        summary="10% of the messages for clients are dropped because clients do not read (greeter).",
        quiet=(
            _drops(_POD, slow=4, delivered=96),
            _drops(_POD, slow=4, old=20, memory=20, delivered=56),
            _drops(_POD, delivered=0),
        ),
    ),
    "LobbyClientsTooSlow": Case(
        fires=_drops(_POD, slow=5, old=10, delivered=35) | _drops(_OTHER_POD, old=10, delivered=40),
        labels={"namespace": "shop", "job": "lobby", "lobby": "shop/prices"},
        summary="20% of the messages for clients are dropped because clients are too slow (lobby shop/prices).",
        quiet=(
            _drops(_POD, old=4, delivered=96),
            _drops(_POD, slow=20, old=4, memory=20, delivered=56),
            _drops(_POD, delivered=0),
        ),
    ),
    "LobbyQueueFull": Case(
        fires=_drops(_GREETER, memory=1, delivered=100_000) | _drops(_OTHER_GREETER, memory=1, delivered=100_000),
        labels={"namespace": "shop", "job": "greeter"},
        summary="40 messages for clients were dropped within ten minutes because `clients.queue.bytes` was used up (greeter).",
        quiet=(
            _drops(_POD, slow=30, old=30, delivered=40),
            {f'lobby_dropped_messages_total{{{_POD}, reason="memory"}}': "5x120"},
        ),
    ),
    "LobbyGreeterTooSlow": Case(
        fires={f"greeter_trunk_missed_messages_total{{{_GREETER}}}": "0x20 5x100"},
        labels={"namespace": "shop", "pod": "greeter-1"},
        summary="The greeter greeter-1 is too slow for its lobbies and missed messages.",
        at="15m",
        quiet=({f"greeter_trunk_missed_messages_total{{{_GREETER}}}": "5x120"},),
    ),
    "LobbyMovesWithGaps": Case(
        fires={
            f'greeter_moves_total{{{_GREETER}, verdict="live"}}': "0+1x180",
            f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "30x180",
            f'greeter_clients{{{_GREETER}, lobby="shop/books"}}': "30x180",
        },
        labels={"namespace": "shop"},
        summary="In an hour, clients were moved to another lobby 120 times and may have missed messages.",
        at="80m",
        quiet=(
            {
                f'greeter_moves_total{{{_GREETER}, verdict="live"}}': "0+1x180",
                f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "121x180",
            },
            {
                f'greeter_moves_total{{{_GREETER}, verdict="live"}}': "0x20 9x160",
                f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "1x180",
            },
            {
                f'greeter_moves_total{{{_GREETER}, verdict="exact"}}': "0+9x180",
                f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "1x180",
            },
        ),
    ),
}

PROCESSES: Mapping[str, Case] = {
    "LobbyGreeterNearlyFull": Case(
        fires={
            f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "500x120",
            f'greeter_clients{{{_GREETER}, lobby="shop/books"}}': "300x120",
            f'greeter_waiting_clients{{{_GREETER}, lobby="shop/prices"}}': "0x120",
            f'greeter_waiting_clients{{{_GREETER}, lobby="shop/books"}}': "100x120",
            f"greeter_max_clients{{{_GREETER}}}": "1000x120",
        },
        labels={"namespace": "shop", "job": "greeter", "pod": "greeter-1"},
        summary="The greeter greeter-1 is at 90% of its client limit.",
        at="6m",
        not_yet="4m",
        quiet=(
            {
                f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "800x120",
                f'greeter_waiting_clients{{{_GREETER}, lobby="shop/prices"}}': "0x120",
                f"greeter_max_clients{{{_GREETER}}}": "1000x120",
            },
            {
                f'greeter_clients{{{_GREETER}, lobby="shop/prices"}}': "800x120",
                f'greeter_waiting_clients{{{_GREETER}, lobby="shop/prices"}}': "0x120",
                f"greeter_max_clients{{{_GREETER}}}": "0x120",
            },
        ),
    ),
    "LobbyMemoryNearLimit": Case(
        fires={
            f"process_resident_memory_bytes{{{_GREETER}}}": "95x120",
            f"greeter_max_memory_bytes{{{_GREETER}}}": "100x120",
            f"process_resident_memory_bytes{{{_POD}}}": "80x120",
            f"lobby_max_memory_bytes{{{_POD}}}": "100x120",
        },
        labels={"namespace": "shop", "job": "greeter", "pod": "greeter-1"},
        summary="greeter-1 is at 95% of its memory limit.",
        at="6m",
        not_yet="4m",
        quiet=(
            {f"process_resident_memory_bytes{{{_POD}}}": "95x120", f"lobby_max_memory_bytes{{{_POD}}}": "0x120"},
            {f"process_resident_memory_bytes{{{_OPERATOR}}}": "95x120"},
        ),
    ),
    "LobbyEventLoopLag": Case(
        fires=_lag(_POD, "lobby_event_loop_lag_seconds", 60),
        labels={"namespace": "shop", "job": "lobby", "pod": "prices-1"},
        summary="The event loop of prices-1 (lobby) lags by 497.5ms.",
        quiet=(
            _lag(_GREETER, "greeter_event_loop_lag_seconds", 0),
            _lag(_OPERATOR, "lobby_operator_event_loop_lag_seconds", 0),
        ),
    ),
    "LobbyNoNews": Case(
        fires={f"greeter_directory_current{{{_GREETER}}}": "0x120"},
        labels={"namespace": "shop", "pod": "greeter-1"},
        summary="The greeter greeter-1 gets no updates about Lobbies.",
        at="3m",
        not_yet="1m",
        quiet=({f"greeter_directory_current{{{_GREETER}}}": "0 0 1 0 0 1x120"},),
    ),
    "LobbyNoGreeter": Case(
        fires={
            f"lobby_operator_greeters{{{_OPERATOR}}}": "0x120",
            f"lobby_operator_greeters{{{_STANDBY}}}": "0x120",
        },
        labels={"namespace": "shop"},
        summary="No greeter in shop responds to the operator.",
        at="2m",
        not_yet="30s",
        quiet=(
            {
                f"lobby_operator_greeters{{{_OPERATOR}}}": "2x120",
                f"lobby_operator_greeters{{{_STANDBY}}}": "0x120",
            },
        ),
    ),
}

OPERATOR: Mapping[str, Case] = {
    "LobbyNoLeader": Case(
        fires={f"lobby_operator_leader{{{_OPERATOR}}}": "0x120", f"lobby_operator_leader{{{_STANDBY}}}": "0x120"},
        labels={"namespace": "shop"},
        summary="No operator is leading.",
        at="3m",
        not_yet="1m",
        quiet=(
            {f"lobby_operator_leader{{{_OPERATOR}}}": "1x60 0x60", f"lobby_operator_leader{{{_STANDBY}}}": "0x60 1x60"},
        ),
    ),
    "LobbyPassesStopped": Case(
        fires={
            f"lobby_operator_passes_total{{{PRICES}}}": "500x120",
            f"lobby_operator_leader{{{_OPERATOR}}}": "1x120",
        },
        summary="The operator no longer reconciles shop/prices.",
        quiet=(
            {
                f"lobby_operator_passes_total{{{PRICES}}}": "0+6x120",
                f"lobby_operator_leader{{{_OPERATOR}}}": "1x120",
            },
            {
                f"lobby_operator_passes_total{{{PRICES}}}": "500x120",
                f"lobby_operator_leader{{{_OPERATOR}}}": "0x120",
            },
            {  # it was the leader once
                f'lobby_operator_passes_total{{{PRICES}, pod="operator-2"}}': "500x120",
                f'lobby_operator_passes_total{{{PRICES}, pod="operator-1"}}': "0+6x120",
                f"lobby_operator_leader{{{_OPERATOR}}}": "1x120",
            },
        ),
    ),
    "LobbyPassesFail": Case(
        fires={f"lobby_operator_failed_passes_total{{{PRICES}}}": "0+3x120"},
        summary="Reconciling shop/prices keeps failing.",
        description="It failed 60 times in ten minutes. The operator retries within 10 s.",
        quiet=({f"lobby_operator_failed_passes_total{{{PRICES}}}": "0x20 4x100"},),
    ),
    "LobbyApiForbidden": Case(
        fires={
            f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="create", resource="pods", outcome="Forbidden"}}': "0+1x120"
        },
        labels={"namespace": "shop", "verb": "create", "resource": "pods"},
        summary="The operator may not create pods.",
        quiet=(
            {f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="get", resource="pods", outcome="ok"}}': "0+9x120"},
        ),
    ),
    "LobbyWatchesBreak": Case(
        fires={f'lobby_operator_kopf_restarts_total{{{_OPERATOR}, resource="pods"}}': "0+1x120"},
        labels={"namespace": "shop", "resource": "pods"},
        summary="The operator's watches of pods break all the time.",
        description="They were restarted 20 times in ten minutes. Lists find what they miss, but changes are noticed late.",
        quiet=({f'lobby_operator_kopf_restarts_total{{{_OPERATOR}, resource="pods"}}': "0x20 8x100"},),  # an outage
    ),
    "LobbyApiCallsFail": Case(
        fires={
            f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="create", resource="pods", outcome="Unreachable"}}': "0+1x120",
            f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="create", resource="pods", outcome="Busy"}}': "0+1x120",
            f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="get", resource="pods", outcome="ok"}}': "0+8x120",
        },
        labels={"namespace": "shop"},
        summary="20% of the operator's calls to the API server fail.",
        quiet=(
            {
                f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="get", resource="pods", outcome="Conflict"}}': "0+5x120",
                f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="get", resource="pods", outcome="Busy"}}': "0+1x120",
                f'lobby_operator_api_calls_total{{{_OPERATOR}, verb="get", resource="pods", outcome="ok"}}': "0+20x120",
            },
        ),
    ),
}

CASES: Mapping[str, Case] = {**ORIGINS, **SEATS, **LOBBIES, **MESSAGES, **PROCESSES, **OPERATOR}
