"""The ConfigMap with what the lobbies of a Lobby are to do, as a file that running lobbies follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.resources import CONFIG_MAPS

_METADATA = ("name", "namespace", "uid", "generation")


def config_map(lobby: Lobby, resource: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest. It changes when something for lobbies does, and not with each status or label.

    Args:
        lobby: the Lobby.
        resource: the same as JSON, checked and defaulted.
    """
    document = {
        "apiVersion": resource.get("apiVersion"),
        "kind": resource.get("kind"),
        "metadata": {key: resource["metadata"][key] for key in _METADATA if key in resource["metadata"]},
        # What the pods are like is none of a lobby's business.
        "spec": {**resource["spec"], "template": {}},
    }
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": names.owned_metadata(lobby, names.config_map_name(lobby.name)),
        "data": {names.CONFIG_KEY: json.dumps(document, sort_keys=True, indent=1) + "\n"},
    }
