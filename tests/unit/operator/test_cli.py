"""`lobby`: options, and one line per error."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from lobby_gateway.errors import UserError
from lobby_operator import cli
from lobby_operator.local import up
from lobby_operator.local.up import UpSettings


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_shows_the_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(arguments)
    except SystemExit as ended:  # argparse's own option ends the process
        code = int(ended.code or 0)
    assert code == 0
    assert capsys.readouterr().out == f"lobby {version('lobby-gateway')}\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "lobby: command: is missing; accepted: up, check, origin, bench, simulate, version"),
        ("down", "lobby: command: down is unknown; accepted: up, check, origin, bench, simulate, version"),
        ("up", "lobby up: a required option is missing; accepted: one of --origin, --file, --demo"),
        ("up --demo --seats 0", "lobby up: --seats: 0 is too small; accepted: 1 to 4096"),
        ("up --demo --greeters 65", "lobby up: --greeters: 65 is too large; accepted: 1 to 64"),
        ("up -f", "lobby up: --file: a value is missing; accepted: a YAML file with a Lobby"),
        ("up --demo --file x", "lobby up: --file: can't be combined with --demo; accepted: one of the two"),
        (
            "up --origin http://x",
            "lobby up: --origin: http://x has the scheme http; accepted: ws://host[:port]/path or wss://host[:port]/path",
        ),
        ("origin --rate 0", "lobby origin: --rate: 0 is too small; accepted: 0.001 to 1000000"),
    ],
)
def test_invalid_argument_is_one_line_and_exit_code_2(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{message}\n")


def settings_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> UpSettings:
    taken: list[UpSettings] = []

    def run(settings: UpSettings) -> int:
        taken.append(settings)
        return 7

    monkeypatch.setattr(up, "run", run)
    assert cli.main(["up", *arguments]) == 7
    return taken[0]


def test_up_has_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(["--demo"], monkeypatch) == UpSettings(demo=True)


def test_up_passes_on_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "-f a.yaml --file b.yaml --host 0.0.0.0 --port 1 --admin-port 0 --seats 5 --greeters 2 --plain"
    assert settings_of(line.split(), monkeypatch) == UpSettings(
        files=("a.yaml", "b.yaml"), host="0.0.0.0", port=1, admin_port=0, seats=5, greeters=2, plain=True
    )
    assert settings_of(["--origin", "wss://x/y", "--name", "prices"], monkeypatch) == UpSettings(
        origin="wss://x/y", name="prices"
    )


def test_each_problem_of_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_settings: UpSettings) -> int:
        raise UserError("a.yaml: is empty\nb.yaml: is empty")

    monkeypatch.setattr(up, "run", run)
    assert cli.main(["up", "-f", "a.yaml"]) == 2
    assert capsys.readouterr().err == "lobby up: a.yaml: is empty\nlobby up: b.yaml: is empty\n"


def test_ctrl_c_during_startup_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_settings: UpSettings) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(up, "run", run)
    assert cli.main(["up", "--demo"]) == 130
    assert capsys.readouterr().err == ""


def test_version_imports_nothing_slow() -> None:
    script = (
        "import sys; from lobby_operator import cli; cli.main(['version']); "
        "print([name for name in ('jsonschema', 'cel', 'yaml', 'rich', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
