"""What lobbies and greeters don't use, they don't load, whatever they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support import web
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

LEFT_OUT = {"_bz2", "_lzma", "unicodedata"}
"""Compiled modules of Python that come with shutil, and with the tables of international names."""


def mapped(pid: int) -> set[str]:
    """The compiled modules that a process has loaded."""
    return set(re.findall(r"/(\w+)\.[\w.-]*so$", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE))


@pytest.mark.parametrize("mode", ["Proxy", "Redirect"])
def test_processes_that_serve_clients_and_are_scraped_have_not_loaded_them(tmp_path: Path, mode: str) -> None:
    async def main() -> None:
        async with ticker(rate=20) as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing={"mode": mode}))
            async with lobby_up("-f", file) as up, Swarm(up.at("/prices"), follow_redirects=True, keep=1) as swarm:
                await swarm.connect_all(4)
                await until(lambda: all(client.kept for client in swarm.clients), describe="a message for each")
                await up.until_clients(4)
                for each in (*up.lobby_processes().values(), *up.greeter_processes()):
                    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
                        answer = await web.get(f"{await up.admin_of(each.pid)}/metrics", accept=accept)
                        assert answer.status == 200, answer
                    loaded = mapped(each.pid)
                    assert not loaded & LEFT_OUT, each.command

    run(main())
