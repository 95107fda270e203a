"""The seats of one lobby. The lobby alone grants them: to clients one by one, to greeters in numbers."""

from __future__ import annotations

from lobby_gateway import close_codes
from lobby_gateway.close_codes import Refusal


class Admission:
    """Counts seats; never grants more than there are.

    Lowering `seats` below what is taken closes nobody: seats are refused until enough came back.

    Attributes:
        seats: how many there are.
        taken: how many are taken.
        draining: no more are granted.
    """

    def __init__(self, seats: int) -> None:
        if seats < 1:
            raise ValueError(f"seats: {seats} is too small; accepted: at least 1")
        self.seats = seats
        self.taken = 0
        self.draining = False

    @property
    def free(self) -> int:
        """Seats that would be granted now."""
        return 0 if self.draining else max(0, self.seats - self.taken)

    @property
    def refusal(self) -> Refusal:
        """Why a seat would be refused now."""
        return close_codes.LOBBY_DRAINING if self.draining else close_codes.LOBBY_FULL

    def claim(self, count: int = 1) -> int:
        """Takes up to `count` seats; returns how many were granted."""
        if count < 0:
            raise ValueError(f"count: {count} is too small; accepted: at least 0")
        granted = min(count, self.free)
        self.taken += granted
        return granted

    def release(self, count: int = 1) -> None:
        """Gives seats back.

        Raises:
            ValueError: more than were taken.
        """
        if not 0 <= count <= self.taken:
            raise ValueError(f"count: {count} seats can't be given back, {self.taken} are taken")
        self.taken -= count
