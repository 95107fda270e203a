"""`kubectl explain` describes every field."""

from __future__ import annotations

import pytest
from tests.cluster.support.commands import kubectl

FIELDS = ["lobby", "lobby.spec", "lobby.spec.origin", "lobby.spec.clients", "lobby.spec.template", "lobby.status"]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_described(field: str) -> None:
    assert "<empty>" not in kubectl("explain", field)


@pytest.mark.usefixtures("cluster")
def test_seats_and_all_fields_are_described() -> None:
    text = kubectl("explain", "lobby.spec.clients.seats")
    assert "seats" in text.lower()
    assert "spareSeats" in kubectl("explain", "lobby.spec", "--recursive")
