"""The operator's settings: their defaults, and that each is explained."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from lobby_operator import settings as settings_module
from lobby_operator.settings import LeaseSettings, OperatorSettings, PodSettings

ALL = [each for each in vars(settings_module).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]


@pytest.mark.parametrize("settings", ALL)
def test_every_field_is_explained(settings: type) -> None:
    explained = set(re.findall(r"^    (\w+): \S", inspect.cleandoc(settings.__doc__ or ""), re.MULTILINE))
    assert {field.name for field in dataclasses.fields(settings)} == explained


def test_defaults_are_these() -> None:
    made = OperatorSettings(
        pods=PodSettings(image="lobby", token_secret="token"), namespace="", own_namespace="system", identity="one"
    )
    assert made.greeter_selector == "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=greeter"
    assert (made.admin_host, made.admin_port, made.lobby_admin_port) == ("0.0.0.0", 8001, 8001)
    assert made.lease_name == "lobby-operator"
    assert made.lease == LeaseSettings(duration_seconds=15, deadline_seconds=10.0, renew_seconds=2.0)
    assert made.informer.watch_seconds == 300.0
    assert made.stop_seconds == 10.0


def test_the_holder_stops_well_before_another_may_begin() -> None:
    lease = LeaseSettings()
    assert lease.renew_seconds * 2 < lease.deadline_seconds
    assert lease.deadline_seconds + 2 * lease.renew_seconds <= lease.duration_seconds
