"""`make kind`, from nothing to a message at the address that it prints.

helm and kubectl are real. `docker` and `kind` are the stand-ins in support/stand_ins, which build for and load onto the test
cluster, so this tests everything of the target but those two programs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.support.environment import ENVIRONMENT, ROOT
from tests.cluster.support.figures import FIGURES
from tests.support.tally import by_seq
from websockets.asyncio.client import connect

STAND_INS = Path(__file__).parent / "support" / "stand_ins"
URL = "ws://127.0.0.1:8000/demo"
NAME = "lobby-gateway"
DEADLINE = 1500  # images are built without a cache, perhaps on a busy machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(DEADLINE + 120),
    pytest.mark.skipif(ENVIRONMENT.keep, reason="LOBBY_TEST_KEEP: the kept release has the node port of `make kind`"),
]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user who has no cluster yet; afterwards the release is uninstalled."""
    given = {
        **os.environ,
        "PATH": f"{STAND_INS}{os.pathsep}{os.environ['PATH']}",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "LOBBY_TEST_BUILD": ENVIRONMENT.build,
        "LOBBY_TEST_LOAD": ENVIRONMENT.load,
    }
    try:
        yield given
    finally:
        for command in (
            ["helm", "uninstall", NAME, "--namespace", NAME, "--wait", "--timeout=120s"],
            ["kubectl", "delete", "namespace", NAME, "--wait=true", "--timeout=120s"],
        ):
            subprocess.run(command, env=given, check=False, capture_output=True, timeout=150)


async def first_message(url: str) -> bytes:
    async with asyncio.timeout(30), connect(url, proxy=None) as client:
        message = await client.recv()
    return message.encode() if isinstance(message, str) else message


def test_from_nothing_to_a_message(environment: dict[str, str]) -> None:
    began = time.monotonic()
    made = subprocess.run(
        ["make", "kind"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert made.returncode == 0, f"{made.stdout[-3000:]}\n{made.stderr[-3000:]}"
    ready = time.monotonic() - began
    assert URL in made.stdout.splitlines()[-1], made.stdout[-500:]
    assert by_seq(asyncio.run(first_message(URL))) is not None
    FIGURES.note(f"make kind: from nothing to ready in {ready:.0f} s, to a message in {time.monotonic() - began:.0f} s")
