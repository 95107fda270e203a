"""Which messages of an origin are dropped, answered, or end its connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.specs import origin_spec, resolved

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import times
from lobby_gateway.origin.rules import End, Judgement, MessageRules, Verdict
from lobby_gateway.trunk.kept import KeptFrame
from lobby_gateway.websocket.frames import Batch, Opcode, frame

NOW = Known(times(1767225600.0))


def rules(*onMessage: dict[str, Any]) -> MessageRules:  # noqa: N803  the field's name
    made = resolved(origin_spec(onMessage=list(onMessage))).dialogue.rules
    assert made is not None
    return made


def texts(*messages: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, each.encode()) for each in messages])


def kept(text: str, ahead: int = 0) -> KeptFrame:
    return KeptFrame(frame(Opcode.TEXT, text.encode()), ahead)


def judged(found: MessageRules, *messages: str, **options: Any) -> tuple[list[str], Judgement]:
    judgement = found.judge(texts(*messages), NOW, **options)
    forwarded = judgement.forwarded
    return [] if forwarded is None else [bytes(forwarded.payload(i)).decode() for i in range(len(forwarded))], judgement


def test_an_origin_without_rules_has_none() -> None:
    assert resolved(origin_spec()).dialogue.rules is None


def test_without_a_hit_a_batch_concerns_no_rule() -> None:
    found = rules({"contains": '"ping"', "when": "has(msg.ping)", "forward": False}, {"contains": "error", "end": {}})
    assert not found.concern(texts('{"price":1}', '{"price":2}'))
    assert found.concern(texts('{"price":1}', '{"ping":2}'))


def test_a_rule_without_contains_concerns_every_message() -> None:
    found = rules({"when": r'text == "\n"', "forward": False})
    assert found.concern(texts("anything"))
    assert judged(found, "a", "\n", "b")[0] == ["a", "b"]


def test_a_control_message_is_answered_and_dropped_in_the_order_of_messages() -> None:
    found = rules({"contains": '"ping"', "when": "has(msg.ping)", "send": '{"pong":$(msg.ping)}', "forward": False})
    forwarded, judgement = judged(found, '{"n":1}', '{"ping":7}', '{"n":"\\"ping\\""}', '{"ping":8}')
    assert forwarded == ['{"n":1}', '{"n":"\\"ping\\""}']
    assert judgement.sends == ('{"pong":7}', '{"pong":8}')
    assert judgement.end is None


def test_a_hit_that_no_rule_means_is_passed_on_as_it_came() -> None:
    found = rules({"contains": "ping", "when": "has(msg.ping)", "forward": False})
    batch = texts('{"text":"ping"}', "pinging")
    assert found.judge(batch, NOW).forwarded is batch


def test_the_first_rule_that_matches_decides() -> None:
    found = rules(
        {"contains": '"error"', "when": "msg.code == 1", "forward": True},
        {"contains": '"error"', "end": {"reason": "msg.error"}},
    )
    assert judged(found, '{"error":"mild","code":1}')[1].end is None
    assert judged(found, '{"error":"bad","code":2}')[1].end == End("bad", refused=False)


def test_what_ends_the_connection_is_forwarded_unless_told_otherwise_and_nothing_after_it_is() -> None:
    found = rules({"contains": "error", "end": {"reason": "msg.error", "refused": True}})
    forwarded, judgement = judged(found, "a", '{"error":"no"}', "b")
    assert forwarded == ["a", '{"error":"no"}']
    assert judgement.end == End("no", refused=True)
    assert judgement.unjudged is None
    silent = rules({"contains": "error", "forward": False, "end": {}})
    assert judged(silent, "a", "error", "b")[0] == ["a"]


def test_without_a_reason_that_can_be_told_the_message_is_the_reason() -> None:
    for end in ({}, {"reason": "msg.error.message"}):
        assert judged(rules({"contains": "error", "end": end}), '{"error":7}')[1].end == End(
            '{"error":7}', refused=False
        )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("msg", '{"error":{"ok":true,"at":null,"é":[1.5]}}'),
        ("msg.error.ok", "true"),
        ("msg.error.at", "null"),
        ("data", '{"error": {"ok": true, "at": null, "é": [1.5]}}'),
    ],
)
def test_a_reason_that_is_no_text_is_json(source: str, reason: str) -> None:
    found = rules({"contains": "error", "end": {"reason": source}})
    end = judged(found, '{"error": {"ok": true, "at": null, "é": [1.5]}}')[1].end
    assert end is not None
    if source == "msg":
        assert json.loads(end.reason) == json.loads(reason)
    else:
        assert end.reason == reason


def test_an_answer_that_can_not_be_made_ends_the_connection_and_says_where() -> None:
    found = rules({"contains": "a"}, {"contains": "ping", "send": "$(msg.id)"})
    end = judged(found, '{"ping":1}')[1].end
    assert end is not None
    assert end.reason.startswith("onMessage[1].send: ")
    assert not end.refused


def test_messages_are_judged_so_many_at_a_time() -> None:
    found = rules({"contains": "x", "forward": False})
    messages = ["x", "1", "x", "2", "3"]
    assert [(judged(found, *messages, start=at, most=2)[0]) for at in (0, 2, 4)] == [["1"], ["2"], ["3"]]
    assert [judged(found, *messages, start=at, most=2)[1].unjudged for at in (0, 2, 4)] == [2, 4, None]


def test_no_repr_shows_an_answer_or_a_reason() -> None:
    found = rules({"contains": "k", "send": "$(text)", "end": {}})
    assert "hunter2" not in repr(judged(found, "k hunter2")[1])


messages = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda n: json.dumps({"n": n})),
        st.integers(0, 9).map(lambda n: json.dumps({"ping": n})),
        st.just('{"text":"ping"}'),
    ),
    max_size=12,
)


@given(messages, st.integers(1, 13))
def test_in_any_steps_the_same_is_forwarded_and_answered(given_messages: list[str], most: int) -> None:
    found = rules({"contains": "ping", "when": "has(msg.ping)", "send": "$(msg.ping)", "forward": False})
    forwarded: list[str] = []
    sends: list[str | bytes] = []
    at: int | None = 0
    while at is not None:
        some, judgement = judged(found, *given_messages, start=at, most=most)
        forwarded += some
        sends += judgement.sends
        at = judgement.unjudged
    assert forwarded == [each for each in given_messages if "ping" not in json.loads(each)]
    assert sends == [str(json.loads(each)["ping"]) for each in given_messages if "ping" in json.loads(each)]


def test_the_newest_message_of_each_name_is_kept_whether_it_is_forwarded_or_not() -> None:
    found = rules(
        {"contains": '"state"', "keep": "state"},
        {"contains": '"id"', "keep": "id", "forward": False},
    )
    forwarded, judgement = judged(found, '{"state":1}', "a", '{"id":7}', '{"state":2}', "b")
    assert forwarded == ['{"state":1}', "a", '{"state":2}', "b"]
    assert judgement.kept == {"state": kept('{"state":2}', 3), "id": kept('{"id":7}')}  # which is not in the stream


def test_what_is_judged_later_is_kept_later() -> None:
    found = rules({"contains": '"state"', "keep": "state"})
    _, first = judged(found, '{"state":1}', '{"state":2}', most=1)
    assert first.kept == {"state": kept('{"state":1}', 1)}
    _, second = judged(found, '{"state":1}', '{"state":2}', start=first.unjudged)
    assert second.kept == {"state": kept('{"state":2}', 1)}


def test_a_message_that_ends_the_connection_is_not_kept() -> None:
    found = rules({"contains": '"state"', "keep": "state", "save": {"x": "msg.x"}})
    assert judged(found, '{"state":1}')[1].kept == {}  # without x, which is missed later


pieces = st.sampled_from(["ping", "pi", "ng", "p", "g", "error", "err", "or", "\x04", "", "x" * 130, "é"])


@given(st.lists(st.lists(pieces, max_size=4).map("".join), min_size=1, max_size=20), st.data())
def test_messages_that_arrive_together_are_judged_as_if_each_came_alone(said: list[str], data: st.DataObject) -> None:
    """A literal that ends in the next message, or that the header of a frame completes, is no hit."""
    found = rules(
        {"contains": "\x04ping", "send": "$(text)"},
        {"contains": "ping", "forward": False},
        {"contains": "error", "send": "error"},
        {"contains": "gp"},
    )
    alone = [found.judge_one(texts(each), 0, NOW) for each in said]
    assert found.concern(texts(*said)) or all(each.forward and each.send is None for each in alone)
    start = data.draw(st.integers(0, len(said)))
    most = data.draw(st.none() | st.integers(1, 20))
    stop = len(said) if most is None else start + most
    forwarded, judgement = judged(found, *said, start=start, most=most)
    verdicts = list(zip(said, alone, strict=True))[start:stop]
    assert forwarded == [each for each, verdict in verdicts if verdict.forward]
    assert judgement.sends == tuple(verdict.send for _, verdict in verdicts if verdict.send is not None)


def test_of_messages_that_arrive_together_only_those_with_a_literal_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[int] = []
    judge_one = MessageRules.judge_one

    def counting(self: MessageRules, batch: Batch, index: int, known: Known) -> Verdict:
        looked_at.append(index)
        return judge_one(self, batch, index, known)

    monkeypatch.setattr(MessageRules, "judge_one", counting)
    found = rules({"contains": '"ping"', "forward": False}, {"contains": '"error"', "end": {}})
    messages = ['{"n":1}'] * 800
    messages[700] = '{"ping":1}'
    assert judged(found, *messages)[0] == ['{"n":1}'] * 799
    assert looked_at == [700]
