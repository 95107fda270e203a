"""What the server says about its clients while `lobby bench` runs: messages dropped and why, and how far clients lag.

The figures are of all clients of the watched processes. Counters are compared before the first client connects and after the
measurement; gauges are sampled meanwhile, in a thread of its own, and the report has the highest values seen.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from lobby_gateway.errors import UserError
from lobby_gateway.settings import BenchSettings
from lobby_gateway.websocket.client import explain

_SETTINGS = BenchSettings()
# Only these lines are parsed: parsing all of them would delay the clients by milliseconds.
_find_lines = re.compile(
    r"^(?:lobby|greeter)_(?:dropped_messages_total|clients_behind|client_lag_messages|client_lag_seconds)[{ ].*\n",
    re.MULTILINE,
).findall


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at all processes.

    Attributes:
        dropped: messages dropped since each process started, by process and reason.
        behind: clients whose socket is full, by cause.
        lag_messages: most messages that wait for one client.
        lag_seconds: longest that a message has waited for a client.
    """

    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)
    lag_messages: int = 0
    lag_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """What the server said while the clients were measured.

    Attributes:
        dropped: messages dropped, by reason: `slow` (the client did not read), `old` (its line or program was too slow),
            `memory` (the bytes that may wait were used up).
        behind: most clients at once whose socket was full, by cause: `line` (what was sent was under way), `not_reading`.
        lag_messages: most messages that waited for one client.
        lag_ms: longest that a message had waited for a client, in milliseconds.
        missed_samples: samples that failed.
    """

    dropped: Mapping[str, int]
    behind: Mapping[str, int]
    lag_messages: int
    lag_ms: float
    missed_samples: int = 0


def read_sample(pages: Mapping[str, str]) -> Sample:
    """A sample from the `/metrics` pages of processes, by their URL.

    Raises:
        ValueError: a page has none of these metrics; the text is its URL.
    """
    dropped: dict[tuple[str, str], int] = {}
    behind: Counter[str] = Counter()
    messages, seconds = 0, 0.0
    for url, page in pages.items():
        lines = _find_lines(page)
        if not lines:
            raise ValueError(url)
        for family in text_string_to_metric_families("".join(lines)):
            for sample in family.samples:
                match sample.name.partition("_")[2]:
                    case "dropped_messages_total":
                        dropped[url, sample.labels["reason"]] = int(sample.value)
                    case "clients_behind":
                        behind[sample.labels["cause"]] += int(sample.value)
                    case "client_lag_messages":
                        messages = max(messages, int(sample.value))
                    case _:
                        seconds = max(seconds, sample.value)
    return Sample(dropped=dropped, behind=behind, lag_messages=messages, lag_seconds=seconds)


def summarize(samples: Sequence[Sample], missed: int = 0) -> ServerReport:
    """The report on samples, oldest first; at least one."""
    first, last = samples[0].dropped, samples[-1].dropped
    dropped: Counter[str] = Counter()
    for (process, reason), count in last.items():
        before = first.get((process, reason), 0)
        dropped[reason] += count - before if count >= before else count  # the process was restarted
    causes = {cause for each in samples for cause in each.behind}
    return ServerReport(
        dropped=dict(dropped),
        behind={cause: max(each.behind.get(cause, 0) for each in samples) for cause in sorted(causes)},
        lag_messages=max(each.lag_messages for each in samples),
        lag_ms=round(max(each.lag_seconds for each in samples) * 1e3, 1),
        missed_samples=missed,
    )


class ServerWatch:
    """Samples the metrics of lobbies and greeters until it is stopped.

    Args:
        urls: `/metrics` of processes, or a list of processes for Prometheus, such as `/targets` of `lobby up`.
        settings: interval and timeout.
    """

    def __init__(self, urls: Iterable[str], settings: BenchSettings = _SETTINGS) -> None:
        self._urls = tuple(urls)
        self._settings = settings
        self._opener: OpenerDirector = build_opener(ProxyHandler({}))
        self._samples: list[Sample] = []
        self._missed = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="server metrics", daemon=True)

    def start(self) -> None:
        """Takes the first sample and starts to watch.

        Raises:
            UserError: a URL cannot be read, or has no metrics of a lobby or greeter.
        """
        self._samples.append(self._sample())
        self._thread.start()

    def stop(self) -> ServerReport:
        """Takes the last sample and reports."""
        self._stopped.set()
        self._thread.join()
        self._try_sample()
        return summarize(self._samples, self._missed)

    def _watch(self) -> None:
        while not self._stopped.wait(self._settings.metrics_seconds):
            self._try_sample()

    def _try_sample(self) -> None:
        try:
            self._samples.append(self._sample())
        except UserError:
            self._missed += 1  # counted and shown; a process may end meanwhile

    def _sample(self) -> Sample:
        pages = {}
        for url in self._urls:
            for page_url in self._pages(url):
                pages[page_url] = self._get(page_url)
        try:
            return read_sample(pages)
        except ValueError as error:
            raise UserError(f"--metrics: {error} has no metrics of a lobby or greeter") from error

    def _pages(self, url: str) -> list[str]:
        if not urlsplit(url).path.endswith("/targets"):
            return [url]
        try:
            targets = [
                f"http://{address}/metrics"
                for group in json.loads(self._get(url))
                if group["labels"]["job"] in {"lobby", "greeter"}
                for address in group["targets"]
            ]
        except (ValueError, TypeError, LookupError) as error:
            raise UserError(f"--metrics: {url} is not a list of targets for Prometheus") from error
        if not targets:
            raise UserError(f"--metrics: {url} lists no lobby or greeter")
        return targets

    def _get(self, url: str) -> str:
        host = urlsplit(url).hostname or ""
        try:
            with self._opener.open(url, timeout=self._settings.metrics_timeout_seconds) as response:
                return str(response.read().decode())
        except HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
        except URLError as error:
            problem = explain(error.reason, host) if isinstance(error.reason, OSError) else str(error.reason)
        except (HTTPException, OSError, UnicodeError) as error:
            problem = explain(error, host) if isinstance(error, OSError) else "the response is not text over HTTP"
        raise UserError(f"--metrics: cannot read {url}: {problem}")
