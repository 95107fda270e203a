"""Where a client of a greeter is: in a lobby, in the queue, or between the two."""

from __future__ import annotations

from collections.abc import Iterable

from lobby_gateway.clients.admission import Permit
from lobby_gateway.clients.connection import ClientConnection
from lobby_gateway.greeter.router import PendingClient
from lobby_gateway.greeter.seat_queue import Waiter
from lobby_gateway.greeter.trunks import Group, Trunk
from lobby_gateway.trunk.position import NO_EPOCH, Position


class ClientSeat:
    """Where a client of this greeter is: the `context` of its connection.

    Attributes:
        permit: counts the client; its address is that of the client.
        trunk: of the lobby in which it has a seat; None while it has none.
        waiter: its place in the queue, while it is to get a seat (elsewhere).
        group: with which it is about to join a trunk's stream.
        position: what it has seen, while it has no trunk.
    """

    __slots__ = ("group", "permit", "position", "trunk", "waiter")

    def __init__(self, permit: Permit, trunk: Trunk) -> None:
        self.permit = permit
        self.trunk: Trunk | None = trunk
        self.waiter: Waiter[PendingClient | ClientConnection] | None = None
        self.group: Group | None = None
        self.position: Position | None = None


def seat_of(client: ClientConnection) -> ClientSeat:
    """The place of a client; every client of a greeter has one."""
    place = client.context
    if not isinstance(place, ClientSeat):
        raise TypeError(f"a client with {place!r} for its place")
    return place


def regroup(clients: Iterable[ClientConnection], trunk: Trunk) -> list[Group]:
    """Takes clients off where they are, if they still are somewhere; they are to go on at the same place of a trunk.

    Args:
        clients: that have a seat there.
        trunk: where they go on.

    Returns:
        They, grouped by the position that they are at.
    """
    groups: dict[Position, Group] = {}
    places: dict[Trunk, Position] = {}
    for client in clients:
        place = seat_of(client)
        place.waiter = None
        old = place.trunk
        if old is not None:
            old.bus.detach(client)
            place.position = places.get(old) or places.setdefault(old, old.position())
        position = place.position or Position(NO_EPOCH, 0)
        group = groups.get(position) or groups.setdefault(position, Group(position))
        if old is not None:
            group.old_seats[old] += 1
        group.clients[client] = None
        place.group = group
        place.trunk = trunk
    return list(groups.values())
