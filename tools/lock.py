"""What uv says about uv.lock; needs no network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def export(*options: str) -> str:
    """The output of `uv export`."""
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), "export", "--frozen", "--quiet", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout
