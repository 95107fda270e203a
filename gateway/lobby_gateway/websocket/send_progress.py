"""Whether a peer takes what waits for it: a sign of life while a pong can't arrive yet.

A ping that is queued behind other bytes can't be answered before the peer has taken those. As long as it takes some, it is
alive; once nothing waits, only its answer counts, since the kernel of a hung process acknowledges a ping, too.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Protocol

_TCP_INFO = Struct("=120xQ16xI")  # linux/tcp.h, `struct tcp_info`: tcpi_bytes_acked and tcpi_notsent_bytes


class TcpSocket(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Reads an option."""


class SendProgress:
    """Compares how much the peer of one connection has acknowledged, from one look to the next."""

    __slots__ = ("_acked", "_sock", "_waiting")

    def __init__(self, sock: TcpSocket, *, waiting: bool) -> None:
        """Takes a first look at a connected TCP socket, see `look`."""
        self._sock = sock
        self._acked = 0
        self._waiting = False
        self.look(waiting=waiting)

    def look(self, *, waiting: bool) -> bool:
        """Whether the peer took bytes since the previous look while others waited for it, then or now.

        Args:
            waiting: bytes wait for room in the socket. Those that the kernel has yet to send count in any case.
        """
        acked, unsent = _TCP_INFO.unpack(self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
        waited, self._waiting = self._waiting, waiting or unsent > 0
        took = acked > self._acked and (waited or self._waiting)
        self._acked = acked
        return took
