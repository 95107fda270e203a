"""Fixtures of the cluster tests: the installed release, an origin, and two thousand clients for the failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support.api import Api
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import CommandFailedError, kubectl
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.figures import FIGURES, HEAD
from tests.cluster.support.images import Images
from tests.cluster.support.processes import FOLDER, Finished, Scheduler, Users, is_alone, is_one_of_several, locked
from tests.cluster.support.release import NAMESPACE, Release, release
from tests.cluster.support.resources import origin_url, ticker

RATE = 4  # messages per second of the shared origin: silences are measured to a quarter of a second
TIMEOUT = 420
TICKER = "ticker"
HERE = f"{FOLDER}/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests if there is no cluster, and orders them.

    `make kind` needs the node port before the release does, the tests of failures share their clients, and NetworkPolicies
    stay once they are enforced.
    """
    here = [item for item in items if HERE in item.nodeid]
    for item in here:
        if skip_reason := ENVIRONMENT.skip_reason():
            item.add_marker(pytest.mark.skip(reason=skip_reason))
        if not any(item.iter_markers("timeout")):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    parts = (f"{HERE}test_make_kind.py", f"{HERE}test_", f"{HERE}failures/", f"{HERE}enforced/")
    place = next((at for at, part in enumerate(parts) if part in item.nodeid), 1)
    return place + (place > 1 or is_alone(item.nodeid))  # of the second part, those that run alone come last


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    """Keeps the order, and the tests that run alone together."""
    config.option.loadscopereorder = False
    return Scheduler(config, log)


def _finished(config: pytest.Config) -> Finished:
    return Finished(_shared(config) / "finished")


def _shared(config: pytest.Config) -> Path:
    """A folder that all test processes of this run share."""
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return folder.parent if is_one_of_several() else folder


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Notes that a test is over, with its second try if it had one."""
    result = yield
    if is_one_of_several():
        _finished(item.config).add(item.nodeid)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that runs alone waits for the others; before its fixtures are made."""
    if is_one_of_several() and is_alone(item.nodeid):
        _finished(item.config).wait({each.nodeid for each in item.session.items if not is_alone(each.nodeid)})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over what a test process has measured."""
    rows, notes = getattr(node, "workeroutput", {}).get("figures", ([], []))
    FIGURES.rows += rows
    FIGURES.notes += notes


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands what this test process has measured to the one that reports it."""
    if is_one_of_several():
        session.config.workeroutput["figures"] = (FIGURES.rows, FIGURES.notes)  # type: ignore[attr-defined]


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
def shared(request: pytest.FixtureRequest) -> Path:
    """A folder that all test processes of this run share."""
    return _shared(request.config)


@pytest.fixture(scope="session")
def images(shared: Path) -> Images:
    """The project's images, on every node."""
    if ENVIRONMENT.tag:
        return Images(tag=ENVIRONMENT.tag)
    with locked(shared / "images") as built:
        if tag := built.read():
            return Images(tag=tag)
        # A release kept from an earlier session gets new images by a new tag.
        images = Images(tag=f"test-{time.time():.0f}" if ENVIRONMENT.keep else "test")
        images.build()
        built.write(images.tag)
    return images


@pytest.fixture(scope="session")
def installed(api: Api, images: Images, shared: Path) -> Iterator[Release]:
    """The chart, installed."""
    with release(api, images, Users(shared / "release")) as installed:
        yield installed


@pytest.fixture(scope="session")
def cluster(installed: Release) -> Cluster:
    """The namespace of the release."""
    return installed.cluster


@pytest.fixture(scope="session")
def origin(installed: Release, shared: Path) -> str:
    """URL of an origin in the cluster that sends numbered messages."""
    cluster = installed.cluster
    with locked(shared / "origin"):
        cluster.apply(*ticker(TICKER, installed.images.lobby, cluster.kept_node(), rate=RATE))
    kubectl("wait", "--for=condition=Ready", f"pod/{TICKER}", "-n", NAMESPACE, "--timeout=60s", deadline=70)
    return origin_url(TICKER, NAMESPACE)
