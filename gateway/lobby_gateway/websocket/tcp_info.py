"""What TCP knows about a connection: does the peer take what waits, is its line long, or does it not read?"""

from __future__ import annotations

import socket
from struct import Struct
from typing import NamedTuple, Protocol

_SIZE = 232  # of `struct tcp_info` (linux/tcp.h), as far as it is read; Linux fills in as much as it knows
_FIELDS = Struct("=16x I 4x I 92x Q 16x I I 48x Q Q 12x I".replace(" ", ""))

_ETHERNET_SEGMENT = 1460  # on loopback a packet may have 64 KiB
_NO_RTT = 0xFFFFFFFF


class TcpSocket(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Reads an option."""


class TcpInfo(NamedTuple):
    """One look at a connection: a system call of half a microsecond.

    Attributes:
        segment: most bytes of a packet to the peer (tcpi_snd_mss).
        packets_in_flight: sent and not acknowledged (tcpi_unacked).
        acked: bytes acknowledged so far (tcpi_bytes_acked).
        unsent: bytes that the kernel holds and has not sent yet (tcpi_notsent_bytes).
        min_rtt: shortest round trip so far, in microseconds (tcpi_min_rtt).
        sent: bytes sent so far, with repeated ones (tcpi_bytes_sent).
        repeated: bytes sent again (tcpi_bytes_retrans).
        window: bytes that the client has room for, counted from the last acknowledgement (tcpi_snd_wnd).
    """

    segment: int
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
        """The peer does not read: something is unsent, and its receive window has no room for a packet (RFC 9293 §3.8.6).

        A peer that reads over a long line has something on the way, and a window of many packets. The window of one that does
        not read is 0, or (Linux, small messages) a few hundred bytes for each that its kernel still squeezes in.
        """
        return self.unsent > 0 and (not self.packets_in_flight or self.window < min(self.segment, _ETHERNET_SEGMENT))

    @property
    def room(self) -> int:
        """Bytes that fit the client's receive window behind what is on the way or unsent.

        More would wait in the kernel if the client stopped reading now.
        """
        in_flight = self.sent - self.repeated - self.acked
        return self.window - max(0, in_flight) - self.unsent
