"""`lobby simulate`: its options, its output, and one line per error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lobby_operator import cli
from lobby_operator.simulate.scenarios import SCENARIOS


def test_help_lists_each_scenario_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, scenario in SCENARIOS.items():
        assert any(line.split(maxsplit=1) == [name, scenario.sentence] for line in lines), name


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "quake",
            f"SCENARIO: quake is unknown; accepted: {', '.join(SCENARIOS)}",
        ),
        ("rollout --clients 0", "--clients: 0 is too small; accepted: 1 to 2000000"),
        ("rollout --clients 1e6", "--clients: 1e6 is not an integer; accepted: 1 to 2000000"),
        ("rollout --plot x.png", "--plot: x.png is not an SVG file; accepted: a file name that ends with .svg"),
    ],
)
def test_invalid_argument_is_one_line_and_exit_code_2(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", *line.split()])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"lobby simulate: {message}\n")


def test_a_plot_that_cannot_be_written_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none" / "x.svg"
    assert cli.main(["simulate", "rollout", "--clients", "2000000", "--plot", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        f"lobby simulate: --plot: can't write {path} (No such file or directory); accepted: a file that can be written\n",
    )


def test_an_invalid_lobby_is_one_line_per_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lobby.yaml"
    path.write_text("apiVersion: lobby-gateway.io/v1alpha1\nkind: Lobby\nmetadata: {name: a}\nspec: {origin: {}}\n")
    assert cli.main(["simulate", "rollout", "-f", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"lobby simulate: {path}: ")
    assert "spec.origin.url" in err


def test_the_lobby_of_a_file_is_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lobby.yaml"
    path.write_text(
        "apiVersion: lobby-gateway.io/v1alpha1\nkind: Lobby\nmetadata: {name: a}\n"
        "spec: {origin: {url: 'wss://x/y'}, clients: {seats: 10}, maxReplicas: 3}\n"
    )
    assert cli.main(["simulate", "node-loss", "--clients", "100", "-f", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lobbies_most"] == 3
    assert report["refusals"] > 0


def test_json_and_plot_have_what_was_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "leak.svg"
    assert cli.main(["simulate", "slow-leak", "--clients", "3000", "--json", "--plot", str(plot), "--seed", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["scenario"], report["clients"], report["seed"]) == ("slow-leak", 3000, 3)
    assert report["clients_by_moves"]["0"] + report["clients_by_moves"]["1"] <= report["joined"] == 3000
    assert len(report["samples"]) == 241
    svg = ElementTree.parse(plot).getroot()
    space = "{http://www.w3.org/2000/svg}"
    lines = svg.findall(f"{space}polyline")
    assert len(lines) == 6
    height = float(svg.attrib["height"])
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert len(points) == 241
        assert all(0 <= y <= height for _, y in points)
    texts = [text.text for text in svg.findall(f"{space}text")]
    assert "slow-leak, 3,000 clients, 512 seats per lobby" in texts
    assert {"clients", "lobbies", "with a seat", "waiting", "existing", "needed", "moved", "refused"} <= set(texts)


def test_the_table_names_what_was_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "rollout", "--clients", "1000"]) == 0
    out = capsys.readouterr().out
    for name in ("clients", "lobbies", "churn", "refusals", "waits", "moves"):
        assert f"\n  {name} " in out


def test_other_commands_do_not_import_the_simulation() -> None:
    code = (
        "import sys; from lobby_operator import cli; cli.main(['version']);"
        "print([name for name in sys.modules if name.startswith('lobby_operator.planner') or name.endswith('.simulation')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
