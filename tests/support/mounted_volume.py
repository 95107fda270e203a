"""A folder like a ConfigMap or Secret volume of a kubelet: links through `..data`, which is replaced atomically."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path


class MountedVolume:
    """A mounted ConfigMap or Secret.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, **files: str) -> None:
        self.path = path
        self._versions = count(1)
        path.mkdir()
        self.replace(**files)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def replace(self, **files: str) -> None:
        """Replaces all files atomically; `lobby__json` becomes `lobby.json`."""
        named = {name.replace("__", "."): text for name, text in files.items()}
        data = self.path / "..data"
        before = data.resolve() if data.is_symlink() else None
        version = self.path / f"..version_{next(self._versions)}"
        version.mkdir()
        for name, text in named.items():
            (version / name).write_text(text)
        link = self.path / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(data)
        for name in named:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(Path("..data") / name)
        for each in self.path.iterdir():
            if each.is_symlink() and each.name != "..data" and each.name not in named:
                each.unlink()
        if before is not None:
            shutil.rmtree(before)
