"""One run: a contestant, the load, and what the kernel counted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import build, machine
from tests.benchmarks.children import child
from tests.benchmarks.contestants import Contestant, Demand
from tests.benchmarks.machine import LOAD_CORE

SHAKES_A_SECOND = 30_000  # enough tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the load generator does (see `c/load.c`).

    Attributes:
        mode: `one`, `burst`, `rate`, `idle` or `shake`.
        value: the mode's parameter.
        clients: how many.
        size: bytes of a message.
        seconds: measured.
        warm_up: seconds before measuring.
        stalled: clients that never read.
        at_once: concurrent handshakes.
        text: file whose consecutive pieces become messages.
        deflate: clients ask for compression.
        sleep: clients sleep between messages.
    """

    mode: str
    value: float = 1
    clients: int = 512
    size: int = 64
    seconds: float = 2.0
    warm_up: float = 0.5
    stalled: int = 0
    at_once: int = 64
    text: Path | None = None
    deflate: bool = False
    sleep: bool = False

    def options(self) -> list[str]:
        """Command-line options."""
        given: dict[str, object] = {
            "mode": self.mode, "value": self.value, "clients": self.clients, "size": self.size, "seconds": self.seconds,
            "warm-up": self.warm_up, "stalled": self.stalled, "at-once": self.at_once,
        }  # fmt: skip
        options = [each for name, value in given.items() for each in (f"--{name}", str(value))]
        if self.text is not None:
            options += ["--text", str(self.text)]
        options += ["--deflate"] if self.deflate else []
        return [*options, "--sleep"] if self.sleep else options


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes:
        load: what the load counted (see `c/load.c`).
        holder_cpu: CPU seconds of the processes that hold the clients, while measuring.
        helper_cpu: the same for the other processes a message passes through.
        resident_before: bytes of each holder without clients.
        resident: bytes of each holder at the end.
        helpers_resident: bytes of all helpers at the end.
    """

    load: dict[str, Any]
    holder_cpu: float
    helper_cpu: float
    resident_before: list[int]
    resident: list[int]
    helpers_resident: int

    @property
    def per_second(self) -> float:
        """Deliveries per second (in mode `shake`: handshakes)."""
        return float(self.load["per_second"])

    @property
    def holder_us(self) -> float:
        """CPU microseconds per delivery, holders only."""
        return self.holder_cpu / max(1, int(self.load["deliveries"])) * 1e6

    @property
    def total_us(self) -> float:
        """CPU microseconds per delivery, all processes of the server."""
        return (self.holder_cpu + self.helper_cpu) / max(1, int(self.load["deliveries"])) * 1e6


def measure(contestant: Contestant, case: Case) -> Outcome:
    """Runs a case once.

    Raises:
        RuntimeError: a process failed.
    """
    handshakes = case.clients if case.mode != "shake" else int((case.seconds + case.warm_up) * SHAKES_A_SECOND)
    with child("load", str(build.program("load")), *case.options(), core=LOAD_CORE) as load:
        origin = f"127.0.0.1:{load.line().split()[1]}"
        with (
            contestant.serve(origin, Demand(case.clients, handshakes)) as serving,
            tempfile.NamedTemporaryFile("w") as paths,
        ):
            paths.write("\n".join(serving.paths) + "\n")
            paths.flush()
            before = [machine.resident_bytes(pid) for pid in serving.holders]
            load.write(serving.line(paths.name))
            load.line()  # counting
            holders, helpers = _cpu(serving.holders), _cpu(serving.helpers)
            load.line(case.seconds + 60)  # counted
            outcome = Outcome(
                holder_cpu=_cpu(serving.holders) - holders,
                helper_cpu=_cpu(serving.helpers) - helpers,
                resident_before=before,
                resident=[machine.resident_bytes(pid) for pid in serving.holders],
                helpers_resident=sum(machine.resident_bytes(pid) for pid in serving.helpers),
                load=json.loads(load.line()),
            )
            load.end()
    return outcome


def _cpu(pids: Sequence[int]) -> float:
    return sum(machine.cpu_seconds(pid) for pid in pids)
