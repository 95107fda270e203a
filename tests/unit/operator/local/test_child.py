"""One child process of local mode, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import until

from lobby_operator.local.child import Child, ChildFailedError, child_environment, describe_exit

LISTENING = 'import sys, json; print(json.dumps({"event": "listening", "port": 7}), flush=True); '
UNTIL_EOF = "sys.stdin.buffer.read()"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def start(script: str, **options: Any) -> Child:
    return await Child.start("child", ["-c", script], environment=child_environment(os.environ), **options)


def test_ports_are_read_from_the_announcement_among_other_output() -> None:
    async def main() -> None:
        child = await start("print('no JSON'); print('[1]'); print('{}'); " + LISTENING + "print('more');" + UNTIL_EOF)
        assert await child.listening(20) == {"event": "listening", "port": 7}
        assert await child.stop(20) == -signal.SIGTERM

    run(main())


def test_child_that_exits_before_it_listens_is_an_error_with_its_exit_code() -> None:
    async def main() -> None:
        child = await start("raise SystemExit(3)")
        with pytest.raises(ChildFailedError, match="child exited before it listened: exit code 3"):
            await child.listening(20)
        assert child.returncode == 3

    run(main())


def test_child_that_does_not_listen_in_time_is_an_error() -> None:
    async def main() -> None:
        child = await start("import sys; " + UNTIL_EOF)
        with pytest.raises(ChildFailedError, match=r"did not listen within 0\.01 s"):
            await child.listening(0.01)
        await child.stop(20)

    run(main())


def test_writing_the_latest_line_to_standard_input_never_waits_for_the_child() -> None:
    async def main() -> None:
        lines: list[str] = []
        enough = asyncio.Event()

        def log(line: str) -> None:
            lines.append(line)
            if line.endswith(" 999"):
                enough.set()

        child = await start(
            LISTENING + "[print(len(line), line[-4:].decode().strip(), file=sys.stderr, flush=True) "
            "for line in sys.stdin.buffer]",
            log=log,
        )
        await child.listening(20)
        os.kill(child.pid, signal.SIGSTOP)
        for count in range(1000):
            child.send_latest(b"x" * 200_000 + b" %03d\n" % count)
            await asyncio.sleep(0)
        os.kill(child.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            await enough.wait()
        assert len(lines) <= 3  # one in the pipe, perhaps one on its way, the latest
        assert all(line.startswith("200005 ") for line in lines)
        await child.stop(20)

    run(main())


def test_writing_to_a_child_that_exited_is_not_an_error() -> None:
    async def main() -> None:
        child = await start("pass")
        await child.wait()
        child.send_latest(b"anybody?\n")
        child.terminate()
        child.kill()
        assert await child.stop(1) == 0

    run(main())


def test_child_that_ignores_sigterm_is_killed_after_the_grace_period() -> None:
    async def main() -> None:
        child = await start("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + LISTENING + UNTIL_EOF)
        await child.listening(20)
        assert await child.stop(0.05) == -signal.SIGKILL

    run(main())


def test_stopped_child_is_killed_after_the_grace_period() -> None:
    async def main() -> None:
        child = await start("import signal; signal.signal(signal.SIGTERM, print); " + LISTENING + UNTIL_EOF)
        await child.listening(20)
        os.kill(child.pid, signal.SIGSTOP)
        assert await child.stop(0.05) == -signal.SIGKILL

    run(main())


def test_a_child_whose_log_is_no_longer_read_because_of_a_bug_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    def log(_line: str) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        child = await start("import sys, time; sys.stderr.write('one\\n'); sys.stderr.flush(); time.sleep(60)", log=log)
        assert await child.wait() == -signal.SIGKILL
        with pytest.raises(ChildFailedError, match="SIGKILL"):
            await child.listening(20)
        assert "ZeroDivisionError" in caplog.text

    run(main())


def test_log_lines_arrive_whole_and_overlong_ones_in_pieces() -> None:
    async def main() -> None:
        lines: list[str] = []
        child = await start("import sys; sys.stderr.write('one\\n' + 'x' * 100_000 + '\\nlast')", log=lines.append)
        await child.wait()
        assert lines[0] == "one"
        assert "".join(lines[1:]) == "x" * 100_000 + "last"
        assert lines[-1].endswith("last")

    run(main())


def test_child_has_its_own_process_group_in_our_session() -> None:
    async def main() -> None:
        child = await start(LISTENING + UNTIL_EOF)
        assert os.getpgid(child.pid) == child.pid
        assert os.getsid(child.pid) == os.getsid(0)
        await child.stop(20)

    run(main())


def test_child_gets_only_the_variables_it_needs() -> None:
    parent = {
        "PATH": "/bin",
        "HOME": "/root",
        "AWS_SECRET": "s",
        "PYTHONPATH": "/modules",
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "BROWSER": "/bin/sh",
        "LOBBY_SECRET_A": "a",
        "LOBBY_SECRET_B": "b",
    }
    assert child_environment(parent, ["LOBBY_SECRET_A", "LOBBY_SECRET_C"], LOBBY_TOKEN_KEY="k") == {
        "PATH": "/bin",
        "PYTHONPATH": "/modules",
        "LOBBY_SECRET_A": "a",
        "LOBBY_TOKEN_KEY": "k",
    }


def test_child_imports_nothing_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        child = await start(LISTENING + UNTIL_EOF)
        assert await child.listening(20) == {"event": "listening", "port": 7}
        await child.stop(20)

    run(main())


@pytest.mark.parametrize(("code", "text"), [(0, "exit code 0"), (2, "exit code 2"), (-9, "SIGKILL (Killed)")])
def test_exit_code_is_described_for_people(code: int, text: str) -> None:
    assert describe_exit(code) == text


PARENT = """
import asyncio, json, os
from lobby_operator.local.child import Child
async def main():
    script = 'import sys; print(\\'{"event": "listening"}\\', flush=True); sys.stdin.buffer.read()'
    children = [await Child.start(str(i), ["-c", script], environment=os.environ) for i in range(2)]
    for child in children:
        await child.listening(20)
    print(json.dumps([child.pid for child in children]), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_children_exit_when_the_parent_is_killed_even_if_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        os.kill(pids[0], signal.SIGSTOP)
        while state(pids[0]) != "T":
            time.sleep(0.005)
        parent.kill()
    deadline = time.monotonic() + 20
    while not {state(pid) for pid in pids} <= {"gone", "Z"}:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_child_is_busy_while_it_computes_and_not_while_it_waits_or_is_stopped() -> None:
    child: Child

    async def until_busy(busy: bool) -> None:
        async def look() -> bool:
            return await asyncio.to_thread(child.busy) is busy

        await until(look)

    async def main() -> None:
        nonlocal child
        child = await start(LISTENING + "sys.stdin.readline(); print(1, flush=True)\nwhile True: pass")
        await child.listening(20)
        await until_busy(False)
        child.send_latest(b"go\n")
        await until_busy(True)
        os.kill(child.pid, signal.SIGSTOP)
        await until_busy(False)
        os.kill(child.pid, signal.SIGCONT)
        await until_busy(True)
        child.kill()
        await child.wait()
        assert not await asyncio.to_thread(child.busy)

    run(main())
