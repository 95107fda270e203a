"""Command lines: one line for each mistake, with the option, the value and what is accepted."""

from __future__ import annotations

import argparse
import errno

import pytest

from lobby_gateway.process.arguments import (
    ArgumentParser,
    add_admin_hosts,
    address,
    cannot_listen,
    integer,
    name,
    networks,
    number,
    port,
    websocket_url,
)


def parser() -> ArgumentParser:
    result = ArgumentParser(prog="lobby up")
    result.add_argument("--seats", type=integer(1, 4096))
    result.add_argument("--rate", type=number(0.5, 10))
    result.add_argument("--host", type=address())
    result.add_argument("--port", type=port())
    result.add_argument("--name", type=name())
    result.add_argument("--deny", type=networks())
    result.add_argument("--style", choices=["text", "json"])
    result.add_argument("--hidden", help=argparse.SUPPRESS)
    result.add_argument("--plain", action="store_true")
    source = result.add_mutually_exclusive_group(required=True)
    source.add_argument("-o", "--origin", type=websocket_url())
    source.add_argument("--demo", action="store_true")
    return result


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--demo --seats 0", "--seats: 0 is too small; accepted: 1 to 4096"),
        ("--demo --seats 4097", "--seats: 4097 is too large; accepted: 1 to 4096"),
        ("--demo --seats many", "--seats: many is not an integer; accepted: 1 to 4096"),
        ("--demo --seats 1.5", "--seats: 1.5 is not an integer; accepted: 1 to 4096"),
        ("--demo --seats=", "--seats: the empty string is not an integer; accepted: 1 to 4096"),
        ("--demo --seats", "--seats: a value is missing; accepted: 1 to 4096"),
        (
            "--demo --deny 10.0.0.1/8",
            (
                "--deny: 10.0.0.1/8 is not a list of networks (10.0.0.1/8 has host bits set); "
                "accepted: networks such as 10.0.0.0/8 or fd00::/8, separated by commas"
            ),
        ),
        (
            "--demo --deny 10.0.0.0/8,,::/0",
            (
                "--deny: 10.0.0.0/8,,::/0 is not a list of networks ('' does not appear to be an IPv4 or IPv6 network); "
                "accepted: networks such as 10.0.0.0/8 or fd00::/8, separated by commas"
            ),
        ),
        ("--demo --rate nan", "--rate: nan is not a number; accepted: 0.5 to 10"),
        ("--demo --rate inf", "--rate: inf is too large; accepted: 0.5 to 10"),
        ("--demo --port 65536", "--port: 65536 is too large; accepted: 0 to 65535 (0: any free port)"),
        (
            "--demo --name Prices",
            "--name: Prices is not a valid name; accepted: 1 to 63 of a-z, 0-9 and -, no - at the ends",
        ),
        (
            f"--demo --name {'a' * 64}",
            f"--name: {'a' * 64} is too long; accepted: 1 to 63 of a-z, 0-9 and -, no - at the ends",
        ),
        (
            "--demo --host here",
            "--host: here is not an IP address; accepted: an IP address of this machine, such as 127.0.0.1, or :: for all",
        ),
        ("--demo --style x", "--style: x is unknown; accepted: text, json"),
        ("--demo --plain=yes", "--plain: takes no value; accepted: --plain alone"),
        ("--demo --origin ws://a", "--origin: can't be combined with --demo; accepted: one of the two"),
        ("", "a required option is missing; accepted: one of --origin, --demo"),
        (
            "--demo --sea 1",
            (
                "--sea 1: is unknown; accepted: "
                "--help, --seats, --rate, --host, --port, --name, --deny, --style, --plain, --origin, --demo"
            ),
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(line.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"lobby up: {message}\n"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://feed.example.com/", "has the scheme http"),
        ("feed.example.com", "has no scheme"),
        ("feed.example.com:9000", "has no scheme"),
        ("wss://", "has no host"),
        ("wss:///stream", "has no host"),
        ("ws://host:port/", "is not a URL"),
        ("ws://host:70000/", "is not a URL"),
        ("ws://[::1/", "is not a URL"),
        ("ws://host/a b", "contains a space or control character"),
        ("ws://host/\x1b[31m", "contains a space or control character"),
        ("ws://host/#top", "has a fragment"),
        ("", "has no scheme"),
    ],
)
def test_a_url_that_is_none_of_a_websocket_server_is_refused(url: str, problem: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        websocket_url()(url)
    line = str(refused.value)
    assert problem in line
    assert line.endswith("; accepted: ws://host[:port]/path or wss://host[:port]/path")
    assert line.isprintable()


@pytest.mark.parametrize("url", ["ws://a", "wss://feed.example.com/stream?x=1", "WS://[::1]:9000/", "ws://user@h:1/"])
def test_a_url_of_a_websocket_server_is_taken_as_it_is(url: str) -> None:
    assert websocket_url()(url) == url


def test_values_are_read() -> None:
    got = parser().parse_args(
        ["--demo", "--seats", "+7", "--rate=1e0", "--host", "localhost", "--port", "0", "--name", "a-1"]
    )
    assert (got.seats, got.rate, got.host, got.port, got.name) == (7, 1.0, "127.0.0.1", 0, "a-1")


def test_a_long_value_is_cut_in_the_complaint() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        integer(1, 2)("9" * 5000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("number_", "line"),
    [
        (errno.EADDRINUSE, "--port: 80 is in use on 10.0.0.1; accepted: a free port"),
        (
            errno.EADDRNOTAVAIL,
            (
                "--host: 10.0.0.1 is not an address of this machine; "
                "accepted: an IP address of this machine, such as 127.0.0.1, or :: for all"
            ),
        ),
        (errno.EACCES, "--port: can't listen on 80 on 10.0.0.1 (Permission denied); accepted: a free port"),
    ],
)
def test_an_address_that_can_not_be_listened_on_is_explained(number_: int, line: str) -> None:
    assert str(cannot_listen(OSError(number_, "whatever"), "10.0.0.1", 80)) == line


@pytest.mark.parametrize("extra", ["--fast", "more"])
def test_what_a_command_does_not_know_is_said_in_its_name(extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    lobby = ArgumentParser(prog="lobby")
    lobby.add_subparsers(required=True, metavar="command").add_parser("up").add_argument("--port", type=port())
    with pytest.raises(SystemExit):
        lobby.parse_args(["up", "--port", "1", extra])
    assert capsys.readouterr().err == f"lobby up: {extra}: is unknown; accepted: --help, --port\n"


def test_a_missing_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lobby = ArgumentParser(prog="lobby")
    lobby.add_subparsers(required=True, metavar="command").add_parser("up")
    with pytest.raises(SystemExit):
        lobby.parse_args([])
    assert capsys.readouterr().err == "lobby: command: is missing; accepted: up\n"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("status.example.com", ("status.example.com",)),
        ("a.example., B.example", ("a.example.", "B.example")),
    ],
)
def test_admin_hosts_are_separated_by_commas(text: str, read: tuple[str, ...]) -> None:
    command = ArgumentParser(prog="lobby")
    add_admin_hosts(command)
    assert command.parse_args(["--admin-hosts", text]).admin_hosts == read
    assert command.parse_args([]).admin_hosts == ()


@pytest.mark.parametrize("text", ["", "a,,b", "a.example:8001", "https://a.example", "a b", "*.example.com"])
def test_what_is_not_the_name_of_a_host_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ArgumentParser(prog="lobby")
    add_admin_hosts(command)
    with pytest.raises(SystemExit):
        command.parse_args(["--admin-hosts", text])
    (line,) = capsys.readouterr().err.splitlines()
    assert "--admin-hosts: " in line
    assert line.endswith("; accepted: names of hosts, separated by commas, without ports")


@pytest.mark.parametrize(
    ("text", "read"), [("", []), ("10.0.0.0/8", ["10.0.0.0/8"]), ("::1, 192.0.2.7", ["::1/128", "192.0.2.7/32"])]
)
def test_networks_are_separated_by_commas(text: str, read: list[str]) -> None:
    assert [str(each) for each in parser().parse_args(["--demo", "--deny", text]).deny] == read


def test_help_is_as_wide_as_the_terminal_or_80_columns_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def longest() -> int:
        command = ArgumentParser(prog="lobby")
        command.add_argument("--origin", help="word " * 60)
        return max(map(len, command.format_help().splitlines()))

    monkeypatch.setenv("COLUMNS", "50")
    assert 40 < longest() <= 48
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr("sys.stdout", None)  # as Python does if it is closed
    assert 70 < longest() <= 78
