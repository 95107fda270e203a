"""The same bytes to every client that is ready: the innermost loop of the message bus, one system call for each client.

There are two of it. The compiled one (`_send_all.c`) is there if a C compiler was at hand when this was installed, the one in
Python always; they do the same. `LOBBY_PURE_PYTHON=1` in the environment leaves the compiled one alone.

What is sent ends a record (`MSG_EOR`), which TCP does not transmit: it keeps Linux from gluing the next message to one that it
could not send yet, up to 64 KiB, although `TCP_NOTSENT_LOWAT` says to take no more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from itertools import repeat
from typing import Any, Final, Protocol

SEND_FLAGS: Final = socket.MSG_EOR
"""Flags of every send to a client."""

_send = socket.socket.send  # called on sockets, so that no client has to have a bound method of its own


class HasSocket(Protocol):
    """A client."""

    sock: socket.socket


SendAll = Callable[[dict[int, Any], bytes], list[tuple[int, int]]]
"""Sends bytes to all clients, which are found by their descriptors. Returns who took less than all, as descriptor and bytes
taken: 0 where the socket is full, -1 where the connection is lost."""


def send_all_in_python(clients: dict[int, HasSocket], data: bytes) -> list[tuple[int, int]]:
    """See `SendAll`.

    The loop over the sockets runs inside `list.extend`, not in Python's own: measured, that is a third of what Python adds to
    a call. Where a socket is full or broken the loop stops with an exception, behind the results that it had, and goes on.
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


def _compiled() -> SendAll | None:
    if os.environ.get("LOBBY_PURE_PYTHON"):
        return None
    try:
        from lobby_gateway.clients._send_all import send_all  # noqa: PLC0415  there, or not
    except ImportError:
        return None
    return send_all


send_all_compiled: Final = _compiled()
send_all: Final[SendAll] = send_all_compiled or send_all_in_python
SEND_LOOP: Final = "compiled" if send_all_compiled else "python"
"""Which of the two is used, for logs."""
