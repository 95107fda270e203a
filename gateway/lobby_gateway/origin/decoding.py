"""Messages that come compressed above WebSocket (`decode`), or several in one (`split`), as single texts.

Both are applied before anything else looks at a message, so steps, rules and clients see what the origin means. RFC 1952
(gzip), RFC 1950 (zlib), RFC 1951 (deflate).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lobby_gateway.resource.spec import Decode
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


class Decoder:
    """Decodes the messages of one origin."""

    __slots__ = ("_decode", "_max_bytes", "_separator")

    def __init__(self, decode: Decode, split: str | None, max_message_bytes: int) -> None:
        """Prepares it.

        Args:
            decode: how binary messages are compressed.
            split: what separates messages in a text; None: each text is one message.
            max_message_bytes: most bytes of a decompressed message.
        """
        self._decode = decode
        self._separator = (split or "").encode()
        self._max_bytes = max_message_bytes

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""
        return self._decode is not Decode.NONE or bool(self._separator)

    def events(self, events: Iterable[Event]) -> Iterator[Event | Undecodable]:
        """Events of a connection with their messages decoded; ends with the first that cannot be."""
        for event in events:
            if not isinstance(event, Batch):
                yield event
                continue
            frames: list[bytes] = []
            problem: Undecodable | None = None
            for index in range(len(event)):
                problem = self._message(event, index, frames)
                if problem is not None:
                    break
            if frames:
                yield Batch.of(frames)
            if problem is not None:
                yield problem
                return

    def _message(self, batch: Batch, index: int, frames: list[bytes]) -> Undecodable | None:
        payload: bytes | memoryview = batch.payload(index)
        opcode = batch.opcode(index)
        if opcode == Opcode.BINARY and self._decode is not Decode.NONE:
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
            opcode = Opcode.TEXT
        if not self._separator or opcode != Opcode.TEXT:
            frames.append(frame(opcode, payload))
            return None
        frames += [frame(Opcode.TEXT, part) for part in bytes(payload).split(self._separator) if part]
        return None
