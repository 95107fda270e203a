"""Setup for all tests: Hypothesis profiles, enough descriptors, no blocking call on an event loop, a list of skipped tests."""

from __future__ import annotations

import collections
import os
import resource
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

# Examples per property: few while editing, many after a change, very many when hunting a rare case. Those of .ci/run are the
# same every time, so that it fails because of a change and not by chance; the others are random.
# No profile has a deadline for a single example, because a slow machine is not a failure.
for profile, max_examples in {"fast": 20, "thorough": 300, "slow": 3000, "gate": 300}.items():
    settings.register_profile(
        profile,
        max_examples=max_examples,
        derandomize=profile == "gate",
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
for _proxy in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):  # of the machine; tests talk to this machine and to no other
    os.environ.pop(_proxy, None)
    os.environ.pop(_proxy.lower(), None)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure() -> None:
    """Allows the test process thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets Hypothesis stop shrinking by itself, after 300 s: cut short by a timeout, it reports flakiness."""
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(autouse=True, scope="session")
def no_blocking_calls() -> Iterator[None]:
    """Makes a blocking call of our code on an event loop an error."""
    buster = BlockBuster(scanned_modules=["lobby_gateway", "lobby_operator"])
    buster.activate()
    for name in ("io.BufferedReader.read", "os.listdir"):  # reads /proc, which never blocks
        buster.functions[name].can_block_in("prometheus_client/process_collector.py", "collect")
    for function in buster.functions.values():  # a kubeconfig is read once, at startup
        function.can_block_in("lobby_operator/kube/client.py", "_load")
        function.can_block_in("lobby_operator/kube/kopf_thread.py", "start")  # waits until the thread runs
        # Kopf reads its certificate in its own loop, which only answers the API server.
        function.can_block_in("kopf/_kits/webhooks.py", {"_build_ssl", "__sleep_forever_or_until_ssl_files_change"})
    try:
        yield
    finally:
        buster.deactivate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lists skipped tests by reason, for example on a machine without Node.js."""
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        reasons[reason.removeprefix("Skipped: ")].append(report.nodeid)
    terminalreporter.section("skipped")
    for reason, tests in sorted(reasons.items()):
        count = "1 test" if len(tests) == 1 else f"{len(tests)} tests"
        terminalreporter.write_line(f"{reason}: {count}, {', '.join(sorted(set(tests)))}")
    if not reasons:
        terminalreporter.write_line("nothing")
