"""The cells of the far matrix, what the command line selects, and the tables."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarks.far import arguments, matrix
from tests.benchmarks.far_cells import Cell, Matrix, Row, burst, full_table, page_table, percent, steady


def row(cell: str = "a", server: str = "ours", **load: Any) -> Row:
    counted = {"sent": 100, "clients": 10, "missing": 0, "p50": 0.05, "p99": 0.0521, "max": 0.1, "connect_seconds": 0.2}
    return Row(cell=cell, server=server, load={**counted, "tcp_bytes": 2_000_000, **load})


def test_the_whole_matrix_is_that_of_the_documentation() -> None:
    cells = Matrix().cells()
    assert len(cells) == len({cell.name for cell in cells}) == 4 * 3 * 4 * 2
    assert {cell.rtt_ms for cell in cells} == {2, 20, 100, 250}
    assert {cell.loss_percent for cell in cells} == {0, 0.1, 1}
    assert {cell.stream.name for cell in cells} == {"steady 100/s", "steady 1,000/s", "bursts of 100", "bursts of 900"}
    assert {cell.size for cell in cells} == {200, 4096}


def selected(text: str) -> list[Cell]:
    return matrix(arguments(text.split())).cells()


def test_one_cell_is_selected_by_its_figures() -> None:
    names = [cell.name for cell in selected("--rtt 100 --loss 0 --burst 900 --size 200")]
    assert names == ["100 ms, 0% loss, bursts of 900, 200 B"]


def test_streams_that_are_not_mentioned_take_part_only_if_none_is() -> None:
    assert {cell.stream.name for cell in selected("--steady 300")} == {"steady 300/s"}
    assert len({cell.stream.name for cell in selected("--rtt 2")}) == 4


def test_several_values_are_all_combined() -> None:
    cells = selected("--rtt 2,20.5 --loss 0,0.1 --burst 100 --size 200 --layout greeter,origin")
    assert len(cells) == 8
    assert cells[0].name == "2 ms, 0% loss, bursts of 100, 200 B, far greeter"
    assert cells[-1].name == "20.5 ms, 0.1% loss, bursts of 100, 200 B, far origin"


def test_additional_clients_are_named_and_counted() -> None:
    cells = selected("--rtt 2 --loss 0 --steady 50 --size 200 --stalled 5 --slow 7 --clients 3")
    assert [cell.name for cell in cells] == ["2 ms, 0% loss, steady 50/s, 200 B, 3 clients, 5 stalled, 7 slow"]
    assert cells[0].everyone == 15


@pytest.mark.parametrize("given", ["--servers proxied,nobody", "--layout clients,moon"])
def test_an_unknown_name_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(given.split())
    assert f"unknown: {given.rpartition(',')[2]}; accepted: " in capsys.readouterr().err


def test_a_round_trip_is_shared_by_both_directions() -> None:
    delay = Cell(rtt_ms=25, loss_percent=0.1, stream=steady(10, 1), size=200).delay(7)
    assert (delay.there_ms, delay.back_ms, delay.loss_per_mille, delay.seed) == (12.5, 12.5, 1, 7)


def test_the_load_waits_for_late_messages_as_long_as_the_line_is() -> None:
    cell = Cell(rtt_ms=250, loss_percent=0, stream=burst(900, 2), size=200)
    options = dict(zip(cell.options()[::2], cell.options()[1::2], strict=True))
    assert options["--drain"] == "2.25"
    assert (options["--burst"], options["--spread"], options["--bursts"]) == ("900", "0.3", "2")


def test_a_steady_stream_is_one_long_burst() -> None:
    stream = steady(1000, 2.5)
    assert (stream.messages, stream.seconds, stream.bursts) == (2500, 2.5, 1)


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (0.0011, "0.0011"), (3.456, "3.5"), (83.4, "83"), (100, "100")])
def test_a_single_missing_message_shows(value: float, shown: str) -> None:
    assert percent(value) == shown


def test_missing_messages_are_a_share_of_what_all_clients_should_have() -> None:
    assert row(missing=150).missing_percent == 15


def test_the_full_table_is_aligned_and_says_what_was_dropped() -> None:
    dropped = Row(
        cell="longer", server="s", load=row(missing=1000).load, dropped={"greeter dropped": 1000.0, "lobby": 0.0}
    )
    lines = full_table([row(), dropped])
    assert lines[0].split()[:4] == ["cell", "server", "missing", "%"]
    assert lines[1].startswith("a       ours")
    assert lines[2].startswith("longer  s   ")
    assert lines[2].endswith("greeter dropped 1,000")
    assert lines[1].split()[2:] == ["0", "50.0", "52.1", "100.0", "200", "0.00"]


def test_slow_and_stalled_clients_are_noted() -> None:
    slow = {"clients": 2, "missing": 50, "oldest": 0.5, "behind": 16}
    stalled = {"clients": 1, "receive_buffer": 2048, "beyond": 16, "at_newest": 1}
    text = full_table([row(slow=slow, stalled=stalled)])[1]
    assert text.endswith("slow: 25% missing, 500 ms and 16 behind, stalled: 16 beyond 2 KiB, TCP 2.0 MB")


def test_a_congested_line_is_noted() -> None:
    counts = {"packets": 9, "lost": 1, "overflowed": 2, "dropped": 3, "late_us": 9_500}
    text = full_table([Row(cell="a", server="b", load=row().load, line={"there": counts, "back": counts})])[1]
    assert text.endswith("line overflowed 10, line up to 10 ms late")


def test_the_pages_table_has_a_column_for_each_server() -> None:
    head, lines = page_table([row("a", "ours"), row("a", "peer", missing=10), row("b", "peer")])
    assert head[1:] == ["ours", "peer"]
    assert lines[0] == ["a", "0 · 50 · 52 · 100", "**1** · 50 · 52 · 100"]
    assert lines[1][0::2] == ["b", "0 · 50 · 52 · 100"]
    assert "0" not in lines[1][1]
