"""Runs Debian's Prometheus during a test."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from tests.support import web
from tests.support.processes import WITH_PARENT, Process, free_port, running
from tests.support.waiting import until

START_DEADLINE = 20.0


def skip_reason() -> str:
    """Why Prometheus is unavailable; empty if it is available."""
    missing = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed (Debian's package prometheus)" if missing else ""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus.

    Attributes:
        process: its process.
        url: URL of its API, without a trailing slash.
    """

    process: Process
    url: str

    async def ask(self, path: str, **parameters: str) -> Any:
        """The data of a response of its API."""
        answer = await web.get(f"{self.url}/api/v1/{path}{'?' if parameters else ''}{urlencode(parameters)}")
        assert answer.status == 200, (parameters, answer)
        return answer.json()["data"]

    async def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and current value of each series."""
        found = await self.ask("query", query=expression)
        assert found["resultType"] == "vector", (expression, found)
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    async def targets(self) -> dict[str, str]:
        """Health by scraped address: `up`, `down`, or `unknown` before the first scrape."""
        found = await self.ask("targets", state="active")
        return {each["labels"]["instance"]: each["health"] for each in found["activeTargets"]}

    async def rules(self) -> list[dict[str, Any]]:
        """All alert rules, each with its `state` and `health`."""
        return [rule for group in (await self.ask("rules"))["groups"] for rule in group["rules"]]


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path, scrapes: Sequence[Mapping[str, Any]], *, rules: Path, seconds: int = 1
) -> AsyncIterator[Prometheus]:
    """Runs Prometheus on loopback with its data in a folder.

    Args:
        folder: folder for configuration and data.
        scrapes: as in `scrape_configs`.
        rules: a rule file.
        seconds: interval of scrapes and rule evaluations.
    """
    interval = f"{seconds}s"
    configuration = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": list(map(dict, scrapes)),
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    options = (
        *("--config.file", str(path), "--storage.tsdb.path", str(folder / "data")),
        *("--web.listen-address", address, "--log.level", "warn"),
    )
    async with running("prometheus", *WITH_PARENT, "prometheus", *options) as process:
        server = Prometheus(process, f"http://{address}")

        async def ready() -> bool:
            with contextlib.suppress(OSError):
                return (await web.get(f"{server.url}/-/ready")).status == 200
            return False

        await until(ready, deadline=START_DEADLINE, describe=process.tail)
        yield server
