from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROCESSES = ["lobby_gateway.lobby", "lobby_gateway.greeter", "lobby_operator.kube"]
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_process_that_is_still_importing(number: signal.Signals) -> None:
    code = """
from lobby_gateway.process.early_end import end_early
end_early()
print("begun", flush=True)
import time
time.sleep(60)
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (128 + number, "", "")


def test_a_signal_that_is_ignored_stays_so() -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lobby_gateway.process.early_end import end_early
end_early()
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_can_be_ended_before_it_imports_what_takes_time(process: str) -> None:
    command = [sys.executable, "-X", "importtime", "-c", f"import {process}.__main__"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = [line.rpartition("|")[2].strip() for line in told.splitlines()]
    before = imported[: imported.index("lobby_gateway.process.early_end")]
    assert not {"asyncio", "ssl", "prometheus_client", "kubernetes", "kopf"} & set(before)
    assert "asyncio" in imported
