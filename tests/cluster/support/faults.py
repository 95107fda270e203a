"""Faults of the cluster itself, caused by the command that the environment names. Each is undone at the end of its block.

The arguments after those of `LOBBY_TEST_FAULTS` are `stop apiserver`, `kill apiserver`, `start apiserver` (`controllers`,
`scheduler`), `crash NODE`, `boot NODE`, `cut NODE`, `mend NODE` (its network), `policies`, which enforces NetworkPolicies from
then on, and `exec -- COMMAND`: a process of this machine, inside the cluster's network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.cluster.support.api import ADMIN_PORT
from tests.cluster.support.commands import run
from tests.cluster.support.environment import ENVIRONMENT
from tests.cluster.support.waiting import eventually

OPERATOR_MODULE = "lobby_operator.kube"

needs_faults = pytest.mark.skipif(bool(ENVIRONMENT.faults_skip_reason()), reason=ENVIRONMENT.faults_skip_reason())


def fault(*arguments: str, deadline: float = 120.0) -> None:
    """Runs the command for faults."""
    run(*ENVIRONMENT.faults, *arguments, deadline=deadline)


@contextlib.contextmanager
def api_server_stopped() -> Iterator[None]:
    """Stops the API server during the block."""
    fault("stop", "apiserver")
    try:
        yield
    finally:
        # Components that elect a leader exit without it. Where each is a pod, they restart by themselves.
        for component in ("apiserver", "controllers", "scheduler"):
            fault("start", component)


@contextlib.contextmanager
def node_crashed(node: str) -> Iterator[None]:
    """Powers a node off during the block."""
    fault("crash", node)
    try:
        yield
    finally:
        fault("boot", node)


@contextlib.contextmanager
def node_cut(node: str) -> Iterator[None]:
    """Cuts a node off from the network during the block."""
    fault("cut", node)
    try:
        yield
    finally:
        fault("mend", node)


def inside(*command: str) -> tuple[str, ...]:
    """The command that runs another one inside the cluster's network."""
    return (*ENVIRONMENT.faults, "exec", "--", *command)


def pid_of_pod(pod: str, module: str) -> int:
    """The process of a pod that runs a Python module, where the nodes are on this machine.

    Raises:
        LookupError: it is not visible from here.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes().split(b"\0")
            if module.encode() in command and f"HOSTNAME={pod}".encode() in environment:
                return int(entry.name)
    raise LookupError(f"no process of pod {pod} on this machine runs {module}")


@contextlib.contextmanager
def admin_ports_dropped(operators: Iterable[str], *, but: Iterable[str]) -> Iterator[None]:
    """During the block, packets from operators to any admin port are dropped, also those of connections that exist.

    Works where the nodes are on this machine, as root: the rules are made in the network namespace of each pod.

    Args:
        operators: names of their pods.
        but: addresses of pods that are reached nevertheless.
    """
    to_admin = ("OUTPUT", "-p", "tcp", "--dport", str(ADMIN_PORT))
    rules = [(*to_admin, "-j", "DROP"), *((*to_admin, "-d", address, "-j", "ACCEPT") for address in but)]
    inside_pod = [("nsenter", "-t", str(pid_of_pod(each, OPERATOR_MODULE)), "-n", "iptables") for each in operators]
    with contextlib.ExitStack() as stack:
        for pod in inside_pod:
            for rule in rules:
                run(*pod, "-I", *rule)
                stack.callback(run, *pod, "-D", *rule)
        yield


@contextlib.contextmanager
def api_refused(operators: Iterable[str]) -> Iterator[None]:
    """During the block, connections of operators to the API server break and are refused.

    Works where the nodes are on this machine, as root: the rules are made in the network namespace of each pod, which outlives
    a restart of its process.

    Args:
        operators: names of their pods.
    """
    rule = ("OUTPUT", "-p", "tcp", "--dport", "443", "-j", "REJECT", "--reject-with", "tcp-reset")
    with contextlib.ExitStack() as stack:
        for each in operators:
            network = os.open(f"/proc/{pid_of_pod(each, OPERATOR_MODULE)}/ns/net", os.O_RDONLY)
            stack.callback(os.close, network)
            inside_pod = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{network}", "iptables")
            run(*inside_pod, "-I", *rule)
            stack.callback(run, *inside_pod, "-D", *rule)
        yield


_COMPACT = """
import json, urllib.request
def ask(what, body):
    url = "http://127.0.0.1:2379/v3/kv/" + what
    return json.loads(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=10).read())
ask("compaction", {"revision": ask("range", {"key": "AA=="})["header"]["revision"], "physical": True})
"""


def compact_etcd() -> None:
    """Lets etcd forget all earlier versions; where it listens on its usual port, inside the cluster's network."""
    run(*inside(sys.executable, "-c", _COMPACT))


def kill_process(pod: str, module: str) -> None:
    """SIGKILL for the process of a pod that runs a module; waits until it is gone."""
    pid = pid_of_pod(pod, module)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}/cmdline").exists(), what=f"process {pid} of {pod} is gone")
