"""Measures the tree: `python tools/structure.py [ROOT]` prints two tables. It works on earlier layouts, too.

The second table counts the files and folders that a reader has to open for one concern. A concern is a list of classes and
functions that implement it; where a name has changed, `Old|New` gives both.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("gateway/lobby_gateway", "operator/lobby_operator")

CONCERNS: Mapping[str, str] = {
    "origin": (
        "OriginSession ImpossibleSignalError BeginEpoch OriginScript Keepalive Redactor ResolvedOrigin OriginConnection "
        "origin_context OriginValues|EnvironmentSecrets ClientHandshake WebSocketClient dial Backoff"
    ),
    "trunk": (
        "TrunkHolder|TrunkServer TrunkConsumer TrunkHolderConnection|TrunkServerConnection TrunkConsumerConnection "
        "MessageRing Position TrunkError WireRecord Welcome Trunk"
    ),
    "admission": (
        "Door|ProcessCapacity Turnstile|Permit Admission AddressLimits|Admission RateLimiter LobbyGate|LobbyHandshakes "
        "Gate|HandshakeHandler origin_allowed "
        "TrustedProxies UsedTokens TokenKeys"
    ),
    "a Lobby change becoming a pod": (
        "Informer|Watch Lobbies|LobbyRegistry Host|ControllerManager Care|LobbyController Worker|Reconciler PlannerSpec plan "
        "Draft|PlanBuilder act KubeRuntime pod_manifest config_map"
    ),
    "a dead lobby's clients moving": (
        "TrunkConsumerConnection Trunk LobbyService regroup Place|ClientSeat Candidates|SeatQueue KnownLobby|LobbyView "
        "MessageRing"
    ),
}
"""Names of classes and functions by concern."""

OTHER_MEANINGS = frozenset(
    {
        "local/host.py:Host",
        "kube/lobby_registry.py:KnownLobby",
        "local/terminal.py:LobbyView",
        "protocol/trunk_types.py:Place",
    }
)
"""Definitions of an earlier layout that share a name with the class that is meant."""


def files(root: Path) -> dict[str, Path]:
    """The files of the packages by dotted name of the module; a package has the name of its folder."""
    found = {}
    for package in PACKAGES:
        base = (root / package).parent
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def lines(path: Path) -> int:
    """Number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(tree: ast.Module, known: Mapping[str, Path]) -> set[str]:
    """Names of the known modules that a module imports, anywhere in its code."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # `from package import module` imports the module, `from module import name` what the name is in.
            found |= {name if (name := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return found & known.keys()


def definitions(root: Path) -> dict[str, list[str]]:
    """Where each top-level class and function is defined: paths of files below the packages."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in files(root).values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name].append(path.relative_to(root).as_posix())
    return found


def totals(root: Path) -> Iterator[tuple[str, str]]:
    """Rows of the table of sizes and imports."""
    known = files(root)
    importers: dict[str, set[str]] = defaultdict(set)
    for name, path in known.items():
        for imported in imports(ast.parse(path.read_text(encoding="utf-8")), known) - {name}:
            importers[imported].add(name)
    modules = [name for name, path in known.items() if path.name != "__init__.py"]
    sizes = {name: lines(path) for name, path in known.items()}
    medium = [name for name in modules if 100 <= sizes[name] <= 400]
    once = [name for name in modules if len(importers[name]) == 1]
    yield "modules", f"{len(modules)}"
    yield "modules with `__init__`", f"{len(known)}"
    yield "lines", f"{sum(sizes.values()):,}"
    yield "median lines", f"{statistics.median(sizes[name] for name in modules):g}"
    yield "modules of 100 to 400 lines", f"{len(medium) / len(modules):.0%}"
    yield "modules imported by only one other", f"{len(once)}"


def concerns(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table of concerns."""
    defined = definitions(root)
    for concern, names in CONCERNS.items():
        found: set[str] = set()
        missing = []
        for alternatives in names.split():
            places = {
                path
                for name in alternatives.split("|")
                for path in defined.get(name, ())
                if not any(path.endswith(other) for other in _other_files(name))
            }
            found |= places
            if not places:
                missing.append(alternatives)
        folders = sorted({str(Path(path).parent.relative_to(Path(path).parts[0])) for path in found})
        yield concern, str(len(found)), f"{len(folders)}: {', '.join(folders)}", ", ".join(missing)


def _other_files(name: str) -> list[str]:
    return [file for file, _, other in (each.partition(":") for each in OTHER_MEANINGS) if other == name]


def _table(*rows: tuple[str, ...]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in body)
    yield ""


def render(root: Path) -> str:
    """Both tables, as Markdown.

    Args:
        root: folder of a checkout.
    """
    sizes = _table(("measure", "value"), *totals(root))
    return "\n".join([*sizes, *_table(("concern", "files", "folders", "not found"), *concerns(root))])


if __name__ == "__main__":
    sys.stdout.write(render(Path(*sys.argv[1:2]) if sys.argv[1:] else Path(__file__).resolve().parents[1]))
