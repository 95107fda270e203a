"""The PodDisruptionBudget of a Lobby: how many of its lobbies an eviction (a node that is drained) may take at a time.

Clients that a greeter holds notice nothing when their lobby is evicted. But each of them takes a seat elsewhere, which must be
there, and lobbies that go together leave less room: so a tenth of them at a time, at least one.

`maxUnavailable` can't say this. Of pods that belong to a custom resource, Kubernetes takes how many there ought to be from the
`scale` subresource, and `replicas` of a Lobby is only a floor; with the usual 0 everything might be evicted at once. So
`minAvailable` is a number, which the operator keeps up to date. Raised at once, lowered late: while evicted lobbies are being
replaced, there are fewer for a moment, and that must not allow the next evictions.
"""

from __future__ import annotations

from typing import Any

from lobby_gateway.resource.spec import Lobby
from lobby_operator.kube import names
from lobby_operator.kube.resources import DISRUPTION_BUDGETS

LOWER_SECONDS = 30.0
"""So long there must have been fewer. A lobby is replaced within a few seconds."""

SHARE = 10
"""One in so many may go at a time."""


def least_available(lobbies: int) -> int:
    """How many lobbies must stay, of so many that serve or start."""
    return max(0, lobbies - max(1, lobbies // SHARE))


def disruption_budget(lobby: Lobby, available: int) -> dict[str, Any]:
    """The manifest.

    Args:
        lobby: the Lobby.
        available: how many lobbies must stay.
    """
    return {
        "apiVersion": DISRUPTION_BUDGETS.api_version,
        "kind": DISRUPTION_BUDGETS.kind,
        "metadata": names.owned_metadata(lobby, names.config_map_name(lobby.name)),
        "spec": {
            "minAvailable": available,
            "selector": {"matchLabels": names.lobby_labels(lobby.name)},
            # One that is not ready serves nobody who could be spared: it drains, or is broken.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


class Budget:
    """What the budget is to be, over time.

    Attributes:
        known: what it is; None: not known.
    """

    def __init__(self) -> None:
        self.known: int | None = None
        self._fewer_since: float | None = None

    def wanted(self, lobbies: int, now: float) -> int | None:
        """What it is to be changed to, if it is to be changed now. Not before it is known what it is.

        Args:
            lobbies: that serve or start.
            now: the time.
        """
        if self.known is None:
            return None
        available = least_available(lobbies)
        if available >= self.known:
            self._fewer_since = None
            return available if available > self.known else None
        if self._fewer_since is None:
            self._fewer_since = now
        return available if now - self._fewer_since >= LOWER_SECONDS else None

    def written(self, available: int) -> None:
        """It is now this."""
        self.known = available
        self._fewer_since = None
