"""Whom a process lets in at all, before anyone asks for a seat: so many clients, and so much memory."""

from __future__ import annotations

from lobby_gateway import close_codes
from lobby_gateway.close_codes import Refusal

REFILL = 0.9
"""Of the clients that were there when the memory was full."""


class Door:
    """Counts who is inside a process, and says whether there is room for one more.

    Memory that clients leave behind is used again, but not soon given back to the kernel: a process that was full once would
    refuse everybody for long after half of its clients have left. So, above the limit, clients are taken as long as there
    are fewer than `REFILL` of those who were there when it was reached: for them there is room in what the process has.

    Attributes:
        max_clients: most that may be inside; 0: no limit.
        max_memory: resident bytes; 0: no limit.
        inside: clients, and those who wait to become one.
    """

    __slots__ = ("_inside_when_full", "inside", "max_clients", "max_memory")

    def __init__(self, max_clients: int = 0, max_memory: int = 0) -> None:
        self.max_clients = max_clients
        self.max_memory = max_memory
        self.inside = 0
        self._inside_when_full: int | None = None

    def see(self, resident: int) -> None:
        """So many bytes are resident now."""
        if not self.max_memory or resident < self.max_memory:
            self._inside_when_full = None
        elif self._inside_when_full is None:
            self._inside_when_full = self.inside

    @property
    def memory_is_full(self) -> bool:
        """The process has as much memory as it may."""
        return self._inside_when_full is not None

    def refusal(self) -> Refusal | None:
        """Why nobody is let in now; None: there is room for one more."""
        if self.max_clients and self.inside >= self.max_clients:
            return close_codes.GREETER_FULL
        if self._inside_when_full is not None and self.inside >= self._inside_when_full * REFILL:
            return close_codes.NO_MEMORY
        return None

    def enter(self) -> None:
        """One more is inside."""
        self.inside += 1

    def leave(self) -> None:
        """One is gone.

        Raises:
            ValueError: nobody is inside.
        """
        if not self.inside:
            raise ValueError("nobody is inside who could leave")
        self.inside -= 1
