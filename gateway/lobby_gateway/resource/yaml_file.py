"""Reads a YAML or JSON file into JSON types, strictly, with one-line errors that name the place.

Stricter than PyYAML: duplicate keys, keys that are not strings, and a second document are refused. Numbers and times are read
as in Kubernetes, so that a file means the same here as with `kubectl apply`. Errors contain no value of the file, since it may
be a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml

from lobby_gateway.errors import InvalidLobbyError

MAX_BYTES: Final = 1_048_576
"""More than any Lobby needs, and about the largest object that Kubernetes stores (1.5 MiB in etcd)."""

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 10_000
"""Keys and values, including those that aliases and merge keys repeat. A Lobby that uses every field to its limits has about
2,000; this many take half a second to read."""

MAX_DIGITS: Final = 100
"""Characters of an integer. Every field of a Lobby is far below 2^63; Python refuses to read more than 4,300 digits."""

_MAX_PROBLEM: Final = 200
"""Characters of what PyYAML says about a file, which may quote a tag or alias of any length."""


_NAMES: Final = re.compile(r"(undefined alias|for the tag|tag handle) '(?!tag:yaml\.org,).*'", re.DOTALL)
"""The names of aliases and tags in PyYAML's errors: they may be texts, such as passwords, that should have been in quotes."""

_QUOTE: Final = "accepted: plain values (put text that begins with * or ! in quotes)"


def read_document(path: Path) -> object:
    """The one document of a file, as dicts with string keys, lists, strings, numbers, booleans and None.

    Raises:
        InvalidLobbyError: the file cannot be read, or does not contain exactly one valid document.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _invalid(path, f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise _invalid(path, f"is larger than {MAX_BYTES} bytes; accepted: a Lobby resource in YAML or JSON")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(path, f"is not UTF-8 text (byte {error.start}); accepted: YAML or JSON") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> object:
    """The one document of a text, see `read_document`.

    Raises:
        InvalidLobbyError: the text is not exactly one valid document.
    """
    try:
        # _Loader is a SafeLoader: it creates plain values only.
        documents = list(islice((each for each in yaml.load_all(text, _Loader) if each is not None), 2))
        if len(documents) != 1:
            found = "contains more than one document" if documents else "is empty"
            raise _invalid(source, f"{found}; accepted: one Lobby resource")
        return _plain(documents[0], source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = _NAMES.sub(rf"\1; {_QUOTE}", str(error.problem or error.context))
        if error.context == "while scanning an alias":
            problem = f"{problem}; {_QUOTE}"
        shortened = problem if len(problem) <= _MAX_PROBLEM else f"{problem[:_MAX_PROBLEM]}..."
        raise _invalid(source, f"{where}{shortened}") from error
    except yaml.reader.ReaderError as error:
        what = f"contains the character U+{_code(error):04X} at {error.position}"
        raise _invalid(source, f"{what}; accepted: YAML or JSON") from error
    except RecursionError as error:
        raise _invalid(source, f"is nested too deeply; accepted: at most {MAX_DEPTH} levels") from error


def _invalid(source: object, text: str) -> InvalidLobbyError:
    return InvalidLobbyError((f"{source}: {text}",))


def _code(error: yaml.reader.ReaderError) -> int:
    # PyYAML gives the code point if its input is a str, as here; its stubs assume bytes.
    return error.character if isinstance(error.character, int) else ord(error.character)


_TOO_MANY = f"there are more than {MAX_VALUES} keys and values; accepted: a Lobby resource"


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys and keys that are not strings, and stops early at the limits above."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._nodes = 0
        self._merged = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        if self._nodes > MAX_VALUES:
            raise yaml.composer.ComposerError(problem=_TOO_MANY, problem_mark=self.get_mark())
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # PyYAML calls this for every mapping that a merge key names, before it copies the keys of that.
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > MAX_VALUES:
            raise yaml.constructor.ConstructorError(problem=_TOO_MANY, problem_mark=node.start_mark)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(
                problem=f"an integer has {len(node.value)} digits; accepted: at most {MAX_DIGITS}",
                problem_mark=node.start_mark,
            )
        return super().construct_yaml_int(node)

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803  PyYAML's name
        if self.flow_level > MAX_DEPTH:  # the scanner's time grows with the square of the depth
            raise RecursionError
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    problem="a key is not a string; accepted: a string (put it in quotes)",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key[:60]!r} is duplicated; accepted: unique keys",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

# Unlike in YAML 1.1, times stay strings (JSON has none), 1:30 is not a number, and 1e3 is one.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)\Z"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
               r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"),
    list("-+.0123456789"),
)  # fmt: skip


class _Budget:
    def __init__(self) -> None:
        self.values = MAX_VALUES


def _plain(value: object, source: str, depth: int = 0, budget: _Budget | None = None) -> object:
    """A copy of JSON types only; what only YAML has (dates, sets, bytes, recursion) is refused."""
    budget = budget or _Budget()
    budget.values -= 1
    if budget.values < 0:
        raise _invalid(source, _TOO_MANY)
    if depth >= MAX_DEPTH and isinstance(value, (dict, list)):
        raise _invalid(source, f"is nested too deeply; accepted: at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {_text(key, source): _plain(each, source, depth + 1, budget) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, source, depth + 1, budget) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(source, f"contains the number {value}; accepted: JSON numbers")
    if isinstance(value, str):
        return _text(value, source)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise _invalid(source, f"contains a value of the YAML type {type(value).__name__}; accepted: JSON types")


def _text(value: str, source: str) -> str:
    """Joins surrogate pairs: JSON writes a character beyond U+FFFF as two escapes (RFC 8259 §7), which YAML does not join."""
    try:
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        problem = "contains an unpaired surrogate (an escape such as \\ud800 alone); accepted: Unicode text"
        raise _invalid(source, problem) from error
