"""How many lobbies each namespace has and may have, over all its Lobbies. Pure.

A lobby counts from the moment its creation is attempted: the watch shows it later, and several Lobbies may create some at
the same time.
"""

from __future__ import annotations

from collections import defaultdict


class LobbyQuota:
    """Counts the lobbies of all namespaces.

    Args:
        most: most lobbies in one namespace.
        unseen_seconds: how long a lobby that was created counts without being seen. By then a watch has shown it, or it is
            gone again.

    Attributes:
        most: see above.
    """

    def __init__(self, most: int, *, unseen_seconds: float) -> None:
        self.most = most
        self._unseen_seconds = unseen_seconds
        self._seen: defaultdict[str, set[str]] = defaultdict(set)
        self._created: defaultdict[str, dict[str, float]] = defaultdict(dict)  # those that were not seen yet, and when

    def seen(self, namespace: str, name: str) -> None:
        """A lobby exists."""
        self._seen[namespace].add(name)
        self._created[namespace].pop(name, None)

    def gone(self, namespace: str, name: str) -> None:
        """A lobby no longer exists."""
        self._seen[namespace].discard(name)
        self.not_created(namespace, name)

    def not_created(self, namespace: str, name: str) -> None:
        """A lobby was not created after all."""
        self._created[namespace].pop(name, None)

    def reserve(self, namespace: str, name: str, now: float) -> bool:
        """Whether a lobby may be created; from now on it counts.

        Args:
            namespace: namespace of its Lobby.
            name: its name.
            now: a monotonic time in seconds.
        """
        created = self._created[namespace]
        for each, at in list(created.items()):
            if now - at > self._unseen_seconds:
                del created[each]
        if name in self._seen[namespace] or name in created:
            return True
        if len(self._seen[namespace]) + len(created) >= self.most:
            return False
        created[name] = now
        return True
