from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.up import lobby_resource

from lobby_gateway.errors import UserError
from lobby_gateway.lobby.files import load
from lobby_gateway.resource.schema import validate_and_default

BAD_GENERATION = '{"metadata": {"name": "a", "generation": "first"}, "spec": {}}'


def test_a_checked_file_is_taken_as_it_is_and_any_other_is_checked(tmp_path: Path) -> None:
    resource = lobby_resource("prices", "ws://127.0.0.1:9/")
    plain, checked = tmp_path / "plain.json", tmp_path / "checked.json"
    plain.write_text(json.dumps(resource))
    checked.write_text(json.dumps(validate_and_default(resource, "test")))
    assert load(plain, validated=False) == load(checked, validated=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"metadata": {}}', "\xff", BAD_GENERATION])
def test_what_is_no_checked_lobby_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lobby.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as refused:
        load(file, validated=True)
    assert "\n" not in str(refused.value)
