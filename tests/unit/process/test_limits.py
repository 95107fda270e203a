from __future__ import annotations

import resource

import pytest

from lobby_gateway.clients.rate_limit import FloodLimit
from lobby_gateway.process import limits
from lobby_gateway.process.arguments import ArgumentParser
from lobby_gateway.process.limits import ProcessLimits, from_arguments, raise_descriptor_limit, reserve

MIB = 1 << 20


def given(*arguments: str, greeter: bool = True, descriptors: int = 20_000) -> ProcessLimits:
    parser = ArgumentParser(prog="process")
    limits.add_arguments(parser)
    if greeter:
        limits.add_max_clients(parser)
    return from_arguments(parser.parse_args(arguments), descriptors)


def test_options_override_the_defaults() -> None:
    made = given(
        *("--max-clients", "10", "--max-memory", "64", "--handshake-seconds", "1.5"),
        *("--client-frames", "5", "--client-bytes", "0"),
    )
    assert (made.max_clients, made.max_memory, made.handshakes.timeout_seconds) == (10, 64 * MIB, 1.5)
    assert made.flood == FloodLimit(frames_per_second=5, bytes_per_second=0)


def test_defaults_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_of_group", lambda: 1000 * MIB)
    made = given()
    assert made.max_memory == 900 * MIB
    assert made.max_clients == 15_000
    assert made.handshakes.timeout_seconds == 10.0
    assert made.flood == FloodLimit(frames_per_second=200, bytes_per_second=MIB, burst_seconds=10.0)
    assert given("--max-memory", "0").max_memory == 0


def test_a_lobby_has_seats_instead_of_a_number_of_clients() -> None:
    assert given(greeter=False).max_clients == 0


@pytest.mark.parametrize("descriptors", [256, 1024, 4096, 20_000, 1 << 20])
def test_clients_never_use_the_descriptors_of_trunks_and_the_admin_port(descriptors: int) -> None:
    made = given(descriptors=descriptors)
    taken = made.max_clients + made.handshakes.max_pending + made.handshakes.max_lingering
    assert descriptors - taken >= 16
    assert made.max_clients + reserve(descriptors) == descriptors
    assert made.max_clients >= descriptors // 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--max-clients", "0"], "--max-clients: 0 is too small; accepted: 1 to 10000000"),
        (["--max-memory", "lots"], "--max-memory: lots is not an integer; accepted: 0 to 16777216"),
        (["--handshake-seconds", "0"], "--handshake-seconds: 0 is too small; accepted: 0.1 to 600"),
        (["--client-frames", "-1"], "--client-frames: -1 is too small; accepted: 0 to 10000000"),
        (["--client-bytes"], "--client-bytes: a value is missing; accepted: 0 to 1099511627776"),
    ],
)
def test_the_error_for_a_bad_option_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        given(*arguments)
    assert capsys.readouterr().err == f"process: {line}\n"


def test_the_descriptor_limit_is_raised_to_the_maximum() -> None:
    assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
