"""Counts the clients of one Lobby at this greeter, those who wait included, and turns away who is too many."""

from __future__ import annotations

from lobby_gateway import close_codes
from lobby_gateway.clients.door import Door
from lobby_gateway.clients.rate_limit import AddressLimits, retry_after
from lobby_gateway.greeter.pending_client import PendingClient
from lobby_gateway.resource.spec import LimitsSpec


class Turnstile:
    """The limits of one Lobby, and the door of the process behind them."""

    __slots__ = ("_addresses", "_door")

    def __init__(self, limits: LimitsSpec, door: Door) -> None:
        self._addresses = AddressLimits(limits)
        self._door = door

    def update(self, limits: LimitsSpec) -> None:
        """The Lobby was changed; who is in stays in."""
        self._addresses.limits = limits

    def enter(self, pending: PendingClient, now: float) -> bool:
        """Counts a newcomer until it ends as anything but a client, or, with False, turns it away.

        As a client it is counted until `leave`.
        """
        wait = self._addresses.enter(pending.address, now)
        if wait:
            pending.refuse(close_codes.TOO_MANY, retry_after=retry_after(wait))
            return False
        self._door.enter()
        pending.on_left = self.leave
        return True

    def leave(self, address: str) -> None:
        """One is gone who came from this address."""
        self._addresses.leave(address)
        self._door.leave()
