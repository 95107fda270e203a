"""What TCP knows about a connection: does the peer take what waits, is its line long, or does it not read?"""

from __future__ import annotations

import socket
from struct import Struct
from typing import NamedTuple, Protocol

_SIZE = 232  # of `struct tcp_info` (linux/tcp.h), as far as it is read; Linux fills in as much as it knows
_FIELDS = Struct("=24x I 92x Q 16x I I 48x Q Q 12x I".replace(" ", ""))

_NO_RTT = 0xFFFFFFFF


class TcpSocket(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Reads an option."""


class TcpInfo(NamedTuple):
    """One look at a connection: a system call of half a microsecond.

    Attributes:
        packets_in_flight: sent and not acknowledged (tcpi_unacked).
        acked: bytes acknowledged so far (tcpi_bytes_acked).
        unsent: bytes that the kernel holds and has not sent yet (tcpi_notsent_bytes).
        min_rtt: shortest round trip so far, in microseconds (tcpi_min_rtt).
        sent: bytes sent so far, with repeated ones (tcpi_bytes_sent).
        repeated: bytes sent again (tcpi_bytes_retrans).
        window: bytes that the client has room for, counted from the last acknowledgement (tcpi_snd_wnd).
    """

    packets_in_flight: int
    acked: int
    unsent: int
    min_rtt: int
    sent: int
    repeated: int
    window: int

    @classmethod
    def of(cls, sock: TcpSocket) -> TcpInfo:
        """Looks at a connected socket. What an old kernel does not know is 0."""
        return cls(*_FIELDS.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE).ljust(_SIZE, b"\0")))

    @property
    def min_rtt_seconds(self) -> float:
        """Shortest round trip so far, in seconds; 0 before the first."""
        return self.min_rtt / 1e6 if self.min_rtt != _NO_RTT else 0.0

    @property
    def window_closed(self) -> bool:
        """The client does not read: something is unsent, and nothing is on the way (RFC 9293 §3.8.6.1).

        A client that reads over a long line always has something on the way.
        """
        return self.unsent > 0 and not self.packets_in_flight

    @property
    def room(self) -> int:
        """Bytes that fit the client's receive window behind what is on the way or unsent.

        More would wait in the kernel if the client stopped reading now.
        """
        in_flight = self.sent - self.repeated - self.acked
        return self.window - max(0, in_flight) - self.unsent
