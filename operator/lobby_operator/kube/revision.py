"""Digests that tell whether something must be done: a new pod for a lobby, or a look of its kubelet at a changed file.

What is not in the first one reaches running lobbies: `spec.clients` and all that only the operator or greeters read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lobby_gateway.model.spec import Lobby

_LIVE = ("path", "clients", "routing", "drainSeconds")
"""Fields of the spec that a running lobby takes on, and reads at all. Of the others it needs no news: with thousands of
lobbies, each `kubectl scale` would be thousands of writes."""

_DIGITS = 10
"""Of a digest: two of one Lobby's revisions are the same by chance once in 10^12."""


def pod_revision(lobby: Lobby, manifest: Mapping[str, Any]) -> str:
    """Digest of what a lobby's pod is made from; where it is another, the lobby is to be replaced.

    Args:
        lobby: the Lobby.
        manifest: of a pod without a name, a revision and a live configuration (`pods.pod_template`): what is added to it by a
            newer operator or by its settings is a reason for a new pod, too.
    """
    return _digest([asdict(lobby.spec.origin), manifest])


def live_digest(resource: Mapping[str, Any]) -> str:
    """Digest of the part of a Lobby (as JSON, defaulted) that running lobbies take on.

    Args:
        resource: the Lobby.
    """
    return _digest([resource["spec"].get(name) for name in _LIVE])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
