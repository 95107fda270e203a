"""The wire format of the trunk (`lobby-trunk.v1`, docs/trunk.md): records to bytes and back. No state, no I/O.

A record is the payload of one binary WebSocket message: one byte of type, one byte of flags (none yet), then the fields in the
order of its class, big-endian. A reader ignores unknown types and flags, and bytes after the end of a known record, because
a newer peer may send them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import Any, ClassVar, Final, NamedTuple, Self

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.trunk.position import DIGESTS_KEPT, NO_EPOCH, Position
from lobby_gateway.websocket.frames import Batch, Opcode

SUBPROTOCOL: Final = "lobby-trunk.v1"
PATH: Final = "/trunk"
STREAM: Final = 0
"""The id of the stream itself; groups that resume have ids from 1 on."""
MAX_FORWARD_BYTES: Final = 16 << 20
"""Largest client message that a trunk carries: the most that a Lobby may allow."""


class TrunkError(LobbyGatewayError):
    """The peer of a trunk broke its protocol; the trunk is closed with 1002."""


class RelayRefusedError(LobbyGatewayError):
    """This lobby can't serve its stream to another one now; the trunk is closed with 1013."""


class Type(IntEnum):
    """First byte of a record: below 0x80 it comes from the consumer (a greeter), otherwise from the server (a lobby)."""

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
    BLAMED = 0x89
    ORIGIN = 0x8A
    KEPT = 0x8B


class GrantReason(IntEnum):
    """Why fewer seats were granted than claimed."""

    NONE = 0
    FULL = 1
    DRAINING = 2


class MoveReason(IntEnum):
    """Why a consumer should move its clients elsewhere."""

    DRAINING = 1
    STOPPING = 2


class StreamOffset(NamedTuple):
    """A place in a stream: before message `offset` of `epoch`, which may not exist yet."""

    epoch: int
    offset: int

    def followed_by(self, epoch: int, offset: int) -> bool:
        """Whether nothing lies between the two places: they are the same, or the other is the start of another epoch."""
        return (offset == self.offset) if epoch == self.epoch else (offset == 0 or self.epoch == NO_EPOCH)


# Fields that have no fixed size

_COUNT = Struct("!I")
_PLACE = Struct("!QQ")


def encode_position(position: Position) -> bytes:
    """Epoch, offset, digests."""
    return _PLACE.pack(position.epoch, position.offset) + encode_digests(position.digests)


def decode_position(view: memoryview, at: int) -> Position:
    """Reads what `encode_position` wrote."""
    epoch, offset = _PLACE.unpack_from(view, at)
    return Position(epoch, offset, decode_digests(view, at + _PLACE.size))


def encode_digests(digests: tuple[int, ...]) -> bytes:
    """One byte with their number, then the digests."""
    return Struct(f"!B{len(digests)}Q").pack(len(digests), *digests)


def decode_digests(view: memoryview, at: int) -> tuple[int, ...]:
    """Reads what `encode_digests` wrote."""
    if at >= len(view):
        raise ValueError("the digests are cut off")
    count = view[at]
    if count > DIGESTS_KEPT:
        raise ValueError(f"{count} digests; accepted: at most {DIGESTS_KEPT}")
    return Struct(f"!{count}Q").unpack_from(view, at + 1)


def encode_text(text: str) -> bytes:
    """One byte of length, then UTF-8."""
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... is too long; accepted: at most 255 bytes of UTF-8")
    return bytes((len(data),)) + data


def decode_text(view: memoryview, at: int) -> tuple[str, int]:
    """Reads what `encode_text` wrote; returns the text and where it ends."""
    end = at + 1 + view[at] if at < len(view) else len(view) + 1
    if end > len(view):
        raise ValueError("the name is cut off")
    return str(view[at + 1 : end], "utf-8"), end


_NO_STREAM = 255


def encode_via(via: tuple[str, ...] | None) -> bytes:
    """One byte with the number of names, then each as text; 255: the lobby has no stream now."""
    return bytes((_NO_STREAM,)) if via is None else bytes((len(via),)) + b"".join(map(encode_text, via))


def decode_via(view: memoryview, at: int) -> tuple[tuple[str, ...] | None, int]:
    """Reads what `encode_via` wrote, and where it ends; None, too, in a record of an older lobby, which doesn't relay."""
    if at >= len(view) or view[at] == _NO_STREAM:
        return None, at + 1
    names = []
    end = at + 1
    for _ in range(view[at]):
        name, end = decode_text(view, end)
        names.append(name)
    return tuple(names), end


def decode_frames(view: memoryview, offset: int, count: int) -> Batch:
    """Reads the frames of `count` messages; the first one has this offset."""
    batch = Batch.scan(bytes(view))
    if len(batch.ends) != count or not count:
        raise ValueError(f"message count is {count}, found {len(batch)}")
    if offset + count >= 1 << 64:
        raise ValueError(f"offset {offset} is too large for {count} messages")
    return batch


# Records


class WireRecord:
    """A record whose fields all have a fixed size, in the order of their declaration."""

    __slots__: tuple[str, ...] = ()
    TYPE: ClassVar[int]
    LAYOUT: ClassVar[Struct]  # includes type and flags

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head(*(getattr(self, each) for each in self.__slots__))

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type; `decode` turns what it raises into `TrunkError`."""
        return cls(*cls._fields(view))

    @classmethod
    def _head(cls, *fields: object) -> bytes:
        return cls.LAYOUT.pack(cls.TYPE, 0, *fields)

    @classmethod
    def _fields(cls, view: memoryview) -> tuple[Any, ...]:
        return cls.LAYOUT.unpack_from(view)[2:]


# From the consumer


@dataclass(frozen=True, slots=True)
class Hello(WireRecord):
    """The consumer's first record.

    Attributes:
        name: of the consumer, for logs; at most 255 bytes of UTF-8.
        replay: how many messages before the newest one the stream starts, unless it continues at the position.
        position: where the stream continues, if the server finds it.
        relays: the consumer is a lobby that serves the stream to others; its name is the lobby's.
    """

    TYPE = Type.HELLO
    LAYOUT = Struct("!BBI?")

    name: str
    replay: int = 0
    position: Position | None = None
    relays: bool = False

    def encode(self) -> bytes:
        """The record's bytes."""
        position = b"" if self.position is None else encode_position(self.position)
        head = self._head(self.replay, self.position is not None)
        return head + encode_text(self.name) + position + bytes((self.relays,))

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        replay, has_position = cls._fields(view)
        name, end = decode_text(view, cls.LAYOUT.size)
        position = None
        if has_position:
            position = decode_position(view, end)
            end += _PLACE.size + 1 + 8 * len(position.digests)
        return cls(name, replay, position, end < len(view) and bool(view[end]))


@dataclass(frozen=True, slots=True)
class Claim(WireRecord):
    """Asks for seats; answered by GRANTED with the same id."""

    TYPE = Type.CLAIM
    LAYOUT = Struct("!BBII")

    id: int
    count: int


@dataclass(frozen=True, slots=True)
class Release(WireRecord):
    """Returns seats."""

    TYPE = Type.RELEASE
    LAYOUT = Struct("!BBI")

    count: int


@dataclass(frozen=True, slots=True)
class Forward(WireRecord):
    """A client's message to the origin.

    Attributes:
        client: number of the client, chosen by the consumer.
        opcode: TEXT or BINARY.
        payload: the message.
    """

    TYPE = Type.FORWARD
    LAYOUT = Struct("!BBIB")

    client: int
    opcode: int
    payload: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head(self.client, self.opcode) + self.payload

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        client, opcode = cls._fields(view)
        if opcode not in {Opcode.TEXT, Opcode.BINARY}:
            raise ValueError(f"opcode {opcode} is not a message opcode; accepted: 1, 2")
        return cls(client, opcode, bytes(view[cls.LAYOUT.size :]))


@dataclass(frozen=True, slots=True)
class Resume(WireRecord):
    """A group of clients joins the stream at a position; answered by RESUMED with the same id (from 1 on)."""

    TYPE = Type.RESUME
    LAYOUT = Struct("!BBI?")

    id: int
    position: Position

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head(self.id, self.position.of_payloads) + encode_position(self.position)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        group, of_payloads = cls._fields(view)
        if group == STREAM:
            raise ValueError("group 0 is the stream itself; accepted: from 1 on")
        return cls(group, replace(decode_position(view, cls.LAYOUT.size), of_payloads=of_payloads))


@dataclass(frozen=True, slots=True)
class Heartbeat(WireRecord):
    """The consumer is alive."""

    TYPE = Type.HEARTBEAT
    LAYOUT = Struct("!BB")


# From the server


@dataclass(frozen=True, slots=True)
class Welcome(WireRecord):
    """The server's first record.

    Attributes:
        exact: whether the stream continues at the position in HELLO.
        reason: why not (a `LiveReason`; a newer lobby may have others).
        origin_connected: whether the lobby's origin is connected.
        seats: number of seats of the lobby.
        free: seats that would be granted now.
        epoch: of the place where the stream starts; `NO_EPOCH` before the first origin session.
        offset: of that place.
        lobby: name of the lobby; at most 255 bytes of UTF-8.
        digests: of the messages before that place, as in a `Position`.
        via: the lobbies that its stream comes over, the nearest first; None: it has no stream now.
        behind: messages from the start of the stream to the newest one.
    """

    TYPE = Type.WELCOME
    LAYOUT = Struct("!BB?B?IIQQ")

    exact: bool
    reason: int
    origin_connected: bool
    seats: int
    free: int
    epoch: int
    offset: int
    lobby: str
    digests: tuple[int, ...] = ()
    via: tuple[str, ...] | None = ()
    behind: int = 0

    def encode(self) -> bytes:
        """The record's bytes."""
        *fields, lobby, digests, via, behind = (getattr(self, name) for name in self.__slots__)
        head: bytes = self._head(*fields) + encode_text(lobby) + encode_digests(digests)
        return head + encode_via(via) + _COUNT.pack(behind)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        exact, reason, origin_connected, seats, free, epoch, offset = cls._fields(view)
        lobby, end = decode_text(view, cls.LAYOUT.size)
        digests = decode_digests(view, end)
        via, end = decode_via(view, end + 1 + 8 * len(digests))
        (behind,) = _COUNT.unpack_from(view, end) if end <= len(view) else (0,)
        return cls(exact, reason, origin_connected, seats, free, epoch, offset, lobby, digests, via, behind)


@dataclass(frozen=True, slots=True)
class Messages(WireRecord):
    """Messages of the stream: whole server frames, as they came from the origin. `offset` is that of the first one.

    On the wire, the number of messages precedes their frames.
    """

    TYPE = Type.MESSAGES
    LAYOUT = Struct("!BBQQI")

    epoch: int
    offset: int
    batch: Batch

    def encode(self) -> bytes:
        """The record's bytes."""
        return self.head(self.epoch, self.offset, len(self.batch)) + self.batch.data

    @classmethod
    def head(cls, epoch: int, offset: int, count: int) -> bytes:
        """What precedes the frames of `count` messages; the frames need not be copied to be sent."""
        return _pack_messages(_MESSAGES, 0, epoch, offset, count)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        _, _, epoch, offset, count = _unpack_messages(view)
        return cls(epoch, offset, decode_frames(view[_MESSAGES_SIZE:], offset, count))


# The record of nearly every message: looking these up in the class costs more than packing.
_MESSAGES = int(Messages.TYPE)
_MESSAGES_SIZE = Messages.LAYOUT.size
_pack_messages = Messages.LAYOUT.pack
_unpack_messages = Messages.LAYOUT.unpack_from


@dataclass(frozen=True, slots=True)
class Granted(WireRecord):
    """The answer to CLAIM.

    Attributes:
        id: of the claim.
        granted: seats that the consumer holds from now on, from none to all that it claimed.
        free: seats that would be granted now.
        reason: why fewer (a `GrantReason`; a newer lobby may have others).
    """

    TYPE = Type.GRANTED
    LAYOUT = Struct("!BBIIIB")

    id: int
    granted: int
    free: int
    reason: int


@dataclass(frozen=True, slots=True)
class Resumed(WireRecord):
    """The answer to RESUME, at the place where the group joins the stream. What the group lacked came before, in REPLAY.

    Attributes:
        id: of the group.
        exact: whether there is no duplicate and no gap except those announced by MISSED; if not, the group continues with
            the next message.
        reason: why not exact (a `LiveReason`; a newer lobby may have others).
        epoch: of the place where the group joins: all MESSAGES before this record lie before it.
        offset: of that place.
    """

    TYPE = Type.RESUMED
    LAYOUT = Struct("!BBI?BQQ")

    id: int
    exact: bool
    reason: int
    epoch: int
    offset: int


@dataclass(frozen=True, slots=True)
class Replay(WireRecord):
    """Messages for one group only, between its position and the place where it joins; laid out like `Messages`."""

    TYPE = Type.REPLAY
    LAYOUT = Struct("!BBIQQI")

    id: int
    epoch: int
    offset: int
    batch: Batch

    def encode(self) -> bytes:
        """The record's bytes."""
        return self.head(self.id, self.epoch, self.offset, len(self.batch)) + self.batch.data

    @classmethod
    def head(cls, group: int, epoch: int, offset: int, count: int) -> bytes:
        """What precedes the frames of `count` messages."""
        return cls.LAYOUT.pack(cls.TYPE, 0, group, epoch, offset, count)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        group, epoch, offset, count = cls._fields(view)
        return cls(group, epoch, offset, decode_frames(view[cls.LAYOUT.size :], offset, count))


@dataclass(frozen=True, slots=True)
class Missed(WireRecord):
    """Messages that will not come: the consumer was too slow, and they were evicted before they could be sent.

    Attributes:
        id: of the group that missed them, or `STREAM`.
        count: how many; at least 1.
        from_epoch: of the place before them.
        from_offset: of that place.
        to_epoch: of the place after them.
        to_offset: of that place.
    """

    TYPE = Type.MISSED
    LAYOUT = Struct("!BBIQQQQQ")

    id: int
    count: int
    from_epoch: int
    from_offset: int
    to_epoch: int
    to_offset: int


@dataclass(frozen=True, slots=True)
class Status(WireRecord):
    """The server is alive. Sent every half second, and immediately when the number of seats changes.

    Attributes:
        origin_connected: whether the lobby's origin is connected.
        seats: number of seats of the lobby.
        free: seats that would be granted now.
        epoch: of the current place of the stream, that of the next message.
        offset: of that place.
        stale: no message so far may be sent to a client that joins, unless it resumes.
        via: the lobbies that its stream comes over, the nearest first; None: it has no stream now.
    """

    TYPE = Type.STATUS
    LAYOUT = Struct("!BB?IIQQ?")

    origin_connected: bool
    seats: int
    free: int
    epoch: int
    offset: int
    stale: bool = False
    via: tuple[str, ...] | None = ()

    def encode(self) -> bytes:
        """The record's bytes."""
        *fields, via = (getattr(self, name) for name in self.__slots__)
        return self._head(*fields) + encode_via(via)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        connected, seats, free, epoch, offset, stale = cls._fields(view)
        return cls(connected, seats, free, epoch, offset, stale, decode_via(view, cls.LAYOUT.size)[0])


@dataclass(frozen=True, slots=True)
class Move(WireRecord):
    """The lobby drains or stops, and asks the consumer to move its clients elsewhere.

    Attributes:
        reason: a `MoveReason`; a newer lobby may have others.
        within_ms: milliseconds to spread the moves over; the stream continues meanwhile. 0: move all clients at once.
    """

    TYPE = Type.MOVE
    LAYOUT = Struct("!BBBI")

    reason: int
    within_ms: int

    @property
    def within_seconds(self) -> float:
        """Seconds to spread the moves over."""
        return self.within_ms / 1000


@dataclass(frozen=True, slots=True)
class Blamed(WireRecord):
    """The origin closed its connection because of a client's message: the consumer should close that client.

    Attributes:
        client: its number, from FORWARD.
        code: close code of the origin.
    """

    TYPE = Type.BLAMED
    LAYOUT = Struct("!BBIH")

    client: int
    code: int


@dataclass(frozen=True, slots=True)
class Origin(WireRecord):
    """The lobby's origin is connected. Sent after WELCOME if it ever was, and again for each connection.

    Attributes:
        subprotocol: that the origin chose; empty if it chose none.
    """

    TYPE = Type.ORIGIN
    LAYOUT = Struct("!BB")

    subprotocol: str

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head() + encode_text(self.subprotocol)

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        cls._fields(view)
        subprotocol, _ = decode_text(view, cls.LAYOUT.size)
        return cls(subprotocol)


@dataclass(frozen=True, slots=True)
class Kept(WireRecord):
    """A message that clients that join get first, in place of the earlier one of its name.

    Attributes:
        name: its name; at most 255 bytes of UTF-8.
        frame: the message as a whole server frame; empty: nothing is kept under the name any more.
        tell: the stream begins or breaks here, so clients that have it get the message, too.
        ahead: messages of the stream that are yet to come up to this one, which is part of it; 0: it holds at once.
    """

    TYPE = Type.KEPT
    LAYOUT = Struct("!BB?I")

    name: str
    frame: bytes
    tell: bool = False
    ahead: int = 0

    def encode(self) -> bytes:
        """The record's bytes."""
        return self._head(self.tell, self.ahead) + encode_text(self.name) + self.frame

    @classmethod
    def decode(cls, view: memoryview) -> Self:
        """Reads a record of this type."""
        tell, ahead = cls._fields(view)
        name, end = decode_text(view, cls.LAYOUT.size)
        frame = bytes(view[end:])
        if (count := len(Batch.scan(frame))) > 1:
            raise ValueError(f"{count} messages; accepted: at most 1")
        return cls(name, frame, tell, ahead)


# Decoding

FromConsumer = Hello | Claim | Release | Forward | Resume | Heartbeat
FromServer = Welcome | Messages | Granted | Resumed | Replay | Missed | Status | Move | Blamed | Origin | Kept
Record = FromConsumer | FromServer

RECORDS: Final[tuple[type[Record], ...]] = (
    Hello, Claim, Release, Forward, Resume, Heartbeat,
    Welcome, Messages, Granted, Resumed, Replay, Missed, Status, Move, Blamed, Origin, Kept,
)  # fmt: skip
_DECODERS: Final[dict[int, Callable[[memoryview], Record]]] = {each.TYPE: each.decode for each in RECORDS}


def decode(data: bytes | memoryview) -> Record | None:
    """Reads one record; None for a type that this version does not know.

    Raises:
        TrunkError: the record is shorter than its layout, or contradicts itself.
    """
    view = data if isinstance(data, memoryview) else memoryview(data)
    if len(view) < 2:
        raise TrunkError(f"the record has no type and flags ({len(view)} of at least 2 bytes)")
    decoder = _DECODERS.get(view[0])
    if decoder is None:
        return None
    try:
        return decoder(view)
    except (struct_error, ValueError) as error:
        raise TrunkError(f"{Type(view[0]).name}: {error}") from error
