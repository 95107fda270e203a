"""The cells of the far matrix, and what the command line selects."""

from __future__ import annotations

import pytest
from tests.benchmarks.far import arguments, matrix
from tests.benchmarks.far_cells import GROUPS, Cell, burst, steady


def test_the_whole_matrix_is_that_of_the_documentation() -> None:
    cells = GROUPS["far clients"].cells()
    assert len(cells) == len({cell.name for cell in cells}) == 4 * 3 * 4 * 2
    assert {cell.rtt_ms for cell in cells} == {2, 20, 100, 250}
    assert {cell.loss_percent for cell in cells} == {0, 0.1, 1}
    assert {cell.stream.name for cell in cells} == {"steady 100/s", "steady 1,000/s", "bursts of 100", "bursts of 900"}
    assert {cell.size for cell in cells} == {200, 4096}


def selected(text: str) -> list[Cell]:
    found = matrix(arguments(text.split()))
    assert found is not None
    return found.cells()


def test_without_a_selection_everything_is_measured() -> None:
    assert matrix(arguments(["--servers", "proxied", "--rounds", "2", "--seed", "7"])) is None
    names = [cell.name for group in GROUPS.values() for cell in group.cells()]
    assert len(names) == len(set(names))


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
