"""All pods that ever existed in a namespace, so that one created twice, or created and soon deleted, is noticed."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

from tests.cluster.support.api import Api, ApiError

RETRY = 0.3


class PodWatch:
    """Lists and watches the lobby pods of a namespace in a thread; resumes after an outage of the API server.

    Attributes:
        names: names of all pods seen, by uid.
    """

    def __init__(self, api: Api, namespace: str, *, labels: str) -> None:
        self.names: dict[str, str] = {}
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={labels}"
        self._alive: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()  # the thread is a daemon: it sits in a read until the next event

    def mark(self) -> set[str]:
        """Uids of the pods seen so far."""
        with self._lock:
            return set(self.names)

    def made_since(self, mark: set[str]) -> list[str]:
        """Names of the pods that were created since."""
        with self._lock:
            return sorted(name for uid, name in self.names.items() if uid not in mark)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                listed = self._api.get(self._path)
                for pod in listed["items"]:
                    self._seen(pod)
                version = listed["metadata"]["resourceVersion"]
                for event in self._api.watch(f"{self._path}&watch=true&resourceVersion={version}&timeoutSeconds=300"):
                    if event["type"] == "ERROR" or self._ended.is_set():
                        break
                    self._seen(event["object"])
            except (ApiError, OSError, ValueError):
                time.sleep(RETRY)

    def _seen(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        with self._lock:
            self.names[metadata["uid"]] = metadata["name"]
