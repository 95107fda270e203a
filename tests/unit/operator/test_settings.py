"""The operator's settings: their defaults, and that each is explained."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from lobby_operator import settings
from lobby_operator.settings import LeaseSettings, OperatorSettings, PodSettings, ReconcileSettings

SETTINGS = [each for _, each in inspect.getmembers(settings, inspect.isclass) if dataclasses.is_dataclass(each)]


def test_every_field_is_explained() -> None:
    explained = {
        each.__name__: re.findall(r"^    (\w+): \S", inspect.cleandoc(each.__doc__ or ""), re.MULTILINE)
        for each in SETTINGS
    }
    assert explained == {each.__name__: [field.name for field in dataclasses.fields(each)] for each in SETTINGS}


def test_defaults_are_these() -> None:
    made = OperatorSettings(
        pods=PodSettings(image="lobby", token_secret="token"), namespace="", own_namespace="system", identity="one"
    )
    assert made.greeter_selector == "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=greeter"
    assert (made.admin_host, made.admin_port, made.lobby_admin_port) == ("::", 8001, 8001)
    assert made.lease_name == "lobby-operator"
    assert made.lease == LeaseSettings(duration_seconds=15, deadline_seconds=10.0, renew_seconds=2.0)
    assert made.kopf.watch_seconds == 300.0
    assert made.stop_seconds == 10.0


def test_passes_over_many_lobbies_leave_most_of_a_core_to_others() -> None:
    settings = ReconcileSettings(
        min_interval_seconds=0.05, max_planning_share=0.25, max_pause_seconds=0.5, max_interval_seconds=5.0
    )
    assert settings.pause_after(0.001) == 0.05
    assert settings.pause_after(0.05) == pytest.approx(0.15)
    assert settings.pause_after(3.0) == 0.5  # the machine was slow, not the pass


def test_the_holder_stops_well_before_another_may_begin() -> None:
    lease = LeaseSettings()
    assert lease.renew_seconds * 2 < lease.deadline_seconds
    assert lease.deadline_seconds + 2 * lease.renew_seconds <= lease.duration_seconds
