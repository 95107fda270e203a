"""The library for CEL: only its compiled module, and only when an expression is compiled.

Importing the package whole would import its command line, too: 30 MiB, and packages that no image of ours has.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any, Protocol

_NAME = "cel.cel"


class Program(Protocol):
    """A compiled expression."""

    def execute(self, context: Any = None) -> Any:  # noqa: ANN401  any value
        """Its value, from variables by name, or from a `Context` with functions, too."""

    def variables(self) -> list[str]:
        """Names that it uses, including those that macros bind."""

    def functions(self) -> list[str]:
        """Functions and operators that it uses."""


@cache
def cel() -> Any:  # noqa: ANN401  a compiled module
    """The module: `compile(source)`, `Context(variables, functions)`.

    Raises:
        ModuleNotFoundError: the package common-expression-language is not installed.
    """
    if (loaded := sys.modules.get(_NAME)) is not None:
        return loaded
    package = find_spec("cel")
    found = PathFinder.find_spec(_NAME, package.submodule_search_locations if package is not None else [])
    if found is None or found.loader is None:
        raise ModuleNotFoundError("no module for CEL; install common-expression-language", name="cel")
    module = module_from_spec(found)
    # It logs what expressions raise, with values in it, for each message: they are false then, or an error that we report.
    logging.getLogger("cel").setLevel(logging.CRITICAL)
    sys.modules[_NAME] = module  # it can be initialized once only; a later `import cel` takes this one
    found.loader.exec_module(module)
    return module
