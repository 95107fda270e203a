"""Fixtures of the cluster tests: the installed release, an origin, and two thousand clients for the failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.figures import FIGURES, HEAD
from tests.cluster.support.images import Images
from tests.cluster.support.release import NAMESPACE, Release, release
from tests.cluster.support.resources import origin_url, ticker

RATE = 4  # messages per second of the shared origin: silences are measured to a quarter of a second
TIMEOUT = 420
TICKER = "ticker"
ORDER = ("tests/cluster/test_make_kind.py", "tests/cluster/test_", "tests/cluster/failures/", "tests/cluster/enforced/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests if there is no cluster, and orders them.

    `make kind` needs the node port before the release does, the tests of failures share their clients, and NetworkPolicies
    stay once they are enforced.
    """
    here = [item for item in items if "tests/cluster/" in item.nodeid]
    for item in here:
        if skip_reason := ENVIRONMENT.skip_reason():
            item.add_marker(pytest.mark.skip(reason=skip_reason))
        if not any(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
    items.sort(key=lambda item: next((at for at, where in enumerate(ORDER) if where in item.nodeid), 1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Adds a diagnosis of the cluster to a failed test."""
    report = yield
    if call.when == "call" and report.failed and "cluster" in getattr(item, "fixturenames", ()):
        cluster: Cluster = item.funcargs["cluster"]  # type: ignore[attr-defined]
        try:
            report.sections.append(("cluster", cluster.diagnosis()))
        except (CommandFailedError, OSError) as error:
            report.sections.append(("cluster", str(error)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what was measured."""
    if FIGURES.rows or FIGURES.notes:
        terminalreporter.section("figures")
        for line in (HEAD, *FIGURES.rows) if FIGURES.rows else ():
            terminalreporter.write_line(line)
        for line in FIGURES.notes:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """The API server."""
    with Api() as api:
        yield api


@pytest.fixture(scope="session")
def images() -> Images:
    """The project's images, on every node."""
    # A release kept from an earlier session gets new images by a new tag.
    images = Images(tag=ENVIRONMENT.tag or (f"test-{time.time():.0f}" if ENVIRONMENT.keep else "test"))
    if not ENVIRONMENT.tag:
        images.build()
    return images


@pytest.fixture(scope="session")
def installed(api: Api, images: Images) -> Iterator[Release]:
    """The chart, installed."""
    with release(api, images) as installed:
        yield installed


@pytest.fixture(scope="session")
def cluster(installed: Release) -> Cluster:
    """The namespace of the release."""
    return installed.cluster


@pytest.fixture(scope="session")
def origin(installed: Release) -> str:
    """URL of an origin in the cluster that sends numbered messages."""
    cluster = installed.cluster
    cluster.apply(*ticker(TICKER, installed.images.lobby, cluster.kept_node(), rate=RATE))
    kubectl("wait", "--for=condition=Ready", f"pod/{TICKER}", "-n", NAMESPACE, "--timeout=60s", deadline=70)
    return origin_url(TICKER, NAMESPACE)
