"""The same bytes to every client that is ready: the innermost loop of the message bus, one system call for each client.

It exists twice: compiled (`_send_all.c`) and in Python (see `process/compiled.py`).

Every send ends a record (`MSG_EOR`). TCP does not transmit that, but it keeps Linux from appending the next message to one
that it could not send yet, up to 64 KiB, although `TCP_NOTSENT_LOWAT` tells it to take no more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final, Protocol

from lobby_gateway.process.compiled import if_compiled

SEND_FLAGS: Final = socket.MSG_EOR
"""Flags of every send to a client."""

_send = socket.socket.send  # called with the sockets, so that clients need no bound method each


class HasSocket(Protocol):
    """A client."""

    sock: socket.socket


SendAll = Callable[[dict[int, Any], bytes], list[tuple[int, int]]]
"""Sends bytes to all clients, keyed by their descriptors. Returns descriptor and bytes sent of those that did not take all of
them: 0 if the socket is full, -1 if the connection is lost."""


def send_all_in_python(clients: dict[int, HasSocket], data: bytes) -> list[tuple[int, int]]:
    """See `SendAll`.

    The loop over the sockets runs inside `list.extend` rather than in bytecode: measured, that is a third of the overhead. A
    full or broken socket interrupts it with an exception after the results so far, and it continues with the next socket.
    """
    size = len(data)
    sent: list[int] = []
    sends = map(_send, [client.sock for client in clients.values()], repeat(data), repeat(SEND_FLAGS))
    while len(sent) < len(clients):
        try:
            sent.extend(sends)
        except BlockingIOError:
            sent.append(0)
        except OSError:
            sent.append(-1)
    if sent.count(size) == len(sent):
        return []
    return [each for each in zip(clients, sent, strict=True) if each[1] != size]


def _load() -> SendAll:
    from lobby_gateway.clients._send_all import send_all  # noqa: PLC0415  optional

    return send_all


send_all_compiled: Final = if_compiled(_load)
send_all: Final[SendAll] = send_all_compiled or send_all_in_python
SEND_LOOP: Final = "compiled" if send_all_compiled else "python"
"""Which of the two is in use, for logs."""
