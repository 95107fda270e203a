"""A server of the API on a real socket, and our access to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.aio.client import ApiClient, Configuration
from tests.support.kube_api import FakeKubeApi, fake_kube_api

from lobby_operator.kube.client import KubeApi

LOBBIES_PATH = "/apis/lobby-gateway.io/v1alpha1/namespaces/{}/lobbies"
PODS_PATH = "/api/v1/namespaces/{}/pods"


@asynccontextmanager
async def called(**settings: Any) -> AsyncIterator[tuple[FakeKubeApi, KubeApi]]:
    async with fake_kube_api() as server:
        api = KubeApi(ApiClient(Configuration(host=server.url)), **settings)
        try:
            yield server, api
        finally:
            await api.close()


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs something that runs for ever; if it ends by itself, that is a failure."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        ended = task.done()
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert not ended, result
