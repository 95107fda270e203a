"""What `lobby bench` reads of the server's metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.support.processes import free_port
from tests.support.sockets import run
from tests.support.waiting import until

from lobby_gateway.clients.collectors import message_bus_samples
from lobby_gateway.clients.message_bus import BusStats, Lag
from lobby_gateway.commands.bench.server_metrics import Sample, ServerWatch, read_sample, summarize
from lobby_gateway.errors import UserError
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer, Handler
from lobby_gateway.settings import BenchSettings

SETTINGS = BenchSettings(metrics_seconds=0.01)


def page(process: str, lag: Lag | None = None, *, slow: int = 0, old: int = 0, memory: int = 0) -> str:
    """The metrics page of a lobby or greeter."""
    stats = BusStats()
    stats.dropped_slow, stats.dropped_old, stats.dropped_memory = slow, old, memory
    lines = []
    for name, value in message_bus_samples(process, stats, lag or Lag()).items():
        lines.append(f"# TYPE {name} untyped")
        label = "cause" if name.endswith("_behind") else "reason"
        values = value.items() if isinstance(value, dict) else [("", value)]
        lines += [f'{name}{{{label}="{key}"}} {each}' if key else f"{name} {each}" for key, each in values]
    return "\n".join(lines) + "\n"


def test_a_sample_adds_up_processes_and_has_the_longest_lag() -> None:
    greeter = page("greeter", Lag(on_the_way=3, not_reading=1, messages=900, seconds=0.25), slow=5)
    lobby = page("lobby", Lag(on_the_way=4, messages=16, seconds=1.5), old=7, memory=2)
    sample = read_sample({"g": greeter, "l": lobby})
    assert {key: count for key, count in sample.dropped.items() if count} == {
        ("g", "slow"): 5,
        ("l", "old"): 7,
        ("l", "memory"): 2,
    }
    assert sample.behind == {"line": 7, "not_reading": 1}
    assert (sample.lag_messages, sample.lag_seconds) == (900, 1.5)


def test_a_page_without_these_metrics_is_named() -> None:
    with pytest.raises(ValueError, match="other"):
        read_sample({"g": page("greeter"), "other": "process_cpu_seconds_total 1.0\n"})


def test_only_what_was_dropped_meanwhile_counts() -> None:
    before = Sample(dropped={("one", "slow"): 10, ("two", "slow"): 50, ("gone", "slow"): 9})
    after = Sample(dropped={("one", "slow"): 13, ("two", "slow"): 4, ("new", "old"): 2})
    assert summarize([before, after]).dropped == {"slow": 3 + 4, "old": 2}  # the second one was restarted


def test_gauges_are_the_highest_seen() -> None:
    samples = [
        Sample(behind={"line": 1, "not_reading": 0}, lag_messages=5, lag_seconds=0.1),
        Sample(behind={"line": 9, "not_reading": 0}, lag_messages=400, lag_seconds=0.25),
        Sample(behind={"line": 0, "not_reading": 2}, lag_messages=0, lag_seconds=0.0),
    ]
    found = summarize(samples, missed=3)
    assert found.behind == {"line": 9, "not_reading": 2}
    assert (found.lag_messages, found.lag_ms, found.missed_samples) == (400, 250.0, 3)


@asynccontextmanager
async def serving(pages: dict[str, Callable[[], str]]) -> AsyncIterator[str]:
    def handler(text: Callable[[], str]) -> Handler:
        async def handle(_request: AdminRequest) -> AdminResponse:
            return AdminResponse(body=text().encode())

        return handle

    admin = AdminServer({("GET", path): handler(text) for path, text in pages.items()})
    port = await admin.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await admin.close()


def test_a_watch_reports_what_happened_between_start_and_stop() -> None:
    stages = [page("greeter", slow=10)]
    looks = 0

    def current() -> str:
        nonlocal looks
        looks += 1
        return stages[-1]

    async def main() -> None:
        async with serving({"/metrics": current}) as url:
            watch = ServerWatch([f"{url}/metrics"], SETTINGS)
            await asyncio.to_thread(watch.start)
            seen = looks
            stages.append(page("greeter", Lag(not_reading=2, messages=16, seconds=2.0), slow=30))
            await until(lambda: looks >= seen + 3)  # one may be under way, and one may have been read before
            stages.append(page("greeter", slow=35, old=1))
            found = await asyncio.to_thread(watch.stop)
        assert {reason: count for reason, count in found.dropped.items() if count} == {"slow": 25, "old": 1}
        assert found.behind == {"line": 0, "not_reading": 2}
        assert (found.lag_messages, found.lag_ms, found.missed_samples) == (16, 2000.0, 0)

    run(main())


def test_a_list_of_targets_stands_for_its_lobbies_and_greeters() -> None:
    async def main() -> None:
        async with serving({"/metrics": lambda: page("lobby", slow=1)}) as url:
            address = url.removeprefix("http://")
            targets = [
                {"targets": [address], "labels": {"job": "lobby", "pod": "prices-1"}},
                {"targets": ["127.0.0.1:1"], "labels": {"job": "operator", "pod": "lobby up"}},
            ]
            async with serving({"/targets": lambda: json.dumps(targets)}) as listing:
                watch = ServerWatch([f"{listing}/targets"], SETTINGS)
                await asyncio.to_thread(watch.start)
                found = await asyncio.to_thread(watch.stop)
        assert found.dropped == {"slow": 0, "old": 0, "memory": 0}
        assert found.missed_samples == 0

    run(main())


def test_a_server_that_ends_meanwhile_is_reported_up_to_then() -> None:
    async def main() -> None:
        async with serving({"/metrics": lambda: page("lobby", slow=1)}) as url:
            watch = ServerWatch([f"{url}/metrics"], BenchSettings(metrics_seconds=600))
            await asyncio.to_thread(watch.start)
        found = await asyncio.to_thread(watch.stop)
        assert (found.dropped["slow"], found.missed_samples) == (0, 1)

    run(main())


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/metrics", "process_cpu_seconds_total 1.0\n", "has no metrics of a lobby or greeter"),
        ("/targets", "[1]", "is not a list of targets for Prometheus"),
        ("/targets", "no JSON", "is not a list of targets for Prometheus"),
        ("/targets", "[]", "lists no lobby or greeter"),
    ],
)
def test_a_page_of_something_else_is_refused(path: str, body: str, problem: str) -> None:
    async def main() -> None:
        async with serving({path: lambda: body}) as url:
            with pytest.raises(UserError, match=f"^--metrics: {url}{path} {problem}$"):
                await asyncio.to_thread(ServerWatch([f"{url}{path}"], SETTINGS).start)

    run(main())


def test_a_url_that_cannot_be_read_is_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}/metrics"
    with pytest.raises(UserError, match=f"^--metrics: cannot read {url}: connection refused$"):
        ServerWatch([url], SETTINGS).start()


def test_an_error_of_the_server_is_named() -> None:
    async def main() -> None:
        async with serving({"/metrics": str}) as url:
            with pytest.raises(UserError, match=f"^--metrics: cannot read {url}/metric: HTTP 404 Not Found$"):
                await asyncio.to_thread(ServerWatch([f"{url}/metric"], SETTINGS).start)

    run(main())
