"""The API server over plain HTTP, through `kubectl proxy`, which supports every kind of login of a kubeconfig.

A read needs no process, and `/proxy` of a pod reaches its admin port from anywhere.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tests.cluster.support.environment import ENVIRONMENT
from tests.support.processes import WITH_PARENT
from tests.support.web import Metrics, parse_metrics

TIMEOUT = 15.0
LOBBIES = "/apis/lobby-gateway.io/v1alpha1/namespaces/{namespace}/lobbies"
ADMIN_PORT = 8001


class ApiError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status; `kubectl proxy` answers 502 if it cannot reach the API server.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Api:
    """The API server. As a context manager it runs a `kubectl proxy` during the block."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str]
        self._port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*WITH_PARENT, "kubectl", "proxy", "--port=0", "--reject-paths=^$"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECONFIG": ENVIRONMENT.kubeconfig},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r":(\d+)\s*$", line)
        assert found, f"kubectl proxy said {line!r}"
        self._port = int(found[1])
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def address(self) -> str:
        """Host and port of the proxy, for programs that read through it, too."""
        return f"127.0.0.1:{self._port}"

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> bytes:
        """A request; returns the body of the answer.

        Raises:
            ApiError: the answer is not a success.
            OSError: there is none.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, body=data, headers={"Content-Type": content_type} if data else {})
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise ApiError(502, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise ApiError(response.status, answer.decode(errors="replace"))
        return answer

    def get(self, path: str) -> Any:
        """A resource or list."""
        return json.loads(self.request("GET", path))

    def merge(self, path: str, patch: Mapping[str, Any]) -> Any:
        """A JSON merge patch; returns the resource."""
        return json.loads(self.request("PATCH", path, patch, content_type="application/merge-patch+json"))

    def list(self, plural: str, namespace: str, *, labels: str = "") -> list[dict[str, Any]]:
        """Resources of the core API of a namespace."""
        query = f"?labelSelector={labels}" if labels else ""
        items: list[dict[str, Any]] = self.get(f"/api/v1/namespaces/{namespace}/{plural}{query}")["items"]
        return items

    def lobby(self, name: str, namespace: str) -> dict[str, Any]:
        """A Lobby."""
        resource: dict[str, Any] = self.get(f"{LOBBIES.format(namespace=namespace)}/{name}")
        return resource

    def from_pod(self, namespace: str, pod: str, path: str, *, port: int = ADMIN_PORT) -> bytes:
        """A pod's answer to a GET."""
        return self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")

    def metrics(self, namespace: str, pod: str) -> Metrics:
        """`/metrics` of a pod."""
        return parse_metrics(self.from_pod(namespace, pod, "/metrics").decode())

    def seats(self, namespace: str, pod: str) -> dict[str, Any]:
        """`/seats` of a lobby."""
        report: dict[str, Any] = json.loads(self.from_pod(namespace, pod, "/seats"))
        return report

    def watch(self, path: str) -> Iterator[dict[str, Any]]:
        """Events of a watch, until the API server ends it.

        Raises:
            ApiError: the server refused the watch.
            OSError: the watch broke.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200:
                raise ApiError(response.status, response.read().decode(errors="replace"))
            while line := response.readline():
                yield json.loads(line)
        except http.client.HTTPException as error:
            raise ApiError(502, f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
