from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support import proc
from tests.support.sockets import run

from lobby_gateway.process.memory import MemoryWatch, memory_of_group
from lobby_gateway.settings import MemorySettings

MIB = 1 << 20


def test_it_samples_the_resident_memory_repeatedly() -> None:
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


def test_it_leaves_no_descriptor() -> None:
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


def test_the_strictest_group_above_counts(tmp_path: Path) -> None:
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


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_of_group(tmp_path / "nothing", tmp_path) == 0
    assert memory_of_group(own(tmp_path, "0::/a"), tmp_path) == 0
