"""How many attempts to connect a lobby may make (`origin.limits.connects`). Pure.

The lobby host hands out permits for single attempts, over all lobbies of a Lobby. It tells each lobby a total that only counts
up, so that a request that is lost, late or repeated changes nothing: the lobby may try as long as it has made fewer attempts.
"""

from __future__ import annotations

from collections import deque


class ConnectAllowance:
    """The permits of one lobby, for all its connections.

    Attributes:
        allowed: attempts that it may have made in all; None: any number.
        made: attempts so far.
    """

    __slots__ = ("_latest", "_seconds", "allowed", "made")

    def __init__(self, allowed: int | None = None, *, count: int = 0, seconds: float = 0.0) -> None:
        """Begins without an attempt.

        Args:
            allowed: attempts that it may make, until it is told; None: any number.
            count: of `limits.connects`: more attempts than that are not told apart.
            seconds: of `limits.connects`.
        """
        self.allowed = allowed
        self.made = 0
        self._seconds = seconds
        self._latest: deque[float] = deque(maxlen=count)

    @property
    def exhausted(self) -> bool:
        """Whether the next attempt needs another permit."""
        return self.allowed is not None and self.made >= self.allowed

    def take(self, now: float) -> bool:
        """Uses a permit for an attempt now; False if there is none."""
        if self.exhausted:
            return False
        self.made += 1
        self._latest.append(now)
        return True

    def recent(self, now: float) -> int:
        """Attempts within the latest `seconds`."""
        return sum(at > now - self._seconds for at in self._latest)
