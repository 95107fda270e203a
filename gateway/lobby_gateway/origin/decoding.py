"""Messages that come compressed above WebSocket (`decode`), or several in one (`split`), as single texts.

Both are applied before anything else looks at a message, so steps, rules and clients see what the origin means. RFC 1952
(gzip), RFC 1950 (zlib), RFC 1951 (deflate). One read may hold messages of 256 MiB, or 500,000 parts, so it is decoded bit by
bit, with turns of the event loop in between.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lobby_gateway.resource.spec import Decode
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Event

_WINDOW: Final[Mapping[Decode, int]] = {
    Decode.GZIP: 16 + zlib.MAX_WBITS,
    Decode.ZLIB: zlib.MAX_WBITS,
    Decode.DEFLATE: -zlib.MAX_WBITS,
}


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A message that could not be decoded.

    Attributes:
        reason: why, for people.
        too_big: whether it would be larger than allowed.
    """

    reason: str
    too_big: bool = False


class Later:
    """What follows is to be decoded in another turn of the event loop."""


LATER: Final = Later()
_MESSAGE_BYTES: Final = 64  # what a message costs besides its bytes, in bytes


class Decoder:
    """Decodes the messages of one origin."""

    __slots__ = ("_decode", "_max_bytes", "_separator", "_turn_bytes")

    def __init__(
        self, decode: Decode, split: str | None, max_message_bytes: int, turn_bytes: int = ORIGIN.decoded_per_turn
    ) -> None:
        """Prepares it.

        Args:
            decode: how binary messages are compressed.
            split: what separates messages in a text; None: each text is one message.
            max_message_bytes: most bytes of a decompressed message.
            turn_bytes: see `OriginSettings.decoded_per_turn`.
        """
        self._decode = decode
        self._separator = (split or "").encode()
        self._max_bytes = max_message_bytes
        self._turn_bytes = turn_bytes

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""
        return self._decode is not Decode.NONE or bool(self._separator)

    def events(self, events: Iterable[Event]) -> Iterator[Event | Undecodable | Later]:
        """Events of a connection with their messages decoded; ends with the first that cannot be."""
        left = self._turn_bytes
        for event in events:
            if not isinstance(event, Batch):
                yield event
                continue
            frames: list[bytes] = []
            for index in range(len(event)):
                if left <= 0:
                    yield from _end_turn(frames)
                    frames, left = [], self._turn_bytes
                text = self._decoded(event, index)
                if isinstance(text, Undecodable):
                    if frames:
                        yield Batch.of(frames)
                    yield text
                    return
                opcode = event.opcode(index) if self._decode is Decode.NONE else Opcode.TEXT
                for part in self._parts(opcode, text):
                    if left <= 0:
                        yield from _end_turn(frames)
                        frames, left = [], self._turn_bytes
                    frames.append(frame(opcode, part))
                    left -= _MESSAGE_BYTES
                left -= len(text)
            if frames:
                yield Batch.of(frames)

    def _decoded(self, batch: Batch, index: int) -> bytes | memoryview | Undecodable:
        payload: bytes | memoryview = batch.payload(index)
        if self._decode is Decode.NONE or batch.opcode(index) != Opcode.BINARY:
            return payload
        try:
            inflater = zlib.decompressobj(_WINDOW[self._decode])
            payload = inflater.decompress(payload, self._max_bytes + 1)
        except zlib.error:
            return Undecodable(f"a binary message is not {self._decode.value}")
        # These two first: they cut the text, perhaps within a character.
        if len(payload) > self._max_bytes:
            return Undecodable(f"a message has more than {self._max_bytes} bytes once it is decoded", too_big=True)
        if not inflater.eof:
            return Undecodable(f"a message ends in the middle of its {self._decode.value} data")
        try:
            payload.decode()
        except UnicodeDecodeError:
            return Undecodable(f"a message is not UTF-8 once it is decoded ({self._decode.value})")
        return payload

    def _parts(self, opcode: int, payload: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """The messages of a payload. One by one, since a turn may end after each."""
        separator = self._separator
        if not separator or opcode != Opcode.TEXT:
            yield payload
            return
        text, start = bytes(payload), 0
        while (end := text.find(separator, start)) >= 0:
            if end > start:
                yield text[start:end]
            start = end + len(separator)
        if start < len(text):
            yield text[start:]


def _end_turn(frames: list[bytes]) -> Iterator[Batch | Later]:
    if frames:
        yield Batch.of(frames)
    yield LATER
