"""`lobby origin`: the small origin of the demo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.support.waiting import until
from websockets.asyncio.client import connect
from websockets.protocol import State

from lobby_gateway.commands.origin import Ticker, TickerSettings, message


def test_a_message_has_a_number_and_a_time() -> None:
    assert json.loads(message(7, 12.5, 0)) == {"seq": 7, "time": 12.5}


@pytest.mark.parametrize("size", [60, 100, 1024, 1048576])
def test_a_message_is_filled_up_to_the_size_asked_for(size: int) -> None:
    text = message(123456, 1767225600.123456, size)
    assert len(text) == size
    assert json.loads(text)["seq"] == 123456


def test_a_size_that_is_too_small_leaves_the_message_whole() -> None:
    assert json.loads(message(1, 2.0, 10)) == {"seq": 1, "time": 2.0}


def test_every_connection_gets_the_same_messages_in_order_in_bursts() -> None:
    async def run() -> None:
        ticker = Ticker(TickerSettings(port=0, rate=400, burst=4, size=64))
        port = await ticker.start()
        ticking = asyncio.create_task(ticker.tick())
        async with connect(f"ws://127.0.0.1:{port}") as one, connect(f"ws://127.0.0.1:{port}") as two:
            first_of_two = await two.recv()
            ones = [await one.recv()]
            while len(ones) < 40 or first_of_two not in ones:
                ones.append(await one.recv())
            start = ones.index(first_of_two)
            twos = [first_of_two] + [await two.recv() for _ in range(len(ones) - start - 1)]
            assert twos == ones[start:]
            read = [json.loads(text) for text in ones]
            assert [line["seq"] for line in read] == list(range(read[0]["seq"], read[0]["seq"] + len(ones)))
            assert read[0]["seq"] % 4 == 1  # a burst begins
            assert abs(read[0]["time"] - time.time()) < 60
            ticking.cancel()
            await ticker.close()
            async for _ in one:  # what was still under way
                pass
            assert one.close_code == 1001

    asyncio.run(run())


def test_a_probe_is_answered_without_a_websocket() -> None:
    async def run() -> None:
        ticker = Ticker(TickerSettings(port=0))
        port = await ticker.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: origin\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await ticker.close()

    asyncio.run(run())


def test_numbers_go_on_while_nobody_is_connected() -> None:
    async def run() -> None:
        ticker = Ticker(TickerSettings(port=0, rate=1000))
        port = await ticker.start()
        ticking = asyncio.create_task(ticker.tick())
        async with connect(f"ws://127.0.0.1:{port}", close_timeout=0.1) as one:
            before = json.loads(await one.recv())["seq"]
        async with connect(f"ws://127.0.0.1:{port}", close_timeout=0.1) as two:
            assert json.loads(await two.recv())["seq"] > before
        ticking.cancel()
        await ticker.close()

    asyncio.run(run())


def test_a_connection_that_does_not_read_is_dropped_and_others_go_on() -> None:
    async def run() -> None:
        ticker = Ticker(TickerSettings(port=0, size=1 << 16, max_pending_bytes=1 << 20))
        port = await ticker.start()
        async with connect(f"ws://127.0.0.1:{port}", max_size=None) as reading:
            held = await connect(f"ws://127.0.0.1:{port}", max_size=None)
            held.transport.pause_reading()
            await until(lambda: len(ticker._connections) == 2)
            sizes: list[int] = []

            async def send_and_read() -> bool:
                ticker._send_burst()
                sizes.append(len(await reading.recv()))
                return len(ticker._connections) == 1

            await until(send_and_read, deadline=60, every=0)
            assert reading.state is State.OPEN
            count = len(sizes)
            await until(send_and_read)
            assert len(sizes) > count
            assert len(set(sizes)) == 1
            for client in (held, reading):
                client.transport.abort()
            await ticker.close()

    asyncio.run(run())


def start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lobby_gateway.commands.origin", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE)


def test_announces_its_port_to_a_parent_and_ends_with_it() -> None:
    with start("--port", "0", "--end-with-stdin") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "listening"
        assert line["port"] > 0
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tells_a_person_its_address_and_stops_cleanly_on_a_signal(number: signal.Signals) -> None:
    with start("--port", "0", "--rate", "2") as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.startswith("origin: ws://127.0.0.1:")
        assert "2 messages per second" in line
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0
        assert b"Traceback" not in errors


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    async def port_of_a_ticker() -> None:
        ticker = Ticker(TickerSettings(port=0))
        port = await ticker.start()
        process = await asyncio.to_thread(start, "--port", str(port))
        _, errors = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 2
        assert errors.decode() == f"lobby origin: --port: {port} is in use on 127.0.0.1; accepted: a free port\n"
        await ticker.close()

    asyncio.run(port_of_a_ticker())
