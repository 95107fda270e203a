"""Environment variables that describe the cluster to the tests: any cluster and any image loader will do.

| variable | meaning | without it |
| --- | --- | --- |
| `LOBBY_TEST_KUBECONFIG` | kubeconfig of a cluster that may be disturbed | tests are skipped |
| `LOBBY_TEST_BUILD` | builds `{tag}` from `{file}`; `{target}` is `--target=STAGE` or nothing | `docker build` |
| `LOBBY_TEST_LOAD` | command that loads the image `{tag}` onto the nodes | `kind load docker-image` |
| `LOBBY_TEST_FAULTS` | command that makes components and nodes fail (`faults.py`) | those tests are skipped |
| `LOBBY_TEST_ADDRESS` | address on this machine that leads to the node port | `127.0.0.1:8000` |
| `LOBBY_TEST_NODE_PORT` | that node port | `30080` |
| `LOBBY_TEST_KEPT_NODE` | node that the address leads to: never disturbed | the first worker by name |
| `LOBBY_TEST_TAG` | images with this tag are on the nodes already | they are built and loaded |
| `LOBBY_TEST_CREATE` | creates the cluster from `{config}`, for the test of `make kind` | it exists already |
| `LOBBY_TEST_LONG` | outages last as long as users' do: minutes | they last half a minute |
| `LOBBY_TEST_KEEP` | the release stays installed after the session, for the next one | it is uninstalled |
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[3]
DOCKER_BUILD = "docker build --quiet --tag {tag} --file {file} {target} ."
KIND_LOAD = "kind load docker-image --name lobby-gateway {tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The values of the variables.

    Attributes:
        kubeconfig: path of the kubeconfig.
        build: template of the command that builds an image.
        load: template of the command that loads it onto the nodes.
        faults: the command for faults; empty: none.
        address: host and port for clients.
        node_port: the greeters' node port.
        kept_node: node that must not be disturbed; empty: the first worker.
        tag: tag of images that are on the nodes already; empty: build them.
        keep: leave the release installed.
        long: outages last minutes.
    """

    kubeconfig: str
    build: str
    load: str
    faults: tuple[str, ...]
    address: str
    node_port: int
    kept_node: str
    tag: str
    keep: bool
    long: bool

    @classmethod
    def read(cls) -> Self:
        """Reads the variables."""
        get = os.environ.get
        return cls(
            kubeconfig=get("LOBBY_TEST_KUBECONFIG", ""),
            build=get("LOBBY_TEST_BUILD", DOCKER_BUILD),
            load=get("LOBBY_TEST_LOAD", KIND_LOAD),
            faults=tuple(shlex.split(get("LOBBY_TEST_FAULTS", ""))),
            address=get("LOBBY_TEST_ADDRESS", "127.0.0.1:8000"),
            node_port=int(get("LOBBY_TEST_NODE_PORT", "30080")),
            kept_node=get("LOBBY_TEST_KEPT_NODE", ""),
            tag=get("LOBBY_TEST_TAG", ""),
            keep=bool(get("LOBBY_TEST_KEEP", "")),
            long=bool(get("LOBBY_TEST_LONG", "")),
        )

    def skip_reason(self) -> str:
        """Why no test can run here; empty: they can."""
        if not self.kubeconfig:
            return "no cluster (LOBBY_TEST_KUBECONFIG is not set; see CONTRIBUTING.md)"
        missing = [name for name in ("kubectl", "helm") if shutil.which(name) is None]
        return f"no {' and no '.join(missing)}" if missing else ""

    def faults_skip_reason(self) -> str:
        """Why nodes and components can't be disturbed here; empty: they can."""
        return "" if self.faults else "LOBBY_TEST_FAULTS is not set: nothing here makes nodes fail"


ENVIRONMENT = Environment.read()
