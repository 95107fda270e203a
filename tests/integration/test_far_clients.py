"""Clients at the far end of a long line: a burst that they could take neither closes them nor loses a message."""

from __future__ import annotations

import pytest
from tests.benchmarks.contestants import Contestant, Gateway
from tests.benchmarks.far import measure
from tests.benchmarks.far_cells import Cell, burst
from tests.benchmarks.far_results import Row
from tests.benchmarks.line import skip_reason

CLIENTS = 10
BURST = 900  # of which 10 packets fit the first congestion window, and 16 more the newest messages


@pytest.fixture(scope="module", autouse=True)
def _needs_a_line() -> None:
    reason = skip_reason()
    if reason:
        pytest.skip(reason)


def burst_over_100_ms(greeters: int, **queue: object) -> Row:
    gateway = Gateway(greeters=greeters, compiled=False, clients_spec={"queue": queue})
    cell = Cell(rtt_ms=100, loss_percent=0, stream=burst(BURST, 1), size=200, clients=CLIENTS)
    found = measure(Contestant("Lobby Gateway", gateway.serve), cell)
    assert found.load["sent"] == BURST
    return found


@pytest.mark.parametrize("greeters", [0, 1], ids=["direct", "proxied"])
@pytest.mark.parametrize("overflow", ["Disconnect", "DropOldest"])
def test_a_burst_neither_closes_a_far_client_nor_loses_a_message(greeters: int, overflow: str) -> None:
    found = burst_over_100_ms(greeters, overflow=overflow)
    assert found.load["missing"] == 0
    assert set(found.dropped.values()) == {0}


def test_without_time_to_wait_the_same_burst_closes_every_far_client() -> None:
    found = burst_over_100_ms(0, overflow="Disconnect", milliseconds=0)
    assert found.dropped["lobby dropped old"] > CLIENTS
    assert found.load["missing"] > CLIENTS * BURST / 2
