"""The life cycle is that of a process, so each test runs one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime

import pytest

PROGRAM = """
import asyncio, sys, threading
from lobby_gateway.errors import UserError
from lobby_gateway.process import logs
from lobby_gateway.process.lifecycle import announce, run

async def main(stopping):
    announce(port=1)
    if "bad" in sys.argv:
        raise UserError("--port: 1 is in use")
    if "broken" in sys.argv:
        logs.configure("prices-1", style="json")
        logs.hide_secrets(lambda text: text.replace("hunter22", "***"))
        raise KeyError("hunter22")
    if "threads" in sys.argv:
        thread = await asyncio.to_thread(threading.current_thread)
        thread.join(10)
        print(threading.active_count())
    await stopping.wait()
    print(stopping.reason)

sys.exit(run(main, end_with_stdin="stdin" in sys.argv))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(line: str) -> dict[str, object]:
    """What a process announced, without the time, which must be there."""
    found: dict[str, object] = json.loads(line)
    assert datetime.fromisoformat(str(found.pop("time"))).tzinfo is not None
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order(number: signal.Signals) -> None:
    with start() as process:
        assert process.stdout is not None
        assert told(process.stdout.readline()) == {"level": "info", "event": "listening", "port": 1}
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (f"{number.name}\n", "", 0)


def test_it_keeps_no_idle_thread() -> None:
    with start("threads", "stdin") as process:
        out, err = process.communicate(timeout=20)
    first, _, rest = out.partition("\n")
    assert told(first) == {"level": "info", "event": "listening", "port": 1}
    assert (rest, err) == ("1\nthe parent exited\n", "")


def test_the_end_of_standard_input_stops_it_where_that_is_asked_for() -> None:
    with start("stdin") as process:
        assert process.stdout is not None
        process.stdout.readline()
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("the parent exited\n", "", 0)


def test_unexpected_error_is_logged_without_secrets_and_exit_code_1() -> None:
    with start("broken") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    line = json.loads(err)
    assert (line["level"], line["message"]) == ("critical", "ended by an internal error: KeyError in <string>:14")
    assert "KeyError: '***'" in line["exception"]
    assert "hunter22" not in err


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    with start("bad") as process:
        _, err = process.communicate(timeout=20)
    assert (err, process.returncode) == ("--port: 1 is in use\n", 2)


def test_a_parent_that_is_gone_before_it_was_told_the_ports_is_no_error() -> None:
    program = PROGRAM.replace("print(stopping.reason)", "pass")
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-c", program, "stdin"], stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        _, err = process.communicate(timeout=20)
    assert (err, process.returncode) == ("", 0)
