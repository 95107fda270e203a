"""The release before this one: its chart and images, from the repository's history."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.cluster.support.environment import ROOT
from tests.cluster.support.images import Images

COMMIT = "c87f730"
"""The last one that landed before the chart got defaults of lobbies, common labels and registries."""


def checked_out(folder: Path) -> Path:
    """The source of the previous release, in an empty folder; skips the test if this copy of the repository has no history."""
    git = shutil.which("git")
    archive = folder / "source.tar"
    command = [git or "git", "archive", f"--output={archive}", COMMIT]
    if git is None or subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip(f"no commit {COMMIT} here: this is a copy without history")
    source = folder / "source"
    with tarfile.open(archive) as files:
        files.extractall(source, filter="data")
    return source


def images(source: Path) -> Images:
    """The images of the previous release, on every node."""
    made = Images(tag=f"of-{COMMIT}")
    made.build(source)
    return made
