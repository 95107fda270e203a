"""Messages of clients that can't go on yet: bounded in bytes, for each client and in all, and in time.

A lobby holds them until its origin is connected; a greeter, while a client that lost its lobby has no other one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from lobby_gateway.settings import ForwardSettings

Sender = TypeVar("Sender", bound=Hashable)

_OVERHEAD = 64  # what a message takes beside its payload, so that empty ones are bounded, too
FORWARD_SETTINGS = ForwardSettings()


class HeldMessage(NamedTuple, Generic[Sender]):
    """A message that waits.

    Attributes:
        sender: the client.
        opcode: `Opcode.TEXT` or `Opcode.BINARY`.
        payload: the message.
        until: when it is dropped.
    """

    sender: Sender
    opcode: int
    payload: bytes
    until: float

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.payload) + _OVERHEAD


class HeldMessages(Generic[Sender]):
    """Keeps messages in order. What does not fit is refused, so that what is kept has no gaps."""

    __slots__ = ("_by_sender", "_bytes", "_queue", "_settings")

    def __init__(self, settings: ForwardSettings = FORWARD_SETTINGS) -> None:
        self._settings = settings
        self._queue: deque[HeldMessage[Sender]] = deque()
        self._bytes = 0
        self._by_sender: Counter[Sender] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, sender: Sender, opcode: int, payload: bytes, now: float) -> bool:
        """Adds a message; returns False if there is no room for it. Any message fits an empty share."""
        settings = self._settings
        message = HeldMessage(sender, opcode, payload, now + settings.hold_seconds)
        share = self._by_sender[sender]
        if self._bytes + message.size > settings.held_bytes or (
            share and share + message.size > settings.held_bytes_per_client
        ):
            return False
        self._queue.append(message)
        self._bytes += message.size
        self._by_sender[sender] += message.size
        return True

    def pop(self) -> HeldMessage[Sender] | None:
        """Takes the oldest message; None if there is none."""
        if not self._queue:
            return None
        message = self._queue.popleft()
        self._took(message)
        return message

    def pop_all(self, wanted: Callable[[Sender], bool]) -> list[HeldMessage[Sender]]:
        """Takes the messages of all senders that are wanted, oldest first."""
        taken = [message for message in self._queue if wanted(message.sender)]
        if taken:
            self._queue = deque(message for message in self._queue if not wanted(message.sender))
            for message in taken:
                self._took(message)
        return taken

    def expire(self, now: float) -> int:
        """Drops messages that were held for too long; returns how many."""
        dropped = 0
        while self._queue and self._queue[0].until <= now:
            self.pop()
            dropped += 1
        return dropped

    def _took(self, message: HeldMessage[Sender]) -> None:
        self._bytes -= message.size
        self._by_sender[message.sender] -= message.size
        if not self._by_sender[message.sender]:
            del self._by_sender[message.sender]
