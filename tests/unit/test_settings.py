"""The gateway's settings: every field is explained, and frozen."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from lobby_gateway import settings

SETTINGS = [each for _, each in inspect.getmembers(settings, inspect.isclass) if dataclasses.is_dataclass(each)]


def test_every_field_is_explained_in_order() -> None:
    assert SETTINGS
    for each in SETTINGS:
        explained = re.findall(r"^    (\w+): \S", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE)
        assert [field.name for field in dataclasses.fields(each)] == explained, each.__name__


def test_settings_have_defaults_and_are_frozen() -> None:
    for each in SETTINGS:
        made = each()
        name = dataclasses.fields(each)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, getattr(made, name))
