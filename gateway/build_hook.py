"""Hatchling build hook: compiles the send loop (`lobby_gateway/clients/_send_all.c`) if there is a C compiler.

Compiling is optional: without a compiler or Python's headers, the build is pure Python and just as complete. An editable
installation puts the compiled module into the source tree, where git ignores it.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

PACKAGE = "lobby_gateway/clients"
MODULE = "_send_all"
COMPILED = f"{MODULE}.abi3.so"
TAG = "cp311-abi3"  # the stable ABI the C file requests


class SendLoopHook(BuildHookInterface[Any]):
    """Adds the compiled send loop to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return  # a source distribution contains the C file
        package = Path(self.root) / "gateway" / PACKAGE
        if version == "editable":
            compile_into(package, package)
            return
        self._folder = TemporaryDirectory()
        compiled = compile_into(Path(self._folder.name), package)
        if compiled is not None:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"{TAG}-{platform}"
            build_data["force_include"][str(compiled)] = f"{PACKAGE}/{COMPILED}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after each build."""
        if self.target_name == "wheel" and version != "editable":
            self._folder.cleanup()


def compile_into(folder: Path, package: Path) -> Path | None:
    """Compiles a package's module; returns its path, or None if it cannot be compiled here (setuptools says why)."""
    compiled = folder / COMPILED
    compiled.unlink(missing_ok=True)  # otherwise a stale one would be used if compiling fails
    extension = Extension(MODULE, [str(package / f"{MODULE}.c")], py_limited_api=True, optional=True)
    with TemporaryDirectory() as temporary:
        command = build_ext(Distribution({"ext_modules": [extension]}))
        command.build_lib, command.build_temp = str(folder), temporary
        command.ensure_finalized()
        command.run()
    return compiled if compiled.exists() else None
