"""The benchmark runs: a moment of each kind. How fast it is is nobody's business here."""

from __future__ import annotations

import os
import shutil
import sys

import pytest
from tests.benchmarks.run import LATENCY, SERVERS, THROUGHPUT, Case, measure
from tests.benchmarks.servers import available, build

CLIENTS = 8

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("taskset") is None or os.cpu_count() == 1,
    reason="benchmarks need gcc, taskset and two cores",
)


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("case", [THROUGHPUT[0], THROUGHPUT[-1], LATENCY], ids=lambda case: str(case.mode))
def test_every_server_delivers_every_message(name: str, case: Case) -> None:
    if name in available():
        pytest.skip(available()[name])
    result = measure(name, case, CLIENTS, 0.3, sys.executable)
    assert result["clients"] == CLIENTS
    assert result["deliveries"] > 0
    assert (result["gaps"], result["duplicates"], result["lost_clients"]) == (0, 0, 0)
    assert result["cpu_seconds"] >= 0
