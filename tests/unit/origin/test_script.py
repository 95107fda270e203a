from __future__ import annotations

from typing import Any

import pytest
from tests.support.specs import origin_spec, resolved

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import Expression, times
from lobby_gateway.origin.rules import End
from lobby_gateway.origin.script import Expectation, OriginScript, Pause, Progress, Step, equal
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch, Opcode, frame


def expect(json: dict[str, Any] | None = None, seconds: int = 5) -> Expectation:
    return Expectation(json=json or {}, timeout_seconds=seconds)


def texts(*messages: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in messages])


def kept(text: str, ahead: int = 0) -> KeptFrame:
    return KeptFrame(frame(Opcode.TEXT, text.encode()), ahead)


def payloads(batch: Batch | None) -> list[str]:
    return [] if batch is None else [bytes(batch.payload(i)).decode() for i in range(len(batch))]


OK = '{"status": "ok"}'


def test_script_without_steps_is_done_at_once() -> None:
    script = OriginScript([])
    assert script.start(0) == Progress()
    assert script.done


def test_sends_alone_are_sent_together_and_the_stream_begins() -> None:
    script = OriginScript(["login", "subscribe"])
    assert script.start(0).sends == ("login", "subscribe")
    assert script.done
    assert script.deadline is None


def test_send_behind_an_expect_waits_for_it() -> None:
    script = OriginScript(["login", expect({"/status": "ok"}), "subscribe", expect({"/subscribed": True}, 7)])
    assert script.start(10).sends == ("login",)
    assert script.deadline == 15
    assert script.receive(texts('{"status": "wait"}'), 11) == Progress()
    assert script.receive(texts(OK), 12).sends == ("subscribe",)
    assert script.deadline == 19
    assert script.receive(texts('{"subscribed": true}'), 13) == Progress()
    assert script.done
    assert script.deadline is None


def test_messages_behind_the_awaited_one_in_the_same_read_are_the_stream() -> None:
    script = OriginScript([expect({"/status": "ok"})])
    script.start(0)
    progress = script.receive(texts("noise", OK, "first", "second"), 1)
    assert payloads(progress.stream) == ["first", "second"]


def test_one_read_may_take_several_steps() -> None:
    script = OriginScript([expect({"/a": 1}), "next", expect({"/b": 2}), "last"])
    script.start(0)
    progress = script.receive(texts('{"a":1}', "noise", '{"b":2}', "first"), 1)
    assert progress.sends == ("next", "last")
    assert payloads(progress.stream) == ["first"]


def test_one_message_fulfils_one_step_only() -> None:
    script = OriginScript([expect({"/status": "ok"}), expect({"/status": "ok"})])
    script.start(0)
    assert script.receive(texts(OK), 1).stream is None
    assert payloads(script.receive(texts(OK, "first"), 1).stream) == ["first"]


@pytest.mark.parametrize(
    "message",
    ["", "no json", '{"status": "ok"', '{"status": "OK"}', '{"other": "ok"}', '["ok"]', "null", "[" * 100_000],
)
def test_what_does_not_fit_is_passed_over(message: str) -> None:
    script = OriginScript([expect({"/status": "ok"})])
    script.start(0)
    assert script.receive(texts(message), 1) == Progress()
    assert not script.done


def test_binary_message_does_not_fit_even_if_it_is_json() -> None:
    script = OriginScript([expect({"/status": "ok"})])
    script.start(0)
    script.receive(Batch.of([frame(Opcode.BINARY, OK.encode())]), 1)
    assert not script.done


def test_any_message_fits_when_nothing_is_asked_of_it() -> None:
    for opcode in (Opcode.TEXT, Opcode.BINARY):
        script = OriginScript([expect()])
        script.start(0)
        script.receive(Batch.of([frame(opcode, b"\x01 hello")]), 1)
        assert script.done


def test_all_pointers_must_fit() -> None:
    script = OriginScript([expect({"/a": 1, "/b/0/c": None})])
    script.start(0)
    short_of = texts('{"a": 1}', '{"b": [{"c": null}]}', '{"a": 2, "b": [{"c": null}]}')
    assert script.receive(short_of, 1).stream is None
    progress = script.receive(texts('{"a": 1, "b": [{"c": null}]}', "first"), 1)
    assert payloads(progress.stream) == ["first"]


def test_overdue_names_the_step_and_the_pointers_but_no_value() -> None:
    steps: list[Step] = ["key=hunter22", expect({"/token": "hunter22", "/status": "ok"})]
    script = OriginScript(steps)
    script.start(0)
    assert script.overdue(4.9) is None
    assert script.overdue(5) == "onConnect[1]: no message matching /status, /token within 5 s"
    assert script.where == "onConnect[1]"


def test_overdue_names_the_step_whose_time_is_up() -> None:
    script = OriginScript([expect({"/id": 1}, seconds=60), expect({"/id": 2}, seconds=5)])
    script.start(0)
    assert script.overdue(5) == "onConnect[1]: no message matching /id within 5 s"


def test_overdue_without_pointers_says_that_nothing_came() -> None:
    script = OriginScript([expect(seconds=2)])
    script.start(0)
    assert script.overdue(2) == "onConnect[0]: no message within 2 s"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), (True, True, True), (None, None, True), (None, False, False),
        ("1", 1, False), ([1, [True]], [1, [True]], True), ([1], [True], False), ([1], [1, 1], False),
        ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"a": True}, False), ({"a": 1}, {"b": 1}, False), ({}, [], False),
    ],
)  # fmt: skip
def test_values_are_compared_as_json(a: object, b: object, same: bool) -> None:
    assert equal(a, b) is same
    assert equal(b, a) is same


def test_at_most_so_many_messages_are_judged_at_a_time() -> None:
    script = OriginScript([expect({"/ok": True})])
    script.start(0)
    flood = texts(*["{}"] * 25, '{"ok": true}', "first")
    assert script.receive(flood, 0, most=10) == Progress(unjudged=10)
    assert script.receive(flood, 0, start=10, most=10) == Progress(unjudged=20)
    progress = script.receive(flood, 0, start=20, most=10)
    assert progress.unjudged is None
    assert progress.stream is not None
    assert [bytes(progress.stream.payload(i)) for i in range(len(progress.stream))] == [b"first"]


# What arrives meanwhile


def script_of(*onConnect: dict[str, Any], rules: list[dict[str, Any]] | None = None, most: int = 1000) -> OriginScript:  # noqa: N803
    found = resolved(origin_spec(onConnect=[with_timeout(each) for each in onConnect], onMessage=rules or [])).dialogue
    script = OriginScript(found.steps, found.rules, max_early_bytes=most)
    script.start(0)
    return script


def with_timeout(step: dict[str, Any]) -> dict[str, Any]:
    return {"expect": {"json": {}, "timeoutSeconds": 5, **step["expect"]}} if "expect" in step else step


A, B = '{"id":1}', '{"id":2}'


@pytest.mark.parametrize("answers", [(A, B), (B, A)])
def test_consecutive_expects_match_in_any_order(answers: tuple[str, str]) -> None:
    script = script_of({"expect": {"json": {"/id": 1}}}, {"expect": {"json": {"/id": 2}}})
    assert not script.receive(texts(answers[0]), 1).sends
    assert not script.done
    assert payloads(script.receive(texts(answers[1], "first"), 1).stream) == ["first"]


OVERLAPPING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"json": {"/ok": True}}, {"json": {"/ok": True, "/id": 2}}),
    ({"json": {}}, {"json": {"/id": 2}}),
    ({"json": {}}, {"contains": '"id":2'}),
    ({"json": {}}, {"when": "msg.id == 2"}),
    ({"json": {"/ok": True}}, {"json": {"/ok": True}, "when": "msg.id == 2"}),
    ({"json": {"/ok": True}}, {"json": {"/ok": True}, "contains": '"id":2'}),
    ({"contains": "ok"}, {"contains": '"ok":true,"id":2'}),
    ({"when": "msg.ok"}, {"when": "msg.ok", "json": {"/id": 2}}),
]


@pytest.mark.parametrize("steps", [each for pair in OVERLAPPING for each in (pair, pair[::-1])])
@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (2, 2)])
def test_a_message_that_fits_overlapping_expects_goes_to_the_one_that_asks_for_more(
    steps: tuple[dict[str, Any], dict[str, Any]], ids: tuple[int, int]
) -> None:
    script = script_of(*({"expect": each} for each in steps))
    script.receive(texts(*(f'{{"ok":true,"id":{each}}}' for each in ids)), 1)
    assert script.done


def test_of_three_nested_expects_the_innermost_that_is_left_takes_a_message() -> None:
    nested: list[dict[str, Any]] = [{}, {"/a": 1}, {"/a": 1, "/b": 1}]
    script = script_of(*({"expect": {"json": each, "keep": str(len(each))}} for each in nested))
    script.receive(texts(*['{"a":1,"b":1}'] * 3), 1)
    assert script.done
    assert list(script.kept) == ["2", "1", "0"]


@pytest.mark.parametrize(
    "steps",
    [
        ({"json": {"/a": 1}}, {"json": {"/b": 1}}),
        ({"json": {"/a": 1}}, {"json": {"/a": 1}}),
        ({"json": {"/a": 1}}, {"json": {"/b": 1, "/c": 1}}),
        ({"json": {"/a": 1}}, {"when": "msg.a == 1 && msg.b == 1"}),
        ({"json": {}, "when": "msg.a == 1"}, {"json": {"/b": 1}}),
    ],
)
def test_a_message_that_fits_expects_of_which_none_asks_for_more_goes_to_the_first(
    steps: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    script = script_of(*({"expect": {**each, "keep": f"k{at}"}} for at, each in enumerate(steps)))
    script.receive(texts('{"a":1,"b":1,"c":1}'), 1)
    assert list(script.kept) == ["k0"]
    assert not script.done


def test_the_time_of_consecutive_expects_begins_again_with_each_match_and_names_the_open_one() -> None:
    script = script_of({"expect": {"json": {"/id": 1}}}, {"expect": {"json": {"/id": 2}}})
    script.receive(texts(B), 4)
    assert script.overdue(8.9) is None
    assert script.overdue(9) == "onConnect[0]: no message matching /id within 5 s"


def test_early_messages_are_the_beginning_of_the_stream_in_their_order() -> None:
    script = script_of(
        {"expect": {"json": {"/id": 1}, "early": "Forward"}},
        {"send": "next"},
        {"expect": {"json": {"/id": 2}, "early": "Forward"}},
    )
    assert script.receive(texts("snapshot", A, "tick 1"), 1).early is None
    progress = script.receive(texts("tick 2", B, "tick 3"), 2)
    assert payloads(progress.early) == ["snapshot", "tick 1", "tick 2"]
    assert payloads(progress.stream) == ["tick 3"]


def test_early_messages_are_dropped_while_no_awaited_step_forwards_them() -> None:
    script = script_of(
        {"expect": {"json": {"/id": 1}}}, {"send": "x"}, {"expect": {"json": {"/id": 2}, "early": "Forward"}}
    )
    script.receive(texts("too early", A), 1)
    progress = script.receive(texts("early", B), 1)
    assert payloads(progress.early) == ["early"]


def test_rules_hold_for_messages_that_no_step_waits_for() -> None:
    rules: list[dict[str, Any]] = [
        {"contains": "ping", "send": "pong", "forward": False},
        {"contains": '"error"', "end": {"reason": "msg.error", "refused": True}},
    ]
    script = script_of({"expect": {"contains": "welcome", "early": "Forward"}}, rules=rules)
    progress = script.receive(texts("ping", "tick"), 1)
    assert progress.sends == ("pong",)
    progress = script.receive(texts('{"error":"auth failed"}', "welcome"), 1)
    assert progress.end == End("auth failed", refused=True)
    assert not script.done


def test_an_awaited_message_is_the_steps_even_if_a_rule_matches() -> None:
    script = script_of({"expect": {"when": 'text.startsWith("40")'}}, rules=[{"contains": "4", "end": {}}])
    assert script.receive(texts("40{}"), 1).end is None
    assert script.done


def test_too_many_early_bytes_end_the_connection() -> None:
    script = script_of({"expect": {"json": {"/id": 1}, "early": "Forward"}}, most=100)
    end = script.receive(texts(*["x" * 30] * 5), 1).end
    assert end == End("more than 100 bytes arrived before onConnect was done", refused=False)


def test_what_came_instead_is_told() -> None:
    script = script_of({"expect": {"json": {"/ok": True}}}, rules=[{"contains": "hb", "forward": False}])
    script.receive(texts('{"ok":false,"why":"no such channel"}', "hb"), 1)
    assert script.overdue(9) == (
        'onConnect[0]: no message matching /ok within 5 s; the latest other message: {"ok":false,"why":"no such channel"}'
    )


def test_an_expression_in_a_text_is_evaluated_when_it_is_sent() -> None:
    script = OriginScript(resolved(origin_spec(onConnect=[{"send": "at $(now)"}])).dialogue.steps)
    assert script.start(0, Known(times(7.9))).sends == ("at 7",)


def test_not_json_is_not_the_json_null() -> None:
    script = script_of({"expect": {"json": {"": None}}})
    script.receive(texts("no JSON"), 1)
    assert not script.done
    script.receive(texts("null"), 1)
    assert script.done


# Pauses (`wait`)


def test_a_pause_is_the_time_between_two_steps() -> None:
    script = OriginScript(["first", Pause("onConnect[1].wait", 2.0), "second", expect({"/status": "ok"})])
    assert script.start(10).sends == ("first",)
    assert script.deadline == 12
    assert script.resume(11.9) is None
    assert script.overdue(12) is None
    resumed = script.resume(12)
    assert resumed is not None
    assert resumed.sends == ("second",)
    assert script.deadline == 17
    assert script.resume(17) is None
    assert script.overdue(17) is not None


@pytest.mark.parametrize(("forward", "kept"), [(False, []), (True, ["snapshot", "tick"])])
def test_what_arrives_in_a_pause_is_dropped_or_the_beginning_of_the_stream(forward: bool, kept: list[str]) -> None:
    script = OriginScript(["subscribe", Pause("onConnect[1].wait", 2.0, forward_early=forward)])
    script.start(0)
    assert script.receive(texts("snapshot", "tick"), 1) == Progress()
    resumed = script.resume(2)
    assert resumed is not None
    assert script.done
    assert payloads(resumed.early) == kept


def test_rules_hold_in_a_pause() -> None:
    script = script_of({"wait": {"seconds": 2}}, rules=[{"contains": "ping", "send": "pong"}])
    assert script.receive(texts("ping"), 1).sends == ("pong",)


def test_the_origin_may_tell_how_long_a_pause_is() -> None:
    pause = Pause("onConnect[0].wait", Expression("double(saved.delay) / 1000.0", {"saved"}))
    script = OriginScript([pause])
    assert script.start(0, Known({"saved": {"delay": 1500}})).end is None
    assert script.deadline == 1.5


@pytest.mark.parametrize(("delay", "problem"), [(301_000, "301.0; accepted: 0 to 300"), (None, "delay")])
def test_a_pause_without_a_usable_length_ends_the_connection(delay: int | None, problem: str) -> None:
    pause = Pause("onConnect[0].wait", Expression("double(saved.delay) / 1000.0", {"saved"}))
    end = OriginScript([pause]).start(0, Known({"saved": {} if delay is None else {"delay": delay}})).end
    assert end is not None
    assert end.reason.startswith("onConnect[0].wait.secondsFrom: ")
    assert problem in end.reason.lower()


def keeping(name: str, *, early: bool = False) -> Expectation:
    return Expectation(json={"/id": name}, keep=name, forward_early=early, timeout_seconds=5)


def test_an_awaited_message_is_kept() -> None:
    script = OriginScript([keeping("a"), keeping("b")])
    script.start(0)
    script.receive(texts('{"id":"b"}', "noise", '{"id":"a"}', '{"id":"a"}'), 1)
    assert script.done
    assert list(script.kept.items()) == [("b", kept('{"id":"b"}')), ("a", kept('{"id":"a"}'))]


@pytest.mark.parametrize("early", [False, True])
def test_what_a_rule_keeps_during_the_script_is_part_of_the_stream_only_if_it_is_forwarded_early(early: bool) -> None:
    rules = resolved(origin_spec(onMessage=[{"contains": "state", "keep": "state"}])).dialogue.rules
    script = OriginScript([keeping("a", early=early)], rules)
    script.start(0)
    progress = script.receive(texts("state 1", "state 2", '{"id":"a"}'), 1)
    aside, in_stream = {"a": kept('{"id":"a"}')}, {"state": kept("state 2", 2)}
    assert payloads(progress.early) == (["state 1", "state 2"] if early else [])
    dropped = {"state": kept("state 2")}
    assert (script.kept, script.kept_early) == ((aside, in_stream) if early else ({**dropped, **aside}, {}))


def test_a_message_that_is_too_large_is_not_held_until_the_stream_begins() -> None:
    script = OriginScript([keeping("a"), keeping("b")], max_kept_bytes=10)
    script.start(0)
    script.receive(texts('{"id":"a"}', '{"id":"b", "more":1}'), 1)
    assert script.kept == {"a": kept('{"id":"a"}'), "b": KeptFrame(b"")}
