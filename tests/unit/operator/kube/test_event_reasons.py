"""Which actions and which changes of conditions become Events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lobby_operator.kube import event_reasons
from lobby_operator.kube.event_reasons import LobbyEvent, event_of_action, event_of_taken_name, events_between, note_of
from lobby_operator.planner import reasons
from lobby_operator.planner.actions import Create, Delete, Preconnect, Reason
from lobby_operator.planner.reasons import ActionReason, ConditionState, ConditionType
from lobby_operator.planner.state import Hold


def status(*found: ConditionState) -> dict[str, Any]:
    return {
        "conditions": [
            {
                "type": each.reason.kind.value,
                "status": each.reason.status,
                "reason": each.reason.name,
                "message": each.sentence,
            }
            for each in found
        ]
    }


AWAY = ConditionState(reasons.ORIGIN_LOST, {"count": 1, "lobby": "prices-1", "problem": "no route"})
WELL = ConditionState(reasons.ORIGIN_CONNECTED, {"connected": 1})
IDLE = ConditionState(reasons.ORIGIN_IDLE)


def test_the_event_of_an_action_names_lobby_and_reason() -> None:
    action = Create("prices-2", Reason(ActionReason.BELOW_REPLICAS, running=1, replicas=2))
    text = f"starting: {action.reason.sentence}"
    note = "starting: 1 lobby is running, 2 wanted (replicas)"
    event = event_of_action(action, text, "Unschedulable: not yet")
    assert event == LobbyEvent("Normal", "BelowReplicas", "Create", note, "prices-2")
    assert note_of([event], 1024) == f"prices-2: {note}"


def test_the_event_of_a_failure_says_what_the_kubelet_reports() -> None:
    action = Delete("prices-2", Reason(ActionReason.ENDED))
    event = event_of_action(action, "deleting: it has ended", "OOMKilled (exit code 137)")
    assert (event.type, event.note) == ("Warning", "deleting: it has ended (OOMKilled (exit code 137))")


def told(lobby: str, note: str = "draining") -> LobbyEvent:
    return LobbyEvent("Normal", "Empty", "Drain", note, lobby)


@pytest.mark.parametrize(
    ("events", "note"),
    [
        ([told("", "/p is taken")], "/p is taken"),
        ([told("p-1"), told("p-3"), told("p-2")], "p-1, p-3, p-2: draining"),
        ([told("p-1"), told("p-1")], "p-1: draining"),
        ([told("p-1", "a"), told("p-2", "b"), told("p-3", "a")], "p-1, p-3: a; p-2: b"),
        ([told("", "a"), told("", "b")], "a; b"),
        ([told(f"p-{n}") for n in range(13)], f"{', '.join(f'p-{n}' for n in range(10))}, 3 more: draining"),
    ],
)
def test_a_note_names_every_lobby(events: list[LobbyEvent], note: str) -> None:
    assert note_of(events, 1024) == note


def test_a_long_note_is_cut() -> None:
    assert note_of([told("p-1", "x" * 50)], 20) == f"p-1: {'x' * 15}"
    many = note_of([told(f"p-{n}", f"{n}" * 30) for n in range(3)], 60)
    assert many == f"p-0: {'0' * 30} (and 2 more like it)"


def test_an_action_after_a_failure_is_a_warning() -> None:
    assert (
        event_of_action(Delete("prices-2", Reason(ActionReason.UNRESPONSIVE, seconds=10)), "deleting").type == "Warning"
    )
    assert event_of_action(Delete("prices-2", Reason(ActionReason.DRAINED)), "deleting").type == "Normal"


def test_a_lost_and_a_recovered_origin_are_one_event_each() -> None:
    (lost,) = events_between(status(WELL), status(AWAY))
    assert (lost.type, lost.reason) == ("Warning", "OriginLost")
    assert "no route" in lost.note
    assert list(events_between(status(AWAY), status(AWAY))) == []
    (back,) = events_between(status(AWAY), status(WELL))
    assert (back.type, back.reason) == ("Normal", "OriginBack")


@pytest.mark.parametrize("after", [WELL, IDLE])
def test_a_good_condition_is_no_news_unless_it_was_bad(after: ConditionState) -> None:
    assert list(events_between({}, status(after))) == []
    assert list(events_between(status(IDLE), status(after))) == []


def test_a_changed_count_is_no_news_but_another_failure_is() -> None:
    more = ConditionState(reasons.ORIGIN_LOST, {"count": 2, "lobby": "prices-1", "problem": "no route"})
    assert list(events_between(status(AWAY), status(more))) == []
    quota = ConditionState(reasons.SCALING_FAILING, {"problem": "exceeded quota"})
    other = ConditionState(reasons.SCALING_FAILING, {"problem": "image is not allowed"})
    assert [each.note for each in events_between(status(quota), status(other))] == ["image is not allowed; retrying"]


def test_a_path_that_is_taken_is_a_warning_until_it_is_free() -> None:
    taken = ConditionState(reasons.PATH_TAKEN, {"path": "/p", "other": "old"})
    (warning,) = events_between({}, status(taken))
    assert (warning.type, warning.reason, warning.note) == ("Warning", "PathTaken", "/p belongs to the older Lobby old")
    (free,) = events_between(status(taken), status(ConditionState(reasons.PATH_ACCEPTED, {"path": "/p"})))
    assert (free.type, free.reason) == ("Normal", "PathAccepted")


def test_every_warning_is_a_known_condition_and_has_a_recovery() -> None:
    known: set[tuple[str, str]] = {(each.kind.value, each.name) for each in reasons.CONDITIONS}
    assert set(event_reasons._WARNINGS) <= known
    assert {kind for kind, _ in event_reasons._WARNINGS} == set(event_reasons._RECOVERIES) <= set(ConditionType)


def test_every_event_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    reasons_of_events = {
        *(why.value for why in ActionReason if why not in Preconnect.ACCEPTS),
        *event_reasons._WARNINGS.values(),
        *event_reasons._RECOVERIES.values(),
        event_reasons.NAME_TAKEN,
    }
    assert {each for each in reasons_of_events if f"`{each}`" not in page} == set()


def test_a_name_that_someone_else_has_is_a_warning_about_that_lobby() -> None:
    event = event_of_taken_name("prices-2", "a pod of that name exists")
    assert event == LobbyEvent("Warning", "NameTaken", "Create", "a pod of that name exists", "prices-2")


def test_another_missing_secret_is_another_event() -> None:
    first, second = (
        status(ConditionState(reasons.SCALING_HELD[Hold.SECRET_MISSING], {"lobby": "prices-1", "problem": problem}))
        for problem in ("Secret a is missing", "Secret b is missing")
    )
    (event,) = events_between(first, second)
    assert (event.type, event.reason) == ("Warning", "SecretMissing")
    assert "Secret b is missing" in event.note
