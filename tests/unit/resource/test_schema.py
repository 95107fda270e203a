from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lobby_gateway.errors import InvalidLobbyError
from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import lobby_from_resource

DATA = Path(__file__).parents[2] / "data"
VALID = sorted((DATA / "valid").iterdir())
INVALID = sorted((DATA / "invalid").iterdir())


def problems_of(file: Path) -> list[str]:
    with pytest.raises(InvalidLobbyError) as caught:
        schema.load_file(file)
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "lobby-gateway.io/v1alpha1",
        "kind": "Lobby",
        "metadata": {"name": "prices"},
        "spec": {"origin": {"url": "wss://feed.example.com"}, **spec},
    }


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_an_invalid_file_is_refused_with_the_lines_on_its_top(file: Path) -> None:
    expected = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        expected.append(line.removeprefix("# "))
    assert expected, "the file does not say what is expected"
    assert problems_of(file) == expected


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_no_complaint_holds_a_secret_or_a_line_break(file: Path) -> None:
    for problem in problems_of(file):
        assert "hunter2" not in problem
        assert "s" * 70 not in problem
        assert problem.isprintable()


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.name)
def test_a_valid_file_makes_a_lobby(file: Path) -> None:
    resource = schema.load_file(file)
    assert lobby_from_resource(resource).spec.origin.url.startswith(("ws", "$("))
    assert "status" not in resource


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.name)
def test_what_is_defaulted_once_stays_the_same(file: Path) -> None:
    resource = schema.load_file(file)
    assert schema.validate_and_default(json.loads(json.dumps(resource)), "again") == resource


def test_defaults_reach_every_leaf() -> None:
    spec = schema.load_file(DATA / "valid" / "minimal.yaml")["spec"]
    assert spec == {
        "origin": {
            "url": "wss://feed.example.com",
            "headers": [],
            "query": [],
            "subprotocols": [],
            "tls": {"insecureSkipVerify": False},
            "secrets": [],
            "decode": "None",
            "beforeConnect": [],
            "onConnect": [],
            "onMessage": [],
            "closeCodes": {"refused": [1008]},
            "every": [],
            "keepalive": {"pingSeconds": 20, "timeoutSeconds": 20},
            "staleSeconds": 0,
            "reconnect": {"minMilliseconds": 500, "maxMilliseconds": 30000, "jitter": "Full"},
            "connect": "OnDemand",
            "limits": {"connections": 0, "sendsPerSecond": 0},
            "renew": {"everySeconds": 0, "overlap": True},
            "maxMessageBytes": 1048576,
            "identity": "Content",
        },
        "clients": {
            "seats": 512,
            "queue": {"messages": 16, "milliseconds": 3000, "bytes": 16777216, "overflow": "DropOldest"},
            "batchMilliseconds": 0,
            "messages": "Ignore",
            "forward": {"messagesPerSecondPerClient": 10, "messagesPerSecond": 100},
            "replay": 0,
            "pingSeconds": 25,
            "compression": "Off",
            "allowedOrigins": [],
            "maxMessageBytes": 65536,
            "limits": {"connectionsPerAddress": 0, "connectsPerSecond": 0},
        },
        "replicas": 0,
        "maxReplicas": 100,
        "spareSeats": 64,
        "placement": "Packed",
        "compaction": {"enabled": True, "stabilizationSeconds": 60},
        "emptySeconds": 60,
        "startSeconds": 60,
        "drainSeconds": 300,
        "routing": {"mode": "Proxy", "redirect": {"urlTemplate": "ws://{ip}:{port}/"}},
        "waitSeconds": 15,
        "template": {},
    }


def test_what_the_file_says_is_kept_to_the_last_field() -> None:
    """`everything.yaml` sets every field of the spec to something that is not its default."""
    said = schema.load_file(DATA / "valid" / "everything.yaml")["spec"]
    plain = schema.load_file(DATA / "valid" / "minimal.yaml")["spec"]

    def leaves(value: Any, path: str = "") -> dict[str, Any]:
        if isinstance(value, dict) and value:
            return {name: leaf for key, each in value.items() for name, leaf in leaves(each, f"{path}.{key}").items()}
        return {path: value}

    same = {name for name, value in leaves(plain).items() if leaves(said).get(name) == value}
    assert same == {".origin.tls.insecureSkipVerify"}  # it excludes caSecretRef, which is there


def test_nulls_count_as_absent_except_in_free_json() -> None:
    spec = schema.load_file(DATA / "valid" / "nulls.yaml")["spec"]
    assert "path" not in spec
    assert spec["replicas"] == 0
    assert spec["origin"]["headers"] == []
    assert spec["origin"]["onConnect"] == [{"expect": {"json": {"/error": None}, "early": "Drop", "timeoutSeconds": 5}}]


def test_numbers_are_read_as_kubernetes_reads_them() -> None:
    spec = schema.load_file(DATA / "valid" / "numbers.yaml")["spec"]
    assert spec["origin"]["maxMessageBytes"] == 4096
    assert (spec["clients"]["seats"], spec["waitSeconds"]) == (5, 10)
    assert isinstance(spec["clients"]["seats"], int)
    assert spec["origin"]["onConnect"][0]["expect"]["json"] == {
        "/time": "2026-01-01",
        "/clock": "12:30",
        "/big": 123456789012,
        "/ratio": 1.5,
        "/small": 0.001,
        "/exp": 1000,
        "/yes": True,
    }


def test_the_caller_keeps_its_document() -> None:
    given = document(clients={"queue": {}})
    before = json.dumps(given)
    schema.validate_and_default(given, "test")["spec"]["origin"]["onConnect"].append("mine")
    assert json.dumps(given) == before
    assert schema.validate_and_default(given, "test")["spec"]["origin"]["onConnect"] == []


@pytest.mark.parametrize("given", [None, [], "text", 1])
def test_what_is_no_mapping_is_refused(given: object) -> None:
    with pytest.raises(InvalidLobbyError, match=r"^there: is not a mapping; accepted: a Lobby resource$"):
        schema.validate_and_default(given, "there")


@pytest.mark.parametrize("metadata", [None, [], "prices", 1])
def test_metadata_of_the_wrong_kind_is_refused(metadata: object) -> None:
    with pytest.raises(InvalidLobbyError, match="there: metadata"):
        schema.validate_and_default({**document(), "metadata": metadata}, "there")


def test_default_lobby_takes_a_url_and_further_fields() -> None:
    resource = schema.default_lobby(
        "demo", "ws://127.0.0.1:9/", spec={"clients": {"seats": 5}, "origin": {"connect": "Always"}}
    )
    lobby = lobby_from_resource(resource)
    assert (lobby.name, lobby.spec.path, lobby.spec.clients.seats) == ("demo", "/demo", 5)
    assert (lobby.spec.origin.url, lobby.spec.origin.connect) == ("ws://127.0.0.1:9/", "Always")


def test_what_an_api_server_stored_by_another_definition_is_read_with_its_gaps_filled() -> None:
    stored = schema.default_lobby("prices", "ws://h/")
    del stored["spec"]["clients"]["queue"]
    stored["spec"]["clients"]["addedLater"] = 5
    stored["status"] = {"replicas": 1}
    read = schema.default_stored(stored)
    assert read["spec"]["clients"]["queue"] == {
        "messages": 16,
        "milliseconds": 3000,
        "bytes": 16777216,
        "overflow": "DropOldest",
    }
    assert "status" not in read
    assert lobby_from_resource(read).spec.clients.seats == 512


def test_what_no_api_server_can_check_is_refused_with_its_field() -> None:
    stored = schema.default_lobby("prices", "ws://h/")
    stored["spec"]["origin"]["onConnect"] = [{"send": "$(NOT_THERE)"}, {"expect": {"json": {"status": 1}}}]
    with pytest.raises(InvalidLobbyError) as raised:
        schema.default_stored(stored)
    assert [line.partition(":")[0] for line in raised.value.problems] == [
        "spec.origin.onConnect[0].send",
        "spec.origin.onConnect[1].expect.json.status",
    ]


def stored_with(**origin: Any) -> dict[str, Any]:
    stored = schema.default_lobby("prices", "ws://h/")
    stored["spec"]["origin"] |= origin
    return stored


def test_an_expression_that_would_end_the_process_is_refused() -> None:
    stored = stored_with(
        onConnect=[{"send": f"$({'+'.join(['1'] * 26_000)})"}, {"sendBytes": "+".join(["b'a'"] * 13_000)}],
        identity="+".join(["1"] * 20_000),
    )
    with pytest.raises(InvalidLobbyError) as raised:
        schema.default_stored(stored)
    kinds = "Content, None, a JSON pointer like /data/id, nor a CEL expression"
    assert raised.value.problems == (
        "spec.origin.onConnect[0].send: the expression at character 3: has 51999 characters; accepted: at most 4096",
        "spec.origin.onConnect[1].sendBytes: has 64999 characters; accepted: at most 4096",
        f"spec.origin.identity: '{'1+' * 30}' is neither {kinds}: has 39999 characters; accepted: at most 4096",
    )


@pytest.mark.parametrize("text", ["$([1" + ",1" * 1_900 + "])", "$(1)" * 10_000])
def test_one_lobby_cannot_keep_an_operator_busy_with_expressions(text: str) -> None:
    stored = stored_with(onConnect=[{"send": text}] * 32)
    with pytest.raises(InvalidLobbyError) as raised:
        schema.default_stored(stored)
    assert raised.value.problems == (
        "spec.origin: its expressions have more than 32768 characters (each counts at least 16); accepted: at most 32768",
    )


def test_the_text_around_expressions_may_be_long() -> None:
    schema.default_stored(stored_with(onConnect=[{"send": "x" * 65_000 + "$(now)"}] * 32))


def test_a_value_that_is_nested_absurdly_deep_is_refused() -> None:
    deep: object = 1
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InvalidLobbyError, match=r"^is nested too deeply; accepted: at most 64 levels$"):
        schema.default_stored(stored_with(onConnect=[{"expect": {"json": {"": deep}}}]))


def test_default_lobby_names_the_source_in_errors() -> None:
    with pytest.raises(InvalidLobbyError) as caught:
        schema.default_lobby("demo", "http://127.0.0.1:9/", source="--origin")
    assert caught.value.problems == (
        "--origin: spec.origin.url: 'http://127.0.0.1:9/' must begin with ws:// or wss://",
    )


def test_a_package_without_its_crd_says_where_it_looked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(schema, "_CRD_FILES", (tmp_path / "lobbies.yaml",))
    schema.crd.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"tried .*lobbies\.yaml"):
            schema.crd()
    finally:
        monkeypatch.undo()
        schema.crd.cache_clear()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lobby_gateway.resource.schema", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_prints_the_defaulted_resource() -> None:
    file = DATA / "valid" / "everything.yaml"
    done = run(str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == schema.load_file(file)


def test_the_command_prints_problems_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    file = DATA / "invalid" / "several_problems.yaml"
    assert schema.main([str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"{file}: {problem}" for problem in problems_of(file)]
    assert len(err.splitlines()) == 3


def test_the_command_prints_ascii_whatever_the_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lobby.json"
    file.write_text(json.dumps(document(origin={"url": "wss://a.example", "onConnect": [{"send": "ä😀"}]})), "utf-8")
    assert schema.main([str(file)]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["spec"]["origin"]["onConnect"] == [{"send": "ä😀"}]


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_the_command_wants_one_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(arguments) == 2
    assert capsys.readouterr().err.endswith("expected one argument; accepted: a file with a Lobby\n")


def test_what_a_lobby_imports_leaves_the_checker_out() -> None:
    """A lobby with 512 clients has 45 MiB; the checker alone would take 40."""
    code = (
        "import sys; from lobby_gateway.resource import spec; from lobby_gateway.origin import secrets; "
        "from lobby_gateway.clients import tokens; from lobby_gateway.process import seat_reports; "
        "from lobby_gateway.trunk import position; "
        "print([name for name in ('yaml', 'jsonschema', 'cel', 'asyncio', 'ssl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
