"""Compiles the C programs into `.cache/benchmarks`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.processes import ROOT

SOURCES = Path(__file__).parent / "c"
CACHE = ROOT / ".cache" / "benchmarks"
_PROGRAMS = {
    "load": ("load.c", "clients.c", "origin.c", "net.c"),
    "far": ("far.c", "clients.c", "origin.c", "net.c"),
    "fan_out": ("fan_out.c", "net.c"),
    "line": ("line.c",),
}
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-pthread")


def skip_reason() -> str:
    """Why nothing can be measured here; empty if it can."""
    return "" if shutil.which("gcc") else "gcc is not installed"


def program(name: str) -> Path:
    """A compiled program; rebuilt if a source is newer.

    Raises:
        subprocess.CalledProcessError: compiling failed.
    """
    target = CACHE / name
    newest = max(source.stat().st_mtime for source in SOURCES.iterdir())
    if not target.exists() or target.stat().st_mtime < newest:
        CACHE.mkdir(parents=True, exist_ok=True)
        sources = [str(SOURCES / each) for each in _PROGRAMS[name]]
        subprocess.run(["gcc", *_FLAGS, "-o", str(target), *sources], check=True)
    return target
