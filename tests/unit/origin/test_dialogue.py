"""What is compiled of a Lobby's origin."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.specs import origin_spec, resolved
from tests.unit.origin.sessions import json_batch

SAVES: dict[str, Any] = {
    "onConnect": [
        {"expect": {"json": {"/ok": True}, "save": {"token": "msg.token", "none": "msg.none"}, "timeoutSeconds": 5}}
    ],
    "onMessage": [
        {"contains": "session", "when": "msg.session == 1", "save": {"id": "msg.id", "until": "string(now)"}}
    ],
}


@pytest.mark.parametrize(
    ("message", "values"),
    [
        ('{"ok": true, "token": "t0ken"}', ['"t0ken"']),
        ('{"ok": false, "token": "t0ken"}', ['"t0ken"']),
        ('{"ok": true}', []),
        ('{"session": 2, "id": "1d"}', ['"1d"']),
        ('{"id": "1d"}', []),
        ("[", []),
    ],
)
def test_values_that_might_be_saved_of_a_message_are_found_whether_it_matches_or_not(
    message: str, values: list[str]
) -> None:
    dialogue = resolved(origin_spec(**SAVES)).dialogue
    assert list(dialogue.saveable(json_batch(message), 1.0)) == values
