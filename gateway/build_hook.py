"""Hatchling build hook: compiles the hot loops (`MODULES`) if there is a C compiler.

Compiling is optional: without a compiler or Python's headers, the build is pure Python and just as complete. An editable
installation puts the compiled modules into the source tree, where git ignores it.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext

MODULES = ("lobby_gateway/clients/_send_all", "lobby_gateway/origin/_literals")
SUFFIX = ".abi3.so"
TAG = "cp311-abi3"  # the stable ABI the C files request


class CompiledLoops(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before each build; `version` is "standard" or "editable"."""
        if self.target_name != "wheel":
            return  # a source distribution contains the C file
        sources = {module: Path(self.root) / "gateway" / f"{module}.c" for module in MODULES}
        if version == "editable":
            for source in sources.values():
                compile_into(source.parent, source)
            return
        self._folder = TemporaryDirectory()
        for module, source in sources.items():
            compiled = compile_into(Path(self._folder.name), source)
            if compiled is not None:
                platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
                build_data["pure_python"] = False
                build_data["tag"] = f"{TAG}-{platform}"
                build_data["force_include"][str(compiled)] = f"{module}{SUFFIX}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after each build."""
        if self.target_name == "wheel" and version != "editable":
            self._folder.cleanup()


def compile_into(folder: Path, source: Path) -> Path | None:
    """Compiles a module; returns its path, or None if it cannot be compiled here (setuptools says why)."""
    compiled = folder / f"{source.stem}{SUFFIX}"
    compiled.unlink(missing_ok=True)  # otherwise a stale one would be used if compiling fails
    extension = Extension(source.stem, [str(source)], py_limited_api=True, optional=True)
    with TemporaryDirectory() as temporary:
        command = build_ext(Distribution({"ext_modules": [extension]}))
        command.build_lib, command.build_temp = str(folder), temporary
        command.ensure_finalized()
        command.run()
    return compiled if compiled.exists() else None
