"""A far line: two network namespaces with a round-trip time between them (`c/line.c`)."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import build
from tests.benchmarks.children import Child, child
from tests.benchmarks.place import Place

QUEUE_PACKETS = 65_536
"""Under way in one direction: 100 MB, more than the window of 50 connections grows to within a run."""
CONGESTION_CONTROL = "cubic"
"""What most servers have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """What the line does to packets.

    Attributes:
        there_ms: milliseconds from near to far.
        back_ms: milliseconds from far to near.
        loss_per_mille: packets lost in either direction, per thousand.
        seed: chooses which ones.
    """

    there_ms: float
    back_ms: float
    loss_per_mille: int = 0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A running line.

    Attributes:
        near: one end.
        far: the other end.
    """

    near: Place
    far: Place
    _process: Child

    def end(self) -> dict[str, dict[str, int]]:
        """Cuts the line; returns its counts for each direction (see `c/line.c`)."""
        counts: dict[str, dict[str, int]] = json.loads(self._process.last_line())
        return counts


@contextlib.contextmanager
def line(delay: Delay) -> Iterator[Line]:
    """A line for the duration of a block.

    Raises:
        RuntimeError: it could not be made, for example without root.
    """
    numbers = (delay.there_ms, delay.back_ms, delay.loss_per_mille, delay.seed, QUEUE_PACKETS)
    command = (str(build.program("line")), *map(str, numbers), CONGESTION_CONTROL)
    with child("line", *command, core=None) as process:
        pid, near, far = process.line().split()
        yield Line(Place("10.99.0.1", f"/proc/{pid}/fd/{near}"), Place("10.99.0.2", f"/proc/{pid}/fd/{far}"), process)


def skip_reason() -> str:
    """Why there can be no line here; empty if there can."""
    if build.skip_reason():
        return build.skip_reason()
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    if not shutil.which("nsenter"):
        return "nsenter is not installed"
    try:
        with line(Delay(there_ms=0, back_ms=0)) as made:
            made.end()
    except RuntimeError as error:
        return f"no network namespaces: {error}"
    return ""
