"""Messages whose identity is not their number, so that a test can tell which one came although others look the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.trunk.ring import MessageRing
from lobby_gateway.websocket.frames import Batch, Opcode, frame

_IDENTITY = identity_of("/id")


def content_ring(messages: int) -> MessageRing:
    """A ring that takes the content of a message for its identity."""
    return MessageRing(messages, identity=_IDENTITY)


def content_batch(contents: Sequence[str], indices: Iterable[int]) -> Batch:
    """Messages with these indices, whose identity is the content there."""
    return Batch.of([frame(Opcode.TEXT, json.dumps({"id": contents[n], "n": n}).encode()) for n in indices])


def content_window(contents: Sequence[str], last: int, digests: Sequence[int]) -> bool:
    """Whether these identities, which end with the message `last`, occur nowhere else."""
    hashes = [_IDENTITY(json.dumps({"id": content}).encode()) for content in contents]
    size = len(digests)
    found = [n for n in range(len(hashes) - size + 1) if hashes[n : n + size] == list(digests)]
    return bool(size) and found == [last + 1 - size]
