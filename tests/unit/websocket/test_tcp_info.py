from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest
from tests.support.sockets import run, tcp_pair

from lobby_gateway.websocket.tcp_info import TcpInfo

READS = TcpInfo(segment=1448, packets_in_flight=3, acked=0, unsent=200, sent=600, repeated=0, window=65536, min_rtt=0)


class OldKernel:
    """Knows the structure up to tcpi_total_retrans only."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        return struct.pack("=16xI4xI76x", 1448, 7)


def test_a_look_at_a_real_connection_accounts_for_every_byte() -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        ours.send(bytes(1000))
        async with asyncio.timeout(5):
            while TcpInfo.of(ours).packets_in_flight:  # noqa: ASYNC110  # the kernel tells nobody
                await asyncio.sleep(0.001)
        info = TcpInfo.of(ours)
        assert (info.acked, info.sent - info.repeated, info.unsent) == (1000, 1000, 0)
        assert info.room == info.window > 0
        ours.close()
        theirs.close()

    run(main())


def test_the_window_of_a_peer_that_never_reads_is_closed() -> None:
    ours, theirs = tcp_pair(receive_buffer=4096)
    deadline = time.monotonic() + 10
    while not TcpInfo.of(ours).window_closed:
        assert time.monotonic() < deadline
        try:
            ours.send(bytes(200), socket.MSG_EOR)
        except BlockingIOError:
            time.sleep(0.001)
    assert TcpInfo.of(ours).room < 1460
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("change", "closed"),
    [
        ({}, False),
        ({"packets_in_flight": 0}, True),  # nothing on the way, and something to send
        ({"packets_in_flight": 0, "unsent": 0}, False),
        ({"window": 1447}, True),  # no room for a packet
        ({"window": 1448}, False),
        ({"segment": 32768, "window": 1459}, True),  # loopback
        ({"segment": 32768, "window": 1460}, False),
        ({"segment": 536, "window": 1072}, False),  # a small device
    ],
)
def test_a_window_without_room_for_a_packet_is_closed(change: dict[str, int], closed: bool) -> None:
    assert READS._replace(**change).window_closed is closed


def test_room_is_what_fits_behind_everything_that_was_given_to_the_kernel() -> None:
    assert READS.room == 65536 - 600 - 200
    assert READS._replace(acked=500, repeated=50, sent=650).room == 65536 - 100 - 200


def test_what_an_old_kernel_does_not_know_is_0() -> None:
    info = TcpInfo.of(OldKernel())
    assert info == TcpInfo(
        segment=1448, packets_in_flight=7, acked=0, unsent=0, sent=0, repeated=0, window=0, min_rtt=0
    )
    assert not info.window_closed
