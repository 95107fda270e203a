"""The gateway's settings: every field is explained, and frozen."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from lobby_gateway import settings

SETTINGS: list[Any] = [
    each for name, each in inspect.getmembers(settings, inspect.isclass) if name.endswith("Settings")
]


def test_every_field_is_explained_in_order() -> None:
    assert SETTINGS
    for each in SETTINGS:
        explained = re.findall(r"^    (\w+): \S", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE)
        assert list(each._fields) == explained, each.__name__


def test_settings_have_defaults_and_are_frozen() -> None:
    for each in SETTINGS:
        made = each()
        name = each._fields[0]
        with pytest.raises(AttributeError):
            setattr(made, name, getattr(made, name))
