from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from tests.unit.operator.lobbies import NOW, SPEC, lobby_state, observed

from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_gateway.resource.schema import open_api_schema
from lobby_operator.planner import reasons
from lobby_operator.planner.plan import Plan, plan
from lobby_operator.planner.reasons import SCALING_STEADY, ConditionReason, ConditionState, ConditionType
from lobby_operator.planner.spec import PlannerSpec
from lobby_operator.planner.state import Failures, Held, Hold, LobbyState, Observed, Phase, StreamState, lobby_name
from lobby_operator.planner.status import (
    MAX_LISTED,
    PathClaim,
    invalid_spec_status,
    listed_lobbies,
    lobby_status,
    not_served_status,
)

THEN, LATER = "2026-08-01T10:00:00Z", "2026-08-01T10:00:09Z"
CLAIM = PathClaim("/prices")


def status(observation: Observed, spec: PlannerSpec = SPEC, at: str = THEN, **fields: Any) -> dict[str, Any]:
    """The status, validated by the schema of the resource."""
    made = lobby_status(spec, observation, plan(spec, observation, NOW), at=at, **{"claim": CLAIM, **fields})
    jsonschema.validate(json.loads(json.dumps(made)), open_api_schema()["properties"]["status"])
    assert made.keys() <= open_api_schema()["properties"]["status"]["properties"].keys()
    return made


def condition(made: dict[str, Any], kind: ConditionType) -> dict[str, Any]:
    (found,) = [each for each in made["conditions"] if each["type"] == kind.value]
    assert isinstance(found, dict)
    return found


def expect(made: dict[str, Any], reason: ConditionReason) -> str:
    """Asserts that a condition has this reason; returns its message."""
    found = condition(made, reason.kind)
    assert (found["status"], found["reason"]) == (reason.status, reason.name)
    return str(found["message"])


def with_origin(index: int, state: OriginState, problem: str = "", **fields: Any) -> LobbyState:
    return lobby_state(index, 3, origin=OriginReport(state=state, reason=problem), **fields)


def test_counts_lobbies_seats_and_clients_and_says_where_clients_go() -> None:
    lobbies = [
        lobby_state(1, 500),
        lobby_state(2, 512),
        lobby_state(3, 20, Phase.DRAINING),
        lobby_state(4, 0, Phase.STARTING, origin=None, address=""),
        lobby_state(5, 7, Phase.UNRESPONSIVE),
        lobby_state(6, 1, Phase.ENDING),
        lobby_state(7, 0, Phase.ENDED, origin=None),
        lobby_state(8, 2, Phase.RECOVERING),
    ]
    made = status(observed(*lobbies), replace(SPEC, generation=4), selector="lobby-gateway.io/lobby=prices")
    assert made["observedGeneration"] == 4
    assert (made["replicas"], made["readyReplicas"]) == (6, 2)
    assert (made["clients"], made["seats"]) == (500 + 512 + 20 + 1 + 2, 1024)
    assert made["open"] == [{"name": "prices-1", "address": "10.0.0.1:8000", "clients": 500, "seats": 512}]
    assert made["latest"] == made["open"][0]
    assert made["draining"] == ["prices-3"]
    assert made["origin"] == {"connected": True, "connections": 5}
    assert [(each["name"], each["phase"]) for each in made["lobbies"]] == [
        *(("prices-1", "Ready"), ("prices-2", "Ready"), ("prices-3", "Draining"), ("prices-4", "Starting")),
        *(("prices-5", "Silent"), ("prices-6", "Ending"), ("prices-8", "Settling")),
    ]
    first = {"name": "prices-1", "phase": "Ready", "clients": 500, "seats": 512, "origin": "Connected"}
    assert made["lobbies"][0] == first
    assert "origin" not in made["lobbies"][3]
    assert made["selector"] == "lobby-gateway.io/lobby=prices"
    assert [each["type"] for each in made["conditions"]] == [kind.value for kind in ConditionType]


def test_fields_that_do_not_apply_are_left_out() -> None:
    made = status(observed())
    assert "latest" not in made
    assert "selector" not in made
    assert (made["open"], made["draining"]) == ([], [])


def test_the_lists_of_a_status_are_bounded() -> None:
    name = "p" * 50
    lobbies = [
        lobby_state(
            index,
            25,
            Phase.DRAINING if index % 2 else Phase.READY,
            name=f"{name}-{index}",
            address="10.100.100.100:40000",
        )
        for index in range(1, 4001)
    ]
    made = status(observed(*lobbies), replace(SPEC, max_replicas=10000))
    assert len(made["open"]) == len(made["draining"]) == len(made["lobbies"]) == MAX_LISTED
    assert made["readyReplicas"] == 2000
    assert len(json.dumps(made)) < 64 * 1024


# Ready


def test_ready_when_a_seat_is_free() -> None:
    made = status(observed(lobby_state(1, 500), lobby_state(2, 300), lobby_state(3, 0, Phase.STARTING)))
    assert expect(made, reasons.READY) == "224 free seats in 2 lobbies"


def test_ready_when_the_first_client_would_start_a_lobby() -> None:
    spec = replace(SPEC, spare_seats=0)
    expect(status(observed(), spec), reasons.READY_AT_ZERO)
    expect(status(observed(lobby_state(1, 512)), spec), reasons.READY_ON_REQUEST)


def test_not_ready_while_lobbies_start() -> None:
    assert "1 lobby is starting" in expect(status(observed()), reasons.READY_STARTING)
    expect(status(observed(lobby_state(1, 0, Phase.STARTING))), reasons.READY_STARTING)


def test_not_ready_while_starts_fail() -> None:
    made = status(observed(failures=Failures(3, NOW)))
    assert "the last 3 starts failed" in expect(made, reasons.READY_FAILING)


def test_not_ready_while_lobbies_are_unresponsive() -> None:
    spec = replace(SPEC, spare_seats=0)
    expect(status(observed(lobby_state(1, 5, Phase.UNRESPONSIVE)), spec), reasons.READY_UNRESPONSIVE)
    expect(status(observed(lobby_state(1, 5, Phase.RECOVERING)), spec), reasons.READY_UNRESPONSIVE)


def test_not_ready_while_no_lobby_can_be_reached() -> None:
    silent = [lobby_state(n, 0, Phase.STARTING, unheard_since=NOW - 60.0) for n in (1, 2)]
    made = status(observed(*silent))
    assert "2 healthy lobbies do not answer the operator" in expect(made, reasons.READY_UNREACHABLE)
    assert "2 lobbies are healthy but do not answer" in expect(made, reasons.SCALING_UNREACHABLE)
    others = status(observed(*silent, lobby_state(3)))
    assert expect(others, reasons.READY) == "512 free seats in 1 lobby"
    expect(others, reasons.SCALING_UNREACHABLE)


def test_not_ready_when_all_lobbies_are_full() -> None:
    made = status(observed(lobby_state(1, 512), waiting=3), replace(SPEC, max_replicas=1))
    assert expect(made, reasons.READY_FULL) == "all 512 seats are taken, and maxReplicas is 1"
    assert "2 more" not in expect(made, reasons.SCALING_LIMITED)


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.ENDING])
def test_seats_of_leaving_lobbies_are_not_said_to_be_taken(phase: Phase) -> None:
    # A lobby that drains with 20 clients refuses new ones, with 492 seats that nobody has.
    spec = replace(SPEC, max_replicas=1)
    made = status(observed(lobby_state(1, 20, phase)), spec)
    wanted = "no free seat; 1 lobby is draining or ending, and maxReplicas is 1"
    assert expect(made, reasons.READY_DRAINING) == wanted


def test_seats_of_a_lobby_that_is_about_to_drain_are_not_said_to_be_taken() -> None:
    outdated = lobby_state(1, 20, outdated=True)
    made = status(observed(outdated), replace(SPEC, max_replicas=1, spare_seats=0))
    assert made["open"] == []
    expect(made, reasons.READY_DRAINING)


def test_full_and_leaving_lobbies_together() -> None:
    both = observed(lobby_state(1, 512), lobby_state(2, 3, Phase.DRAINING))
    assert "1 lobby is draining" in expect(status(both, replace(SPEC, max_replicas=2)), reasons.READY_DRAINING)


def test_a_lobby_that_cannot_be_created_is_not_said_to_start() -> None:
    quota = "can't create prices-1: exceeded quota"
    made = status(observed(), problem=quota)
    wanted = "no free seat; a lobby is needed but cannot be created, see Scaling"
    assert expect(made, reasons.READY_NOT_CREATED) == wanted
    assert expect(made, reasons.SCALING_FAILING) == f"{quota}; retrying"
    starting = observed(lobby_state(1, 0, Phase.STARTING), waiting=600)
    expect(status(starting, problem=quota), reasons.READY_STARTING)


def test_not_ready_when_another_lobby_has_the_path() -> None:
    made = status(observed(lobby_state(1)), claim=PathClaim("/prices", older="first"))
    expect(made, reasons.READY_NO_PATH)
    assert expect(made, reasons.PATH_TAKEN) == "/prices belongs to the older Lobby first"


def test_the_path_is_accepted_or_not_compared() -> None:
    assert expect(status(observed()), reasons.PATH_ACCEPTED) == "served at /prices"
    expect(status(observed(), claim=PathClaim("/prices", compared=False)), reasons.PATH_UNKNOWN)


# OriginConnected


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ([], reasons.ORIGIN_NO_LOBBY),
        ([OriginState.IDLE, OriginState.CLOSING], reasons.ORIGIN_IDLE),
        ([OriginState.IDLE, OriginState.CONNECTING], reasons.ORIGIN_CONNECTING),
        ([OriginState.IDLE, OriginState.CONNECTING, OriginState.CONNECTED], reasons.ORIGIN_CONNECTED),
        ([OriginState.CONNECTED, OriginState.WAITING], reasons.ORIGIN_LOST),
        ([OriginState.CONNECTED, OriginState.WAITING, OriginState.REFUSED], reasons.ORIGIN_REFUSED),
    ],
)
def test_the_worst_origin_connection_decides(states: list[OriginState], reason: ConditionReason) -> None:
    problems = ["" if state is OriginState.CONNECTED else "no answer" for state in states]
    lobbies = [with_origin(at, *each) for at, each in enumerate(zip(states, problems, strict=True), 1)]
    made = status(observed(*lobbies))
    expect(made, reason)
    assert made["origin"]["connected"] is (reason is reasons.ORIGIN_CONNECTED)
    assert made["origin"]["connections"] == states.count(OriginState.CONNECTED)


def test_the_problem_of_the_first_lobby_is_shown_and_kept_short() -> None:
    lobbies = [with_origin(1, OriginState.REFUSED, "401 " + "x" * 999), with_origin(2, OriginState.REFUSED, "403")]
    message = expect(status(observed(*lobbies)), reasons.ORIGIN_REFUSED)
    assert message.startswith("the origin refuses 2 lobbies; prices-1: 401 xxx")
    assert len(message) < 300
    nothing = status(observed(with_origin(1, OriginState.WAITING)))
    assert expect(nothing, reasons.ORIGIN_LOST).endswith("prices-1: reason unknown")


def test_origins_of_unresponsive_and_starting_lobbies_do_not_count() -> None:
    made = status(observed(with_origin(1, OriginState.REFUSED, phase=Phase.UNRESPONSIVE), lobby_state(2, origin=None)))
    expect(made, reasons.ORIGIN_NO_LOBBY)


# Conditions over time


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = status(observed(lobby_state(1, 5)))
    assert {each["lastTransitionTime"] for each in first["conditions"]} == {THEN}
    second = status(
        observed(lobby_state(1, 6, origin=OriginReport(state=OriginState.WAITING))), at=LATER, previous=first
    )
    times = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
    assert times == {**dict.fromkeys(times, THEN), "OriginConnected": LATER}


def test_the_same_observation_gives_the_same_status() -> None:
    first = status(observed(lobby_state(1, 5)))
    assert status(observed(lobby_state(1, 5)), at=LATER, previous=first) == first


def test_a_condition_is_about_the_planned_generation() -> None:
    made = status(observed(), replace(SPEC, generation=7), previous={"conditions": None})
    assert {each["observedGeneration"] for each in made["conditions"]} == {7}


def test_a_failure_is_shown_with_its_problem() -> None:
    made = status(observed(lobby_state(1)), problem="create pods shop/prices-2: exceeded quota: pods")
    assert expect(made, reasons.SCALING_FAILING).startswith("create pods shop/prices-2: exceeded quota: pods; retrying")
    assert condition(made, ConditionType.SCALING)["status"] == "False"


def test_an_invalid_spec_is_reported_while_the_previous_one_is_in_force() -> None:
    made = status(observed(lobby_state(1, 3)), invalid="spec.origin.onConnect[0].send: $(A) is unknown")
    assert "onConnect[0].send" in expect(made, reasons.SCALING_INVALID)
    assert expect(made, reasons.READY_INVALID)
    assert [each["name"] for each in made["open"]] == ["prices-1"]
    assert "lastValidSpec" not in made


def test_greeters_are_told_the_spec_that_is_in_force() -> None:
    earlier = {"path": "/p", "template": {"labels": {"a": "b"}}}
    made = status(observed(lobby_state(1, 3)), invalid="spec.path: is bad", last_valid=earlier)
    assert made["lastValidSpec"] == {"path": "/p", "template": {}}
    jsonschema.validate(made, open_api_schema()["properties"]["status"])


def test_a_lobby_whose_spec_was_never_valid_is_not_ready() -> None:
    made = invalid_spec_status(3, "spec.path: is bad", at=THEN, previous=None)
    jsonschema.validate(made, open_api_schema()["properties"]["status"])
    assert made["observedGeneration"] == 3
    assert expect(made, reasons.READY_INVALID)
    assert "spec.path" in expect(made, reasons.SCALING_INVALID)


def test_lobbies_keep_taking_clients_when_the_spec_becomes_invalid() -> None:
    before = status(observed(lobby_state(1, 3)))
    made = invalid_spec_status(9, "spec.path: is bad", at=LATER, previous=before)
    assert made["open"] == before["open"]
    assert [each["type"] for each in made["conditions"]] == [kind.value for kind in ConditionType]
    assert expect(made, reasons.READY_INVALID)
    assert condition(made, ConditionType.SCALING)["lastTransitionTime"] == LATER
    assert invalid_spec_status(9, "spec.path: is bad", at="later still", previous=made) == made


# Rollouts, and what tools go by (kstatus)


def outdated(index: int, clients: int = 300, phase: Phase = Phase.READY) -> LobbyState:
    return lobby_state(index, clients, phase, outdated=True)


def kstatus(made: dict[str, Any]) -> tuple[str, str, str]:
    """Ready, Reconciling and Stalled."""
    ready, reconciling, stalled = (
        condition(made, kind) for kind in (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
    )
    return ready["status"], reconciling["status"], stalled["status"]


def test_a_settled_lobby_is_current() -> None:
    made = status(observed(lobby_state(1, 3)))
    assert kstatus(made) == ("True", "False", "False")
    assert expect(made, reasons.RECONCILED)
    assert expect(made, reasons.NOT_STALLED)
    full = status(observed(lobby_state(1, 512)), replace(SPEC, max_replicas=1))
    assert kstatus(full) == ("False", "False", "False")


def test_a_rollout_that_goes_on_is_in_progress_and_clients_get_seats() -> None:
    made = status(observed(outdated(1), lobby_state(2, phase=Phase.STARTING)), replace(SPEC, revision="new"))
    assert kstatus(made) == ("True", "True", "False")
    assert expect(made, reasons.RECONCILING_ROLLOUT) == "1 lobby runs an older revision"


def test_a_rollout_without_the_stream_is_not_ready_and_stalled() -> None:
    waiting = with_origin(2, OriginState.WAITING, "connection refused", preconnected=True)
    made = status(observed(outdated(1), replace(waiting, clients=0)), replace(SPEC, revision="new"))
    assert kstatus(made) == ("False", "False", "True")
    assert expect(made, reasons.READY_ROLLOUT_FAILS) == "1 lobby of an older revision serves the clients, see Scaling"
    assert "connection refused" in expect(made, reasons.STALLED[reasons.SCALING_ROLLOUT_STOPPED])
    assert [each["name"] for each in made["open"]] == ["prices-1"]


def test_a_rollout_whose_lobbies_fail_to_start_is_not_ready_and_stalled() -> None:
    made = status(observed(outdated(1), failures=Failures(3, NOW - 0.1)), replace(SPEC, revision="new"))
    assert kstatus(made) == ("False", "False", "True")
    assert expect(made, reasons.READY_ROLLOUT_FAILS)


def test_a_failure_that_is_retried_is_in_progress() -> None:
    made = status(observed(outdated(1)), problem="can't create prices-2: quota exceeded")
    assert kstatus(made) == ("False", "True", "False")
    assert "quota exceeded" in expect(made, reasons.RECONCILING_RETRY)


def test_a_lobby_that_starts_for_the_first_time_is_in_progress() -> None:
    made = status(observed(lobby_state(1, phase=Phase.STARTING)))
    assert kstatus(made) == ("False", "True", "False")
    assert expect(made, reasons.RECONCILING_START)


def held(age: float, hold: Hold = Hold.SECRET_MISSING) -> LobbyState:
    fields: dict[str, Any] = {"origin": None, "address": "", "starting_since": None}
    return lobby_state(
        1, phase=Phase.STARTING, created_at=NOW - age, held=Held(hold, "Secret feed is missing"), **fields
    )


def test_a_secret_that_may_be_on_its_way_is_in_progress_and_later_stalled() -> None:
    early, late = status(observed(held(179.0))), status(observed(held(180.0)))
    assert kstatus(early) == ("False", "True", "False")
    assert expect(early, reasons.RECONCILING_START)
    assert expect(early, reasons.SCALING_HELD[Hold.SECRET_MISSING])
    assert kstatus(late) == ("False", "False", "True")
    assert "Secret feed is missing" in expect(late, reasons.STALLED[reasons.SCALING_HELD[Hold.SECRET_MISSING]])


def test_other_causes_are_stalled_at_once_while_a_secret_may_be_on_its_way() -> None:
    assert kstatus(status(observed(held(0.0)), claim=PathClaim("/prices", "older"))) == ("False", "False", "True")


def test_a_lobby_without_a_node_is_in_progress_for_ever() -> None:
    assert kstatus(status(observed(held(9999.0, Hold.UNSCHEDULABLE)))) == ("False", "True", "False")


def test_starts_that_fail_again_and_again_are_stalled_also_during_the_next_one() -> None:
    starting = lobby_state(1, phase=Phase.STARTING)
    for each in (observed(failures=Failures(3, NOW - 0.1)), observed(starting, failures=Failures(3, NOW - 9.0))):
        assert kstatus(status(each)) == ("False", "False", "True")


@pytest.mark.parametrize(
    "made",
    [
        status(observed(lobby_state(1, 3)), claim=PathClaim("/prices", "older")),
        status(observed(lobby_state(1, 3)), invalid="spec.path: is bad"),
        invalid_spec_status(3, "spec.path: is bad", at=THEN, previous=None),
        not_served_status("lab", 3, at=THEN, previous=None),
    ],
)
def test_what_only_a_person_can_change_is_stalled(made: dict[str, Any]) -> None:
    assert kstatus(made) == ("False", "False", "True")
    assert {each["observedGeneration"] for each in made["conditions"]} == {made["observedGeneration"]}


def test_the_url_has_the_path_at_which_the_lobby_is_served() -> None:
    made = status(observed(), url="wss://prices.example.com/", claim=PathClaim("/shop/prices"))
    assert (made["url"], made["path"]) == ("wss://prices.example.com/shop/prices", "/shop/prices")
    assert "url" not in status(observed())


# Lists and size

LONGEST = "n" * 50


def long_lobby(index: int, phase: Phase = Phase.READY, state: OriginState | None = OriginState.CONNECTED) -> LobbyState:
    return LobbyState(
        name=lobby_name(LONGEST, index),
        index=index,
        phase=phase,
        created_at=0.0,
        address="255.255.255.255:65535",
        seats=4096,
        clients=4095,
        origin=OriginReport(state=state, reason="r" * 200) if state is not None else None,
    )


def long_status(*lobbies: LobbyState) -> dict[str, object]:
    planned = Plan(
        open=tuple(each for each in lobbies if each.phase is Phase.READY),
        scaling=ConditionState(SCALING_STEADY, {"lobbies": len(lobbies)}),
    )
    claim = PathClaim("/" + LONGEST)
    return lobby_status(
        PlannerSpec(lobby=LONGEST), Observed(lobbies=lobbies), planned, claim=claim, at="2026-01-01T00:00:00Z"
    )


def test_every_lobby_is_listed_with_its_phase_seats_and_origin() -> None:
    made = long_status(
        long_lobby(1), long_lobby(2, Phase.DRAINING, OriginState.WAITING), long_lobby(3, Phase.STARTING, None)
    )
    assert made["lobbies"] == [
        {"name": f"{LONGEST}-1", "phase": "Ready", "clients": 4095, "seats": 4096, "origin": "Connected"},
        {"name": f"{LONGEST}-2", "phase": "Draining", "clients": 4095, "seats": 4096, "origin": "Waiting"},
        {"name": f"{LONGEST}-3", "phase": "Starting", "clients": 4095, "seats": 4096},
    ]


def test_an_ended_lobby_is_not_listed() -> None:
    assert long_status(long_lobby(1, Phase.ENDED))["lobbies"] == []


def test_phases_and_states_are_those_of_the_crd() -> None:
    fields = open_api_schema()["properties"]["status"]["properties"]["lobbies"]["items"]["properties"]
    assert set(fields["phase"]["enum"]) == {phase.value for phase in Phase if phase is not Phase.ENDED}
    assert set(fields["origin"]["enum"]) == {state.value for state in OriginState}


def test_a_status_with_thousands_of_lobbies_stays_below_64_kib() -> None:
    open_ones = [long_lobby(index) for index in range(90_000, 92_000)]
    draining = [long_lobby(index, Phase.DRAINING) for index in range(92_000, 94_000)]
    made = long_status(*open_ones, *draining)
    assert len(made["lobbies"]) == MAX_LISTED  # type: ignore[arg-type]
    assert len(json.dumps(made, separators=(",", ":"))) < 64 * 1024  # as it is sent


def test_a_lobby_of_a_namespace_that_is_not_served_offers_nothing() -> None:
    before = {"open": [{"name": "prices-1", "address": "10.0.0.1:8000"}], "conditions": []}
    made = not_served_status("lab", 3, at=THEN, previous=before)
    jsonschema.validate(made, open_api_schema()["properties"]["status"])
    assert made["observedGeneration"] == 3
    assert "open" not in made
    assert expect(made, reasons.READY_NOT_SERVED)
    assert "namespace lab are not served" in expect(made, reasons.PATH_NOT_SERVED)
    later = not_served_status("lab", 4, at=LATER, previous=made)
    assert {each["lastTransitionTime"] for each in later["conditions"]} == {THEN}


def test_a_lobby_that_is_not_served_for_a_while_keeps_what_counts_for_its_limits() -> None:
    before = status(observed(lobby_state(1, 5), lobby_state(2, 0)), connects_until=LATER)
    made = not_served_status("lab", 3, at=THEN, previous=before)
    jsonschema.validate(made, open_api_schema()["properties"]["status"])
    assert listed_lobbies(made) == listed_lobbies(before) == frozenset({"prices-1", "prices-2"})
    assert made["origin"] == {"connectsUntil": LATER}
    assert not_served_status("lab", 3, at=LATER, previous=made) == made


def _with_origin(index: int, state: OriginState, stream: StreamState, reason: str = "") -> LobbyState:
    return lobby_state(index, 5, origin=OriginReport(state=state, reason=reason), stream=stream)


def test_a_connection_that_cannot_be_renewed_is_named_while_it_works() -> None:
    works = _with_origin(1, OriginState.CONNECTED, StreamState(flowing=True))
    fails = _with_origin(2, OriginState.CONNECTED, StreamState(flowing=True), "renewal: HTTP 403")
    found = condition(status(observed(works, fails)), ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("True", "NotRenewed")
    assert (
        found["message"] == "2 connections are up, but 1 can't be renewed (origin.renew); prices-2: renewal: HTTP 403"
    )


def test_a_lost_connection_that_nobody_notices_is_no_false_condition() -> None:
    connected = _with_origin(1, OriginState.CONNECTED, StreamState(flowing=True))
    relayed = _with_origin(2, OriginState.WAITING, StreamState(flowing=True, via=("prices-1",)), "connection refused")
    made = status(observed(connected, relayed))
    found = condition(made, ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("True", "Relayed")
    assert found["message"] == (
        "1 connection is up, and lobbies without one take the stream from there; prices-2: connection refused"
    )
    assert [each.get("via") for each in made["lobbies"]] == [None, ["prices-1"]]


@pytest.mark.parametrize(
    "stream", [StreamState(), StreamState(via=("prices-1",))], ids=["no stream", "a stream that has stopped"]
)
def test_a_lost_connection_that_is_noticed_is_a_false_condition(stream: StreamState) -> None:
    connected = _with_origin(1, OriginState.CONNECTED, StreamState(flowing=True))
    lost = _with_origin(2, OriginState.WAITING, stream, "connection refused")
    found = condition(status(observed(connected, lost)), ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("False", "Away")


def test_without_any_connection_relayed_streams_are_nobodys() -> None:
    lost = _with_origin(2, OriginState.WAITING, StreamState(flowing=True, via=("prices-1",)), "connection refused")
    found = condition(status(observed(lost)), ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("False", "Away")


def test_clients_without_a_stream_while_the_holder_does_not_answer_are_not_said_to_be_none() -> None:
    holder = lobby_state(1, 5, Phase.UNRESPONSIVE, stream=StreamState(flowing=True))
    other = _with_origin(2, OriginState.IDLE, StreamState(permit=False))
    found = condition(status(observed(holder, other)), ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("False", "NoPermit")
    assert found["message"] == (
        "1 lobby with clients has neither a stream nor a permit to connect (origin.limits.connections); a lobby that does "
        "not answer may still be connected"
    )
    empty = replace(other, clients=0)
    assert expect(status(observed(holder, empty)), reasons.ORIGIN_IDLE) == "there are no clients, so no lobby connects"


def test_lobbies_beyond_the_budget_share_its_connections() -> None:
    holder = _with_origin(1, OriginState.CONNECTED, StreamState(flowing=True))
    others = [
        _with_origin(index, OriginState.IDLE, StreamState(flowing=True, via=("prices-1",), permit=False))
        for index in (2, 3)
    ]
    found = condition(status(observed(holder, *others)), ConditionType.ORIGIN_CONNECTED)
    assert (found["status"], found["reason"]) == ("True", "Shared")
    assert found["message"] == (
        "1 connection is up, as many as origin.limits.connections allows; 2 more lobbies take the stream from there"
    )
