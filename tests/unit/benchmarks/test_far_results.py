"""Results over a far line: figures, tables, the page's section, and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks import far_page
from tests.benchmarks.far_cells import Cell, burst, steady
from tests.benchmarks.far_results import FarResults, Handshakes, Row, full_table, percent

CELL = Cell(rtt_ms=100, loss_percent=0, stream=burst(900, 2), size=200)
NAME = "100 ms, 0% loss, bursts of 900, 200 B"
OURS, PEER = "Lobby Gateway, proxied", "peer"


def row(server: str = OURS, cell: Cell = CELL, **load: Any) -> Row:
    counted = {"sent": 100, "clients": 10, "missing": 0, "p50": 0.05, "p99": 0.0521, "max": 0.1, "connect_seconds": 0.2}
    return Row(cell=cell, server=server, load={**counted, "tcp_bytes": 2_000_000, **load})


def shown(*rows: Row) -> str:
    return "\n".join(far_page.section(FarResults(list(rows))))


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.0011, "0.0011"), (3.456, "3.5"), (83.4, "83"), (100, "100")])
def test_a_single_missing_message_shows(value: float, text: str) -> None:
    assert percent(value) == text


def test_missing_messages_are_a_share_of_what_all_clients_should_have() -> None:
    assert row(missing=150).missing_percent == 15


def test_the_full_table_is_aligned_and_says_what_was_dropped() -> None:
    dropped = Row(cell=CELL, server="s", load=row(missing=1000).load, dropped={"greeter dropped": 1000.0, "lobby": 0.0})
    lines = full_table([row(), dropped])
    assert lines[0].split()[:4] == ["cell", "server", "missing", "%"]
    assert lines[1].startswith(f"{NAME}  {OURS}  ")
    assert lines[2].startswith(f"{NAME}  s   ")
    assert lines[2].endswith("greeter dropped 1,000")
    assert lines[1].split()[-6:] == ["0", "50.0", "52.1", "100.0", "200", "0.00"]


def test_slow_and_stalled_clients_are_noted() -> None:
    slow = {"clients": 2, "missing": 50, "oldest": 0.5, "behind": 16}
    stalled = {"clients": 1, "receive_buffer": 2048, "beyond": 16, "at_newest": 1}
    text = full_table([row(slow=slow, stalled=stalled)])[1]
    assert text.endswith("slow: 25% missing, 500 ms and 16 behind, stalled: 16 beyond 2 KiB, TCP 2.0 MB")


def test_a_congested_line_is_noted() -> None:
    counts = {"packets": 9, "lost": 1, "overflowed": 2, "dropped": 3, "late_us": 9_500}
    text = full_table([Row(cell=CELL, server="b", load=row().load, line={"there": counts, "back": counts})])[1]
    assert text.endswith("line overflowed 10, line up to 10 ms late")


def test_the_section_has_a_column_for_each_server_and_a_table_for_each_round_trip() -> None:
    near = Cell(rtt_ms=2, loss_percent=1, stream=steady(100, 2), size=4096)
    text = shown(row(), row(PEER, missing=10), row(PEER, near))
    assert f"### 2 ms\n\n| missing % · p50 · p99 · max | {PEER} |" in text
    assert "| 1% loss, steady 100/s, 4,096 B | 0 · 50 · 52 · 100 |" in text
    assert f"### 100 ms\n\n| missing % · p50 · p99 · max | {OURS} | {PEER} |" in text
    assert "| 0% loss, bursts of 900, 200 B | 0 · 50 · 52 · 100 | **1** · 50 · 52 · 100 |" in text


def test_of_several_rounds_the_most_missing_and_the_median_latency_are_shown() -> None:
    text = shown(row(p99=0.1), row(p99=0.3, missing=10), row(p99=0.2))
    assert "| **1** · 50 · 200 · 100 |" in text


def test_only_cells_count_in_which_a_peer_delivers_everything() -> None:
    lossy = Cell(rtt_ms=100, loss_percent=1, stream=burst(900, 2), size=200)
    text = shown(row(missing=1), row(PEER), row(cell=lossy, missing=1), row(PEER, lossy, missing=1))
    assert f"| {OURS} | 1 | 0 | 1 |" in text


@pytest.mark.parametrize(("peers_ms", "met"), [((100, 500), 1), ((99, 500), 0), ((500, 100), 1)])
def test_p99_is_compared_with_the_best_peer(peers_ms: tuple[float, float], met: int) -> None:
    peers = [row(f"peer {place}", p99=each / 1e3) for place, each in enumerate(peers_ms)]
    assert f"| {OURS} | 1 | 1 | {met} |" in shown(row(p99=0.1095), *peers)


def test_a_peer_that_loses_messages_sets_no_latency() -> None:
    quick, slow = row("quick", p99=0.001, missing=1), row("slow", p99=0.2)
    assert f"| {OURS} | 1 | 1 | 1 |" in shown(row(p99=0.21), quick, slow)


def test_other_layouts_slow_clients_and_handshakes_have_tables_of_their_own() -> None:
    greeter = Cell(rtt_ms=50, loss_percent=0, stream=steady(1000, 2), size=200, layout="greeter")
    reader = Cell(rtt_ms=2, loss_percent=0, stream=steady(100, 6), size=200, slow=25)
    slow = {"clients": 2, "missing": 50, "oldest": 0.5, "behind": 16}
    handshakes = [Handshakes(server=OURS, rtt_ms=100, tls=True, seconds=[0.29, 0.3, 0.34])]
    results = FarResults([row(cell=greeter), row(cell=reader, slow=slow)], handshakes, {}, {"ws": "no node"}, ["x: y"])
    text = "\n".join(far_page.section(results))
    assert "### A far greeter" in text
    assert "| 50 ms, 0% loss, steady 1,000/s, 200 B, far greeter | 0 · 50 · 52 · 100 |" in text
    assert f"| 2 ms, 0% loss, steady 100/s, 200 B, 25 slow | {OURS} | 0 | 52 | 500 | 16 | – | 2.0 |" in text  # noqa: RUF001
    assert f"| 100 ms | {OURS} | nginx in front | 300 | 340 | 3.0 |" in text
    assert "- ws took no part: no node." in text
    assert "- Failed: x: y" in text
    assert "### 2 ms" not in text


def test_results_survive_the_file(tmp_path: Path) -> None:
    results = FarResults([row(slow={"clients": 1})], [Handshakes(server="s", rtt_ms=20, tls=False, seconds=[0.1])])
    results.about = {"date": "2026-11-28", "others": [0.1, 0.0]}
    results.missing["ws"] = "no node"
    results.save(tmp_path / "far.json")
    assert FarResults.load(tmp_path / "far.json") == results


def test_the_section_replaces_its_own_and_is_kept_otherwise() -> None:
    page = "# Performance\n\n## A\n\na\n\n## Far clients\n\nold\n\n### Part\n\n## B\n\nb\n"
    new = far_page.replaced(page, ["## Far clients", "", r"new \1", ""])
    assert new == "# Performance\n\n## A\n\na\n\n## Far clients\n\nnew \\1\n\n## B\n\nb\n"
    assert far_page.kept(new) == ["## Far clients", "", r"new \1", ""]
    assert far_page.replaced(new, far_page.kept(new)) == new


def test_a_page_without_the_section_gets_the_one_that_says_how_it_is_measured() -> None:
    lines = far_page.kept("# Performance\n\n## A\n")
    assert lines[0] == "## Far clients"
    assert "Not measured yet." in lines
