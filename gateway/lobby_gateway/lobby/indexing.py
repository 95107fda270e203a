"""Computes the identities of a ring's messages in many turns of the event loop, so that clients don't wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lobby_gateway.trunk.ring import MessageRing


class IndexInTurns:
    """What rings of a lobby call when they have more to index than fits in one turn (see `MessageRing.index_later`)."""

    def __init__(self, done: Callable[[], None]) -> None:
        """Does nothing yet.

        Args:
            done: called when a ring has been indexed: places that were asked for can be found now.
        """
        self._done = done
        self._loop = asyncio.get_running_loop()

    def __call__(self, ring: MessageRing) -> None:
        """Indexes a ring, a part of it in each of the next turns."""
        self._loop.call_soon(self._turn, ring)

    def _turn(self, ring: MessageRing) -> None:
        if ring.index_more():
            self._loop.call_soon(self._turn, ring)
        else:
            self._done()
