"""What `lobby bench` tells: for people and for programs."""

from __future__ import annotations

import dataclasses
import io
import json
import re

from rich.console import Console

from lobby_gateway.commands.bench.report import Report, report, table
from lobby_gateway.commands.bench.server_metrics import ServerReport
from lobby_gateway.commands.bench.swarm import Swarm

FINE = Report(
    url="ws://127.0.0.1:8000/demo",
    clients=1000,
    connected=1000,
    redirects=0,
    refused={},
    failed={},
    connect_seconds=1.25,
    seconds=10.0,
    deliveries=1_000_000,
    deliveries_per_second=100_000.0,
    bytes_per_second=6_600_000.0,
    stamped=1_000_000,
    timed=64_000,
    timed_clients=64,
    latency_ms={"p50": 1.5, "p99": 2.25, "p99.9": 1234.5},
    gaps=0,
    duplicates=0,
    reorderings=0,
    restarts=0,
    silent=0,
    disconnects={},
    cpu=0.25,
)


def shown(told: Report) -> dict[str, str]:
    printed = io.StringIO()
    Console(width=200, file=printed).print(table(told))
    lines = [line.strip() for line in printed.getvalue().splitlines() if line.strip()]
    assert lines[0] == told.url
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines[1:])


def test_a_run_in_which_all_went_well_is_short() -> None:
    assert shown(FINE) == {
        "clients": "1,000 of 1,000 connected in 1.25 s",
        "deliveries": "100,000/s, 1,000,000 in 10.0 s",
        "bytes": "6.60 MB/s",
        "latency": "p50 1.50 ms, p99 2.25 ms, p99.9 1,234.50 ms (of 64 clients)",
        "gaps": "0",
        "duplicates": "0",
        "reorderings": "0",
        "disconnects": "0",
        "this process": "25% of a core",
    }


def test_whatever_went_wrong_has_a_line() -> None:
    told = dataclasses.replace(
        FINE,
        connected=990,
        refused={"503": 7, "429": 2},
        failed={"connection refused": 1},
        redirects=3,
        restarts=5,
        silent=4,
        gaps=1234,
        disconnects={"lost": 1, "1012": 2},
        cpu=0.97,
    )
    rows = shown(told)
    assert rows["clients"].startswith("990 of 1,000")
    assert rows["refused"] == "429: 2, 503: 7"
    assert rows["failed"] == "connection refused: 1"
    assert rows["redirects"] == "3"
    assert rows["restarts"].startswith("5 ")
    assert rows["silent"].startswith("4 ")
    assert rows["gaps"] == "1,234"
    assert rows["disconnects"] == "1012: 2, lost: 1"
    assert "may reflect the bench" in rows["this process"]


def test_a_server_without_a_client_behind_has_short_rows() -> None:
    dropped, behind = {"slow": 0, "old": 0, "memory": 0}, {"line": 0, "not_reading": 0}
    calm = ServerReport(dropped=dropped, behind=behind, lag_messages=0, lag_ms=0.0)
    rows = shown(dataclasses.replace(FINE, server=calm))
    assert (rows["dropped"], rows["behind"], rows["lag"]) == ("0", "0", "up to 0 messages, 0 ms")
    assert "metrics" not in rows


def test_drops_are_told_by_reason_and_lags_by_cause() -> None:
    busy = ServerReport(
        dropped={"slow": 1200, "old": 0, "memory": 7},
        behind={"line": 1000, "not_reading": 3},
        lag_messages=2500,
        lag_ms=1234.4,
        missed_samples=1,
    )
    rows = shown(dataclasses.replace(FINE, server=busy))
    assert rows["dropped"] == "1,200 slow, 7 memory"
    assert rows["behind"] == "up to 1,000 waiting for the line, 3 not reading"
    assert rows["lag"] == "up to 2,500 messages, 1,234 ms"
    assert rows["metrics"] == "1 sample failed"


def test_messages_that_say_nothing_of_themselves_are_not_judged() -> None:
    rows = shown(dataclasses.replace(FINE, stamped=0, timed=0, latency_ms={}))
    assert rows["latency"] == "messages have no times"
    assert rows["gaps"] == "messages have no numbers"
    assert "duplicates" not in rows


def test_where_nobody_got_in_only_that_is_told() -> None:
    told = dataclasses.replace(FINE, connected=0, refused={"404": 1000}, seconds=0.0)
    assert shown(told) == {"clients": "0 of 1,000 connected in 1.25 s", "refused": "404: 1,000"}


def test_json_has_every_figure() -> None:
    told = json.loads(json.dumps(FINE.to_json()))
    assert set(told) == {each.name for each in dataclasses.fields(Report)}
    assert told["latency_ms"] == {"p50": 1.5, "p99": 2.25, "p99.9": 1234.5}


def test_a_run_that_did_not_begin_divides_by_nothing() -> None:
    swarm = Swarm("ws://127.0.0.1:1/")
    told = report(swarm, url="ws://127.0.0.1:1/", clients=5, connect_seconds=0.5, seconds=0.0, cpu_seconds=0.0)
    swarm.close()
    assert (told.connected, told.deliveries_per_second, told.cpu, told.latency_ms) == (0, 0.0, 0.0, {})
