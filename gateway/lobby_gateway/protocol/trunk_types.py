"""What the records of the trunk are called, and the numbers they carry (docs/trunk.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.model.position import NO_EPOCH

SUBPROTOCOL: Final = "lobby-trunk.v1"
PATH: Final = "/trunk"
STREAM: Final = 0
"""Group of the stream itself; the groups that resume have ids from 1 on."""
MAX_FORWARD_BYTES: Final = 16 << 20
"""Largest client message that a trunk carries: as much as a Lobby may allow."""


class TrunkError(LobbyGatewayError):
    """The peer of a trunk broke its protocol; the trunk is closed with 1002."""


class Type(IntEnum):
    """First byte of a record: below 0x80 from the consumer (a greeter), from there on from the holder (a lobby)."""

    HELLO = 0x01
    CLAIM = 0x02
    RELEASE = 0x03
    FORWARD = 0x04
    RESUME = 0x05
    HEARTBEAT = 0x06
    WELCOME = 0x81
    MESSAGES = 0x82
    GRANTED = 0x83
    RESUMED = 0x84
    REPLAY = 0x85
    MISSED = 0x86
    STATUS = 0x87
    MOVE = 0x88


class GrantReason(IntEnum):
    """Why fewer seats were granted than claimed."""

    NONE = 0
    FULL = 1
    DRAINING = 2


class MoveReason(IntEnum):
    """Why a consumer should take seats elsewhere."""

    DRAINING = 1
    STOPPING = 2


class Place(NamedTuple):
    """A place in a stream: before message `offset` of `epoch`."""

    epoch: int
    offset: int

    def followed_by(self, epoch: int, offset: int) -> bool:
        """Nothing is left out between this place and that one: it is the same, or the start of another epoch."""
        return (offset == self.offset) if epoch == self.epoch else (offset == 0 or self.epoch == NO_EPOCH)


# From the consumer
