"""The file that lobbies follow."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.operator.kube.lobbies import UID, lobby, resource

from lobby_gateway.resource.spec import lobby_from_resource
from lobby_operator.kube.config_map import config_map


def document(given: dict[str, Any]) -> dict[str, Any]:
    loaded = json.loads(config_map(lobby_from_resource(given), given)["data"]["lobby.json"])
    assert isinstance(loaded, dict)
    return loaded


def test_it_belongs_to_the_lobby() -> None:
    metadata = config_map(lobby(), resource())["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("prices-lobby", "shop")
    assert metadata["ownerReferences"][0]["uid"] == UID


def test_a_lobby_process_can_read_it() -> None:
    made = lobby_from_resource(document(resource(clients={"seats": 7}, template={"labels": {"a": "b"}})))
    assert made == lobby(clients={"seats": 7})


def test_a_status_or_a_label_does_not_change_it() -> None:
    given = resource()
    other = {**given, "status": {"clients": 5}, "metadata": {**given["metadata"], "resourceVersion": "8", "labels": {}}}
    assert document(other) == document(given)


def test_what_pods_are_like_is_not_in_it() -> None:
    assert document(resource(template={"labels": {"a": "b"}})) == document(resource())
