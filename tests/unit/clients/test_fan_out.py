from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.compiled import LOOPS
from tests.support.sockets import tcp_pair

from lobby_gateway.clients.fan_out import SendAll, send_all_compiled

DATA = b"\x82\x05hello"


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


@contextlib.contextmanager
def clients(
    count: int, *, receive_buffer: int | None = None
) -> Iterator[tuple[dict[int, Client], list[socket.socket]]]:
    """Clients by descriptor, and their own ends."""
    pairs = [tcp_pair(receive_buffer=receive_buffer) for _ in range(count)]
    try:
        yield {ours.fileno(): Client(ours) for ours, _ in pairs}, [theirs for _, theirs in pairs]
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()


@pytest.mark.parametrize("send_all", LOOPS)
class TestSendAll:
    def test_every_client_gets_all_bytes(self, send_all: SendAll) -> None:
        with clients(5) as (ours, theirs):
            assert send_all(ours, DATA) == []
            assert [sock.recv(100) for sock in theirs] == [DATA] * 5

    def test_no_clients_is_fine(self, send_all: SendAll) -> None:
        assert send_all({}, DATA) == []

    def test_a_partial_send_is_reported_with_its_size(self, send_all: SendAll) -> None:
        with clients(1, receive_buffer=4096) as (ours, theirs):
            data = bytes(1 << 22)
            (fd,) = ours
            [(told, sent)] = send_all(ours, data)
            assert told == fd
            assert 0 < sent < len(data)
            got = 0
            while got < sent:
                got += len(theirs[0].recv(1 << 20))
            assert got == sent

    def test_full_and_broken_sockets_are_distinguished_at_any_position(self, send_all: SendAll) -> None:
        with clients(7, receive_buffer=4096) as (ours, theirs):
            fds = list(ours)
            full, broken = {fds[0], fds[3]}, {fds[1], fds[6]}
            for fd in full:
                assert 0 < ours[fd].sock.send(bytes(1 << 22)) < 1 << 22
            for fd in broken:
                ours[fd].sock.shutdown(socket.SHUT_WR)
            told = send_all(ours, DATA)
            assert told == [(fds[0], 0), (fds[1], -1), (fds[3], 0), (fds[6], -1)]
            for index in (2, 4, 5):
                assert theirs[index].recv(100) == DATA

    def test_a_connection_that_was_reset_is_lost_and_raises_no_signal(self, send_all: SendAll) -> None:
        with clients(2) as (ours, theirs):
            theirs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            theirs[0].close()
            for _ in range(2):  # ECONNRESET, then EPIPE
                assert send_all(ours, DATA) == [(next(iter(ours)), -1)]

    def test_a_message_is_not_appended_to_one_that_waits(self, send_all: SendAll) -> None:
        with clients(1, receive_buffer=4096) as (ours, _):
            message = bytes(1000)
            taken = 0
            while send_all(ours, message) == []:
                taken += 1
            assert taken < 20  # 64 KiB beyond the receive buffer would be 65 more


compiled = pytest.mark.skipif(send_all_compiled is None, reason="the send loop is not compiled (needs a C compiler)")


@compiled
def test_arguments_other_than_a_dictionary_and_bytes_are_refused() -> None:
    assert send_all_compiled is not None
    for clients_, data in (([], b""), ({}, "text")):
        with pytest.raises(TypeError):
            send_all_compiled(clients_, data)  # type: ignore[arg-type]


@compiled
@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("5", "must be an int"),
        (5.0, "must be an int"),
        (-1, "-1 is no descriptor"),
        (1 << 31, "2147483648 is no descriptor"),
        (1 << 32, "4294967296 is no descriptor"),  # cut to 32 bits it would be descriptor 0
        (1 << 64, "18446744073709551616 is no descriptor"),
    ],
)
def test_the_compiled_loop_refuses_what_is_no_descriptor(key: object, problem: str) -> None:
    assert send_all_compiled is not None
    with pytest.raises((TypeError, ValueError), match=problem):
        send_all_compiled({key: None}, DATA)  # type: ignore[dict-item]


@compiled
def test_the_compiled_loop_runs_no_code_of_a_key() -> None:
    assert send_all_compiled is not None

    class Meddler:
        def __index__(self) -> int:
            keys.clear()
            return 0

    keys: dict[object, None] = {Meddler(): None, Meddler(): None}
    with pytest.raises(TypeError, match="Meddler"):
        send_all_compiled(keys, DATA)  # type: ignore[arg-type]
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("value", "loop"), [("1", "python"), ("", "python" if send_all_compiled is None else "compiled")]
)
def test_the_environment_can_select_the_loop_in_python(value: str, loop: str) -> None:
    code = "from lobby_gateway.clients.fan_out import SEND_LOOP; print(SEND_LOOP)"
    environment = {**os.environ, "LOBBY_PURE_PYTHON": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loop
