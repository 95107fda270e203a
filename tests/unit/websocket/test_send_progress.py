from __future__ import annotations

import socket

from tests.support.sockets import receive, run, tcp_pair
from tests.support.waiting import until

from lobby_gateway.websocket.listener import TCP_NOTSENT_LOWAT
from lobby_gateway.websocket.send_progress import SendProgress


def fill(sock: socket.socket) -> None:
    """Sends until the socket takes no more."""
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


def test_bytes_taken_while_others_wait_are_progress_and_a_full_socket_is_not() -> None:
    async def main() -> None:
        ours, theirs = tcp_pair(receive_buffer=65536)
        fill(ours)
        progress = SendProgress(ours, waiting=True)
        await until(lambda: not progress.look(waiting=True), describe="the client's buffer to be full")
        assert not progress.look(waiting=True)
        await receive(theirs, 65536)
        await until(lambda: progress.look(waiting=True), describe="progress")
        await until(lambda: not progress.look(waiting=True), describe="the client's buffer to be full again")
        ours.close()
        theirs.close()

    run(main())


def test_what_the_kernel_has_yet_to_send_waits_too() -> None:
    async def main() -> None:
        ours, theirs = tcp_pair(receive_buffer=65536)
        ours.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1 << 20)
        fill(ours)
        progress = SendProgress(ours, waiting=False)
        await until(lambda: not progress.look(waiting=False), describe="the client's buffer to be full")
        await receive(theirs, 65536)
        await until(lambda: progress.look(waiting=False), describe="progress")
        ours.close()
        theirs.close()

    run(main())


def test_an_acknowledgement_is_no_progress_if_nothing_waited() -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        progress = SendProgress(ours, waiting=False)
        for _ in range(3):
            ours.send(b"ping")
            await until(lambda: acknowledged(ours), describe="the kernel's acknowledgement")
            assert not progress.look(waiting=False)
        ours.close()
        theirs.close()

    run(main())


def test_the_last_bytes_that_waited_are_progress() -> None:
    async def main() -> None:
        ours, theirs = tcp_pair(receive_buffer=65536)
        ours.send(bytes(1 << 20))
        progress = SendProgress(ours, waiting=True)
        theirs.setblocking(False)
        await until(lambda: drained(ours, theirs), describe="the socket to be empty")
        assert progress.look(waiting=False)
        assert not progress.look(waiting=False)
        ours.close()
        theirs.close()

    run(main())


def acknowledged(sock: socket.socket) -> bool:
    """Whether the peer's kernel has everything that was sent."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(info[24:28], "little") == 0


def drained(ours: socket.socket, theirs: socket.socket) -> bool:
    try:
        theirs.recv(1 << 16)
    except BlockingIOError:
        return acknowledged(ours)
    return False
