from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest
from tests.support import proc
from tests.support.sockets import run

from lobby_gateway.clients.rate_limit import FloodLimit
from lobby_gateway.process import limits
from lobby_gateway.process.arguments import ArgumentParser
from lobby_gateway.process.limits import (
    MemoryWatch,
    ProcessLimits,
    from_arguments,
    memory_of_group,
    raise_descriptor_limit,
    reserve,
)
from lobby_gateway.settings import MemorySettings

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


def test_the_watch_samples_the_resident_memory_repeatedly() -> None:
    async def main() -> None:
        samples: list[int] = []
        twice = asyncio.Event()

        def look(size: int) -> None:
            samples.append(size)
            if len(samples) == 2:
                twice.set()

        watch = MemoryWatch(look, settings=MemorySettings(sample_seconds=0.01))
        watch.start()
        await twice.wait()
        watch.close()
        watch.close()
        assert abs(samples[0] - proc.resident_bytes(proc.own_pid())) < 64 * MIB

    run(main())


def test_the_watch_leaves_no_descriptor() -> None:
    async def main() -> None:
        before = proc.open_files(proc.own_pid())
        watch = MemoryWatch(lambda _: None)
        watch.start()
        watch.close()
        assert proc.open_files(proc.own_pid()) == before

    run(main())


def group(root: Path, path: str, name: str, value: str) -> None:
    folder = root / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{value}\n")


def own(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "cgroup"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_the_strictest_control_group_above_counts(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root, "/pods", "memory.max", str(900 * MIB))
    group(root, "/pods/lobby", "memory.max", str(1000 * MIB))
    assert memory_of_group(own(tmp_path, "0::/pods/lobby"), root) == 900 * MIB


def test_a_container_sees_its_own_group_at_the_root(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root, "/", "memory.max", str(256 * MIB))
    assert memory_of_group(own(tmp_path, "0::/../../lobby.scope"), root) == 256 * MIB
    group(root, "/", "memory.max", "max")
    assert memory_of_group(own(tmp_path, "0::/"), root) == 0


def test_version_1_writes_no_limit_as_a_large_number(tmp_path: Path) -> None:
    root = tmp_path / "groups"
    group(root, "/memory/docker/abc", "memory.limit_in_bytes", str(512 * MIB))
    group(root, "/memory", "memory.limit_in_bytes", "9223372036854771712")
    file = own(tmp_path, "4:cpu,cpuacct:/docker/abc", "3:hugetlb,memory:/docker/abc", "0::/")
    assert memory_of_group(file, root) == 512 * MIB


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_of_group(tmp_path / "nothing", tmp_path) == 0
    assert memory_of_group(own(tmp_path, "0::/a"), tmp_path) == 0
