"""permessage-deflate (RFC 7692) without context takeover: a message is deflated once, for all who negotiated it.

Since each message stands alone, the same bytes go to every client, no connection keeps a window of 32 KiB, and a dropped
message breaks nothing.
"""

from __future__ import annotations

import zlib

from lobby_gateway.errors import LobbyGatewayError

_TAIL = b"\x00\x00\xff\xff"  # an empty stored block, without its header bits (RFC 7692 §7.2.1)


class InflateError(LobbyGatewayError):
    """A message that can't be inflated.

    Attributes:
        code: what the connection is to be closed with.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Inflater:
    """Inflates whole messages. It keeps nothing between them, so one may serve any number of connections.

    Args:
        max_bytes: most bytes of an inflated message; never more than that is held.
    """

    __slots__ = ("_max_bytes",)

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def inflate(self, payload: bytes) -> bytes:
        """The plain payload of a deflated message (RFC 7692 §7.2.2).

        Raises:
            InflateError: it is larger than `max_bytes` (1009), or it is not DEFLATE data (1007: RFC 7692 names no code; the
                frames are right and the data in them is not, which is 1007 of RFC 6455 §7.4.1).
        """
        stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        try:
            plain = stream.decompress(payload + _TAIL, self._max_bytes + 1)
        except zlib.error as error:
            raise InflateError(1007, "message is not DEFLATE data") from error
        if len(plain) > self._max_bytes:
            raise InflateError(1009, f"message of more than {self._max_bytes} bytes")
        # A sender may end with a final block; then it appends an empty one (§7.2.3.4). Nothing else may follow it.
        if stream.eof and stream.unused_data not in (_TAIL, b"\x00" + _TAIL):
            raise InflateError(1007, "message goes on behind its final block")
        return plain
