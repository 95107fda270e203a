"""What holds for all tests: enough descriptors, no blocking call on an event loop, and a list of what was left out."""

from __future__ import annotations

import collections
import os
import resource
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

# A slow machine is no failure: no profile has a deadline for a single example.
settings.register_profile("fast", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("normal", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("slow", parent=settings.get_profile("normal"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


def pytest_configure() -> None:
    """Lets the test process have thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets hypothesis stop shrinking by itself, after 300 s: cut short by a timeout, it reports flakiness."""
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fails a test in which our code makes a blocking call on an event loop."""
    buster = BlockBuster(scanned_modules=["lobby_gateway", "lobby_operator"])
    buster.activate()
    for name in ("io.BufferedReader.read", "os.listdir"):  # of /proc, at a scrape: the kernel answers at once
        buster.functions[name].can_block_in("prometheus_client/process_collector.py", "collect")
    for function in buster.functions.values():  # a kubeconfig is read once, at start
        function.can_block_in("lobby_operator/kube/client.py", "_load")
    try:
        yield
    finally:
        buster.deactivate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was left out, and why: a machine without node, say, runs the rest."""
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    terminalreporter.section("left out")
    for reason, tests in sorted(reasons.items()):
        terminalreporter.write_line(f"{reason}: {len(tests)} tests, {', '.join(sorted(set(tests)))}")
    if not reasons:
        terminalreporter.write_line("nothing")
