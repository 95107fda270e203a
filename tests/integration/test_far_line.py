"""The far line of the benchmarks: its round trip, its losses, and that nothing else happens to data."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.benchmarks.contestants import WEBSOCKETS
from tests.benchmarks.far import measure
from tests.benchmarks.far_cells import Cell, burst
from tests.benchmarks.line import CONGESTION_CONTROL, Delay, Line, line, skip_reason

DATA = bytes(range(256)) * 4096


@pytest.fixture(scope="module", autouse=True)
def _needs_a_line() -> None:
    reason = skip_reason()
    if reason:
        pytest.skip(reason)


def listen(made: Line) -> socket.socket:
    return made.near.inside(lambda: socket.create_server((made.near.address, 0)))


def connect(made: Line, port: int) -> socket.socket:
    return made.far.inside(lambda: socket.create_connection((made.near.address, port), 30))


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def with_echo(made: Line, work: Callable[[socket.socket], None]) -> None:
    with listen(made) as listener:
        server = threading.Thread(target=echo, args=(listener,))
        server.start()
        try:
            with connect(made, listener.getsockname()[1]) as client:
                work(client)
        finally:
            server.join()


def send_and_receive_everything(client: socket.socket) -> None:
    sender = threading.Thread(target=client.sendall, args=(DATA,))
    sender.start()
    received = bytearray()
    while len(received) < len(DATA):
        received += client.recv(65536)
    sender.join()
    assert received == DATA


def test_a_message_and_its_answer_take_one_round_trip() -> None:
    trips: list[float] = []

    def ping(client: socket.socket) -> None:
        for _ in range(20):
            begun = time.monotonic()
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"
            trips.append(time.monotonic() - begun)

    with line(Delay(there_ms=5, back_ms=15)) as made:
        with_echo(made, ping)
        counts = made.end()
    assert all(trip >= 0.02 for trip in trips)
    assert min(trips) < 0.025  # one undisturbed trip is enough on a busy machine
    assert [counts[way]["lost"] for way in ("there", "back")] == [0, 0]
    assert counts["there"]["packets"] >= 20


@pytest.mark.parametrize("loss_per_mille", [0, 20])
def test_data_arrives_whole_although_packets_are_lost(loss_per_mille: int) -> None:
    with line(Delay(there_ms=1, back_ms=1, loss_per_mille=loss_per_mille)) as made:
        with_echo(made, send_and_receive_everything)
        counts = made.end()
    assert bool(counts["there"]["lost"] + counts["back"]["lost"]) == bool(loss_per_mille)


def test_both_ends_use_the_same_congestion_control_and_the_machine_keeps_its_own() -> None:
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    before = setting.read_text()
    with line(Delay(there_ms=0, back_ms=0)) as made:
        assert [place.inside(setting.read_text) for place in (made.near, made.far)] == [f"{CONGESTION_CONTROL}\n"] * 2
        assert setting.read_text() == before


def test_two_lines_at_once_are_separate() -> None:
    with line(Delay(there_ms=0, back_ms=0)) as one, line(Delay(there_ms=0, back_ms=0)) as other:
        with_echo(one, send_and_receive_everything)
        assert other.end()["there"]["packets"] < 20
        assert one.end()["there"]["packets"] > 100


def test_a_peer_delivers_every_message_to_far_clients() -> None:
    found = measure(WEBSOCKETS, Cell(rtt_ms=20, loss_percent=0, stream=burst(20, 1), size=200, slow=2, stalled=3))
    assert found.load["sent"] == 20
    assert found.load["clients"] == 50
    assert found.missing_percent == 0
    assert found.milliseconds("p50") >= 10
    assert found.load["stalled"]["at_newest"] == 3
