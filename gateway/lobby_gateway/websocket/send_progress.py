"""Whether a peer takes what waits for it: a sign of life while a pong can't arrive yet.

A ping that is queued behind other bytes can't be answered before the peer has taken those. As long as it takes some, it is
alive; once nothing waits, only its answer counts, since the kernel of a hung process acknowledges a ping, too.
"""

from __future__ import annotations

from lobby_gateway.websocket.tcp_info import TcpInfo, TcpSocket


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
        info = TcpInfo.of(self._sock)
        waited, self._waiting = self._waiting, waiting or info.unsent > 0
        took = info.acked > self._acked and (waited or self._waiting)
        self._acked = info.acked
        return took
