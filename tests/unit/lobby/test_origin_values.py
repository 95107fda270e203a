from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.mounted import Mounted
from tests.support.specs import origin_spec

from lobby_gateway.errors import MissingSecretError
from lobby_gateway.lobby.files import EnvironmentValues, FolderValues

ORIGIN = origin_spec(headers=[{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "feed", "key": "key"}}}])
VARIABLE = "LOBBY_SECRET_FEED_KEY"


def test_values_of_the_environment_never_change() -> None:
    values = EnvironmentValues({VARIABLE: "one"})
    assert values.resolve(ORIGIN).headers == (("X-Key", "one"),)
    assert values.files(ORIGIN) == ()


def test_values_of_a_folder_are_read_at_use(tmp_path: Path) -> None:
    folder = Mounted(tmp_path / "secrets", **{VARIABLE: "one\n"})
    values = FolderValues(folder.path)
    assert values.files(ORIGIN) == (folder / VARIABLE,)
    assert values.resolve(ORIGIN).headers == (("X-Key", "one"),)
    folder.replace(**{VARIABLE: "two"})
    assert values.resolve(ORIGIN).headers == (("X-Key", "two"),)


def test_a_missing_value_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(MissingSecretError) as refused:
        FolderValues(tmp_path).resolve(ORIGIN)
    assert str(refused.value) == (
        "spec.origin.headers[0].valueFrom.secretKeyRef: key key of Secret feed is not there; "
        f"accepted: a value in the file {tmp_path}/{VARIABLE}"
    )
