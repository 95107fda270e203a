"""`lobby bench` against the whole system: its figures match those of the greeter and the lobbies."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from tests.support.processes import LOBBY, finished, running
from tests.support.sockets import run
from tests.support.swarm import Swarm
from tests.support.ticker import ticker
from tests.support.up import lobby_file, lobby_resource, lobby_up
from tests.support.waiting import until

PERFECT = {"refused": {}, "failed": {}, "gaps": 0, "duplicates": 0, "reorderings": 0, "restarts": 0, "disconnects": {}}


async def run_bench(*arguments: str) -> dict[str, Any]:
    code, out, err = await finished(LOBBY, "bench", *arguments, "--json")
    assert (code, err) == (0, "")
    report: dict[str, Any] = json.loads(out)
    return report


def test_clients_behind_a_greeter_receive_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up:
                bench = asyncio.create_task(run_bench(up.url, "--clients", "200", "--ramp", "0.5", "--seconds", "4"))
                await up.until_clients(200)
                report = await bench
                await up.until_clients(0)
        assert report.items() >= PERFECT.items()
        assert (report["clients"], report["connected"], report["silent"]) == (200, 200, 0)
        assert report["stamped"] == report["deliveries"] > 200 * 50
        assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["p99.9"]

    run(main(), deadline=90)


def test_redirected_clients_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url, routing={"mode": "Redirect"}))
            async with lobby_up("-f", file) as up:
                report = await run_bench(up.url, "--clients", "20", "--seconds", "1")
        assert report.items() >= PERFECT.items()
        assert (report["connected"], report["redirects"]) == (20, 20)
        assert report["deliveries"] > 0

    run(main(), deadline=90)


def test_clients_without_a_seat_are_counted_as_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            resource = lobby_resource("prices", origin.url, clients_seats=10, maxReplicas=1, waitSeconds=0)
            async with lobby_up("-f", lobby_file(tmp_path, resource)) as up:
                report = await run_bench(up.url, "--clients", "15", "--ramp", "0", "--seconds", "1")
        assert (report["connected"], report["refused"]) == (10, {"503": 5})
        assert (report["gaps"], report["duplicates"]) == (0, 0)

    run(main(), deadline=90)


def test_drops_and_lags_of_the_server_are_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with ticker(rate=50, size=65536) as origin:
            file = lobby_file(tmp_path, lobby_resource("prices", origin.url))
            async with lobby_up("-f", file) as up, Swarm(up.url, receive_buffer=65536) as slow:
                calm = await run_bench(up.url, "--clients", "5", "--seconds", "1", "--metrics", f"{up.admin}/targets")
                assert calm["gaps"] == sum(calm["server"]["dropped"].values()) == 0
                assert calm["server"]["behind"].keys() == {"line", "not_reading"}

                (stalled,) = await slow.connect_all(1)
                stalled.pause()
                (greeter,) = up.greeter_processes()
                metrics = f"{await up.admin_of(greeter.pid)}/metrics"
                report = await run_bench(up.url, "--clients", "5", "--seconds", "6", "--metrics", metrics)
                stalled.abort()
        assert report["gaps"] == 0
        server = report["server"]
        assert server["dropped"]["slow"] > 0
        assert server["dropped"]["old"] == server["dropped"]["memory"] == 0
        assert server["behind"]["not_reading"] == 1
        assert server["lag_messages"] >= 16
        assert server["lag_ms"] > 250
        assert server["missed_samples"] == 0

    run(main(), deadline=90)


def test_metrics_that_cannot_be_read_are_an_error_before_a_client_connects() -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            command = (LOBBY, "bench", origin.url, "--metrics", f"http://127.0.0.1:{origin.port}/metrics")
            code, out, err = await finished(*command)
            assert (code, out) == (2, "")
            problem = f"cannot read http://127.0.0.1:{origin.port}/metrics: HTTP 426 Upgrade Required"
            assert err == f"lobby bench: --metrics: {problem}"
            assert origin.connections == 0

    run(main(), deadline=60)


def test_ctrl_c_prints_the_report_so_far_and_exits_with_130() -> None:
    async def main() -> None:
        async with ticker(rate=50) as origin:
            command = (LOBBY, "bench", origin.url, "--clients", "5", "--ramp", "0", "--seconds", "600", "--json")
            async with running("bench", *command, ends_with=(130,)) as bench:
                await until(lambda: origin.connections == 5, describe=lambda: f"5 clients: {bench.tail()}")
                bench.send(signal.SIGINT)
                report = json.loads((await bench.line(r"^\{.*\}$"))[0])
                assert report["connected"] == 5
                assert await bench.exited() == 130

    run(main(), deadline=60)
