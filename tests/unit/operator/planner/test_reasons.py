from __future__ import annotations

import re
from string import Formatter

import pytest

from lobby_operator.planner import reasons
from lobby_operator.planner.reasons import (
    ACTION_REASONS,
    CONDITIONS,
    MEANING,
    ActionReason,
    ConditionReason,
    ConditionState,
    ConditionType,
    fill_in,
    placeholders,
)

ONE_WORD = re.compile(r"[A-Z][A-Za-z]+")


def test_every_action_reason_has_a_sentence_and_a_one_word_name() -> None:
    assert ACTION_REASONS.keys() == set(ActionReason)
    assert all(ONE_WORD.fullmatch(why.value) for why in ActionReason)
    assert all(ACTION_REASONS.values())


def test_every_condition_has_a_meaning_and_reasons_for_true_and_false() -> None:
    assert MEANING.keys() == set(ConditionType)
    for kind in ConditionType:
        assert {"True", "False"} <= {reason.status for reason in CONDITIONS if reason.kind is kind}


def test_the_table_of_conditions_is_complete() -> None:
    tables = (reasons.SCALING_HELD.values(), reasons.STALLED.values())
    defined = [value for value in vars(reasons).values() if isinstance(value, ConditionReason)]
    defined += [reason for table in tables for reason in table]
    assert sorted(map(id, CONDITIONS)) == sorted(map(id, defined))
    names = [(reason.kind, reason.name) for reason in CONDITIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("reason", CONDITIONS, ids=lambda reason: f"{reason.kind}-{reason.name}")
def test_a_finding_fills_in_its_sentence(reason: ConditionReason) -> None:
    assert reason.status in {"True", "False", "Unknown"}
    assert ONE_WORD.fullmatch(reason.name)
    fields = {name: "7" for _, name, _, _ in Formatter().parse(reason.sentence) if name}
    assert "{" not in ConditionState(reason, fields).sentence


def test_a_sentence_has_singular_and_plural() -> None:
    sentence = "{n:# lobby is|# lobbies are} running, {most} wanted"
    assert fill_in(sentence, {"n": 1, "most": 3}) == "1 lobby is running, 3 wanted"
    assert fill_in(sentence, {"n": 0, "most": 1}) == "0 lobbies are running, 1 wanted"
    assert fill_in(sentence, {"n": 1000000.0, "most": 60.04}) == "1000000 lobbies are running, 60.04 wanted"


def test_the_documentation_shows_names_instead_of_numbers() -> None:
    assert placeholders("{n:# lobby is|# lobbies are} running at {path}") == "{n} lobbies are running at {path}"
    assert all("#" not in placeholders(sentence) for sentence in ACTION_REASONS.values())
