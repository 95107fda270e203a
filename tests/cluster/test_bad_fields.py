"""The API server rejects a Lobby with a bad field, with a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import CommandFailedError
from tests.cluster.support.resources import lobby

ORIGIN = "ws://origin.invalid/"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"spareSeat": 3}, "spareSeat"),
    "in a group": ({"clients_seat": 3}, "spec.clients"),
    "type": ({"spareSeats": "many"}, "spec.spareSeats"),
    "limit": ({"clients_seats": 0}, "spec.clients.seats"),
    "value": ({"placement": "Somewhere"}, "spec.placement"),
    "rule": ({"replicas": 5, "maxReplicas": 3}, "spec.replicas"),
    "path": ({"path": "prices"}, "spec.path"),
    "origin": ({"origin_url": "http://example.com/"}, "spec.origin.url"),
    "no seconds": ({"drainSeconds": -1}, "spec.drainSeconds"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_message_names_the_field(cluster: Cluster, case: str) -> None:
    spec, field = BAD[case]
    with pytest.raises(CommandFailedError) as failed:
        cluster.apply(lobby("bad", ORIGIN, **spec))
    assert field in failed.value.output, failed.value.output
    for name in spec:
        assert name.rpartition("_")[2] in failed.value.output, failed.value.output
