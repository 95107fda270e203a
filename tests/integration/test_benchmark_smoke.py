"""Every kind of benchmark runs briefly with a few clients. Speed is not asserted."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from tests.benchmarks import build, run
from tests.benchmarks.contestants import (
    C_LOOP,
    DIRECT,
    DIRECT_IN_PYTHON,
    NCHAN_CONTESTANT,
    PROXIED,
    WEBSOCKETS,
    WS,
    Contestant,
)
from tests.benchmarks.load import Case, Outcome, measure
from tests.benchmarks.plan import ON_ONE_CORE, SHARED, TWO_GREETERS, sections, trades
from tests.benchmarks.results import Results

CLIENTS = 8
CONTESTANTS = (C_LOOP, DIRECT, DIRECT_IN_PYTHON, PROXIED, WEBSOCKETS, WS, NCHAN_CONTESTANT)
ONE = Case(mode="one", clients=CLIENTS, seconds=1.0, warm_up=0.1)
RATE = Case(mode="rate", value=100, clients=CLIENTS, seconds=1.0, warm_up=0.1)

pytestmark = pytest.mark.skipif(
    bool(build.skip_reason()) or shutil.which("taskset") is None or os.cpu_count() == 1,
    reason="benchmarks need gcc, taskset and two cores",
)


def measured(contestant: Contestant, case: Case) -> Outcome:
    if contestant.missing:
        pytest.skip(contestant.missing)
    outcome = measure(contestant, case)
    assert outcome.load["clients"] == case.clients
    assert outcome.load["deliveries"] > 0
    assert [outcome.load[what] for what in ("gaps", "duplicates", "lost", "refused")] == [0, 0, 0, 0]
    assert outcome.holder_cpu > 0
    return outcome


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: str(each.name))
@pytest.mark.parametrize(
    "case", [ONE, dataclasses.replace(ONE, mode="burst", value=10_000), RATE], ids=lambda case: str(case.mode)
)
def test_every_contestant_delivers_every_message(contestant: Contestant, case: Case) -> None:
    measured(contestant, case)


def test_two_greeters_share_the_clients() -> None:
    outcome = measured(TWO_GREETERS, dataclasses.replace(RATE, clients=64))
    assert len(outcome.resident) == 2
    assert outcome.load["deliveries"] >= 64


@pytest.mark.parametrize("contestant", [C_LOOP, ON_ONE_CORE], ids=lambda each: str(each.name))
def test_sleeping_clients_receive_every_message_from_the_first(contestant: Contestant) -> None:
    outcome = measured(contestant, dataclasses.replace(RATE, sleep=True, warm_up=0))
    assert 0 < outcome.load["p50"] <= outcome.load["p99"] <= outcome.load["max"]


def test_clients_with_compression_receive_fewer_bytes() -> None:
    outcome = measured(SHARED, dataclasses.replace(RATE, size=1024, text=trades(), deflate=True))
    assert 0 < outcome.load["bytes"] < 1024 * outcome.load["deliveries"] * 0.8


def test_a_stalled_client_lags_by_its_mailbox_and_gets_the_newest_message() -> None:
    outcome = measured(
        DIRECT, dataclasses.replace(RATE, value=100, size=16384, stalled=4, seconds=3.0)
    )  # a second until they count as not reading, and a margin
    assert outcome.load["stalled"] == outcome.load["stalled_at_newest"] == 4
    assert outcome.load["stalled_receive_buffer"] > 0
    assert outcome.load["stalled_beyond"] <= 16


@pytest.mark.parametrize("contestant", [C_LOOP, DIRECT, PROXIED], ids=lambda each: str(each.name))
def test_clients_come_and_go(contestant: Contestant) -> None:
    measured(contestant, Case(mode="shake", value=4, clients=CLIENTS, seconds=0.3, warm_up=0.1))


def test_the_page_shows_every_figure(tmp_path: Path) -> None:
    outcome = measure(DIRECT, RATE)
    results = Results()
    for section in sections(2, 0.1):
        for case in section.cases:
            for contestant, rounds in section.turns:
                for _ in range(rounds):
                    results.add(section.name, case, contestant.name, outcome)
    results.missing["peer"] = "not installed"
    results.save(tmp_path / "results.json")
    about = run.about(2, 0.1, 60.0, (0.01, 0.02))
    run.write(Results.load(tmp_path / "results.json"), about, tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert "not measured" not in page
    assert "peer: not installed" in page
    names = {contestant.name for section in sections(2, 0.1) for contestant, _ in section.turns}
    assert not [name for name in names - {TWO_GREETERS.name} if name not in page]
    assert "Two greeters" in page
