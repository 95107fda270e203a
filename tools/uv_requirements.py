"""Renders requirements-uv.txt: uv with its hashes, from uv.lock, for pip to install before there is a uv."""

from __future__ import annotations

from tools.lock import export

_HEAD = """\
# uv, which installs everything else. Generated from uv.lock (`make docs`); its version is in the group `uv` of pyproject.toml.
"""


def render() -> str:
    """The text of the file."""
    return _HEAD + export("--only-group", "uv", "--no-header")
