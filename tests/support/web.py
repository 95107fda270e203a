"""Plain HTTP requests with the standard library, independent of the client under test."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A response.

    Attributes:
        status: HTTP status code.
        headers: by lower-case name.
        body: the body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of a `/metrics` page."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def __call__(self, name: str, **labels: str) -> float:
        """Sum of the samples with this name and at least these labels.

        Raises:
            KeyError: there is none; known values start at 0, so the name is wrong.
        """
        wanted = frozenset(labels.items())
        found = [value for (each, has), value in self.samples.items() if each == name and wanted <= has]
        if not found:
            raise KeyError(f"{name} {labels}; there are {sorted({each for each, _ in self.samples})}")
        return sum(found)


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> HttpResponse:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, headers=dict(headers))
        response = connection.getresponse()
        return HttpResponse(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=response.read(),
        )
    finally:
        connection.close()


async def get(url: str, **headers: str) -> HttpResponse:
    """A GET request; the argument `user_agent` sets the header `user-agent`."""
    return await request("GET", url, **headers)


async def request(method: str, url: str, body: bytes | None = None, /, **headers: str) -> HttpResponse:
    """A request.

    Raises:
        OSError: the connection failed.
        http.client.HTTPException: the response is not HTTP.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.to_thread(_request, method, url, named, body)


async def metrics(url: str) -> Metrics:
    """Reads a `/metrics` page."""
    answer = await get(url)
    assert answer.status == 200, answer
    return parse_metrics(answer.body.decode())


def parse_metrics(text: str) -> Metrics:
    """Reads the text of a `/metrics` page."""
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Metrics(samples)
