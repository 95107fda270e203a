"""Expressions of a Lobby's origin (CEL): compiled and checked once, evaluated on messages.

An expression sees the Lobby's secrets by their names and the variables below. It cannot loop without bound: CEL has no
loops, and of its macros over lists (`all`, `exists`, `map`, `filter`) one may be used, so that the time is proportional to
the size of a message. Regular expressions (`matches`) take linear time.

| variable | value |
| --- | --- |
| `msg` | the message as JSON; null if it is none, or nests deeper than 100 levels |
| `text` | its text; empty if it is binary |
| `data` | its bytes |
| `now`, `nowMillis` | seconds and milliseconds since 1970, whole numbers |
| `saved` | values captured from messages and answers, by name (`captured.py`) |
| `last` | the newest message that went to the clients as JSON; an empty map if there is none, or if it is not JSON |
| `http` | an answer to an HTTP call: `status`, and `json`, the body as JSON; null if it is none |
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.origin import json_web_tokens as tokens
from lobby_gateway.resource.cel_library import Program, cel
from lobby_gateway.resource.json_pointer import is_deeper
from lobby_gateway.settings import EXPRESSIONS
from lobby_gateway.websocket.frames import Batch, Opcode

ALWAYS: Final = frozenset({"now", "nowMillis", "saved", "last"})
"""Variables that every expression has, beside the secrets."""

OF_MESSAGE: Final = ALWAYS | {"msg", "text", "data"}
"""Variables of an expression that is evaluated on a message."""

OF_ANSWER: Final = ALWAYS | {"http"}
"""Variables of an expression that is evaluated on the answer to an HTTP call."""

_STANDARD: Final = frozenset(
    ("contains", "startsWith", "endsWith", "matches", "size", "string", "int", "uint", "double", "bytes", "type")
) | {"timestamp", "duration", "dyn"}
_TYPES: Final = frozenset(("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type"))
RESERVED: Final = OF_MESSAGE | OF_ANSWER | _TYPES | {"true", "false", "null", "in"}
"""Names that no secret may have: each means something in some expression."""

_MACRO: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_ASYMMETRIC: Final = re.compile("ES256|EdDSA")
_NAME: Final = re.compile("[A-Za-z]\\w*")
_FIELD: Final = re.compile(r"""\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*"([^"\\]*)"\s*\]|\[\s*'([^'\\]*)'\s*\])""")
_CALL: Final = re.compile(r"\s*\(")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_PLACE: Final = re.compile(r"<input>:(\d+):(\d+): ?(?:Syntax error: )?(.*)")

_OF_FUNCTION: Final = re.compile(
    r"Function '(\w+)' error: (?:Python function call failed: \w+: )?(.*?)\.?(?: Check function arguments.*)?$"
)
_UNDEFINED: Final = re.compile(r"Undefined variable or function: '(\w+)'")


class ExpressionError(LobbyGatewayError):
    """An expression does not compile, or has no value for a message. One line for people, without the message itself.

    Attributes:
        absent: what it looks at is not there.
        quotes: the line may quote a value, so it is to be redacted.
    """

    def __init__(self, line: str, *, absent: bool = False, quotes: bool = True) -> None:
        super().__init__(line)
        self.absent = absent
        self.quotes = quotes


Fields = dict[str, "Fields | None"]
"""The fields of an object that an expression looks at; None: all of a value."""


class Expression:
    """One compiled expression.

    Attributes:
        source: its text.
        signs: whether its value is a signature, or made of one.
        names: the variables that it uses.
        whole: those of `msg` and `last` that it looks at as a whole, rather than at fields that it names.
        uses_last: whether it looks at the newest message of the stream.
    """

    __slots__ = ("_constant", "_fields", "_functions", "_program", "names", "signs", "source", "uses_last", "whole")

    def __init__(self, source: str, variables: Collection[str], functions: Collection[str] | None = None) -> None:
        """Compiles it.

        Args:
            source: its text.
            variables: the names it may use.
            functions: those it may use beyond CEL's own; None: all.

        Raises:
            ExpressionError: it is too large, does not compile, or uses an unknown name: the place, and what is accepted.
        """
        from lobby_gateway.origin import expression_text  # noqa: PLC0415  most Lobbies have no expressions

        if problem := expression_text.problem(source):  # first: the library has no limits
            raise ExpressionError(problem)
        self.source = source
        bare = expression_text.blanked(source)
        self._program: Program = _translated(lambda: cel().compile(source))
        used = set(self._program.functions())
        self.signs = not used.isdisjoint({"digest", "hmac", "jwt"})
        self.names = frozenset(self._program.variables()) & frozenset(variables)
        self.uses_last = "last" in self.names
        # The library copies all that it is given, which takes longer than anything else.
        found = {name: _fields(source, bare, name) for name in self.names & {"msg", "last"}}
        self._fields = {name: fields for name, fields in found.items() if fields is not None}
        self.whole = found.keys() - self._fields.keys()
        if "jwt" in used and _ASYMMETRIC.search(source) is not None:
            tokens.prepare()  # now, in a thread, rather than on the event loop
        self._functions = {name: each for name, each in _FUNCTIONS.items() if name in used}
        for problem in self._problems(bare, variables, used, _FUNCTIONS.keys() if functions is None else functions):
            raise ExpressionError(problem)
        for call in expression_text.calls(source):
            if problem := _call_problem(call.name, call.arguments, call.first):
                raise ExpressionError(problem)
        # A pattern may take long to compile.
        self._constant = set(self._program.variables()) <= _TYPES and "matches" not in used

    def __repr__(self) -> str:
        return f"<Expression: {self.source[:60]}>"

    def value(self, variables: Mapping[str, object]) -> Any:  # noqa: ANN401  any value
        """Its value.

        Raises:
            ExpressionError: it has none: a field is missing, or has another type.
        """
        given = {name: variables[name] for name in self.names if name in variables}
        for name, fields in self._fields.items():
            if name in given:
                given[name] = _narrowed(given[name], fields)
        if not self._functions:
            return _translated(lambda: self._program.execute(given))
        return _translated(lambda: self._program.execute(cel().Context(given, self._functions)))

    def check_constant(self, check: Callable[[Any], object]) -> None:
        """Checks the value if it is always the same, so that what can never work is refused at once.

        Args:
            check: raises an `ExpressionError` for a value that cannot be used where the expression stands.

        Raises:
            ExpressionError: the value cannot be used, or there is none.
        """
        if self._constant:
            check(self.value({}))

    def holds(self, variables: Mapping[str, object]) -> bool:
        """Whether it is true. A message that lacks what it looks at, or has it in another type, is not what it means."""
        try:
            return self.value(variables) is True
        except ExpressionError:
            return False

    def _problems(
        self, bare: str, variables: Collection[str], used: Collection[str], functions: Collection[str]
    ) -> Iterator[str]:
        bound = _MACRO.findall(bare)
        if len(bound) > 1:
            yield "uses more than one of all, exists, exists_one, map and filter; accepted: one, to bound its time"
        for name in self._program.variables():
            if name not in variables and name not in bound and name not in _TYPES:
                yield f"{name} is unknown; accepted: {', '.join(sorted(variables))}"
        known = _STANDARD.union(functions)
        for name in sorted(used):
            if _NAME.fullmatch(name) and name not in known:
                yield f"{name}() is unknown; accepted: has, {', '.join(sorted(known))}"


_KINDS: Final = {str: "text", bytes: "bytes", bool: "a boolean", int: "a number", float: "a number"} | {
    list: "a list", dict: "a map", type(None): "null"
}  # fmt: skip


def kind_of(value: object) -> str:
    """What a value is, for people."""
    return _KINDS.get(type(value), type(value).__name__)


def as_condition(value: object) -> bool:
    """The value of an expression that must hold.

    Raises:
        ExpressionError: it is neither true nor false.
    """
    if not isinstance(value, bool):
        raise ExpressionError(f'the value is {kind_of(value)}; accepted: true or false, such as text == "ping"')
    return value


def as_json(value: object) -> str:
    """A value as JSON.

    Raises:
        ExpressionError: it is not JSON.
    """
    try:
        return _json(value)
    except ValueError:
        raise ExpressionError(f"the value is {kind_of(value)}; accepted: JSON") from None


def as_text(value: object) -> str:
    """A text as it is, anything else as JSON.

    Raises:
        ExpressionError: it is not JSON.
    """
    try:
        return value if isinstance(value, str) else as_json(value)
    except ExpressionError:
        accepted = "text, numbers, booleans, lists and maps"
        raise ExpressionError(f"the value is {kind_of(value)}; accepted: {accepted}") from None


def message_variables(batch: Batch, index: int, others: Mapping[str, object]) -> dict[str, object]:
    """The variables of an expression that is evaluated on a message of a batch; `others`: the secrets and the times."""
    data = bytes(batch.payload(index))
    text = data.decode(errors="replace") if batch.opcode(index) == Opcode.TEXT else ""
    return {"msg": parsed_json(text), "text": text, "data": data, **others}


def times(now: float) -> dict[str, object]:
    """The variables `now` and `nowMillis`, from the seconds since 1970."""
    return {"now": int(now), "nowMillis": int(now * 1000)}


def last_message(batch: Batch | None) -> object:
    """The variable `last`, from the newest messages of the stream: an object, since what is none has no fields to look at."""
    if batch is None or not len(batch):
        return {}
    index = len(batch) - 1
    if batch.opcode(index) != Opcode.TEXT:
        return {}
    parsed = parsed_json(bytes(batch.payload(index)).decode(errors="replace"))
    return parsed if isinstance(parsed, dict) else {}


def parsed_json(text: str) -> object:
    """What expressions see of a text that should be JSON; None if it is none, or nested too deep.

    Half a surrogate pair becomes a `?`.
    """
    try:
        parsed = json.loads(text)
        if text.count("[") + text.count("{") > EXPRESSIONS.json_depth and nests_too_deep(parsed):
            return None
        if _SURROGATE.search(text) is None:
            return parsed
        return json.loads(json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):  # not JSON, or nested absurdly deep
        return None


def nests_too_deep(value: object) -> bool:
    """Whether JSON is nested deeper than the library may be given: it copies and frees it recursively, on the C stack."""
    return is_deeper(value, EXPRESSIONS.json_depth)


def _fields(source: str, bare: str, variable: str) -> Fields | None:
    """The fields of a variable that an expression looks at; None: all of it. `bare`: see `expression_text.blanked`."""
    fields: Fields = {}
    for found in re.finditer(rf"\b{variable}\b", bare):
        path = _path(source, found.end())
        if not path:
            return None
        at: Fields | None = fields
        for name in path[:-1]:
            at = at.setdefault(name, {}) if at is not None else None
        if at is not None:
            at[path[-1]] = None
    return fields


def _path(source: str, at: int) -> list[str]:
    """The names of fields that follow in an expression: `.a["b"]`. The name of a method is none."""
    path: list[str] = []
    while (field := _FIELD.match(source, at)) is not None:
        dotted, *quoted = field.groups()
        at = field.end()
        if dotted and _CALL.match(source, at):
            break
        path.append(dotted or "".join(each or "" for each in quoted))
    return path


def _narrowed(value: object, fields: Fields) -> object:
    """Only those fields of an object."""
    if not isinstance(value, dict):
        return value
    found = ((name, value[name], below) for name, below in fields.items() if name in value)
    return {name: each if below is None else _narrowed(each, below) for name, each, below in found}


def _translated(call: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever it returns
    """Calls the library; what it raises becomes an `ExpressionError` of one line.

    It raises ordinary exceptions of many kinds, and a panic of its own, which is a BaseException.
    """
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except KeyError as error:
        raise ExpressionError(f"there is no field {_line(str(error))}", absent=True) from None
    except IndexError as error:
        raise ExpressionError(_line(str(error)), absent=True) from None
    except TypeError as error:  # names types alone
        raise ExpressionError(_line(str(error)), quotes=False) from None
    except BaseException as error:  # noqa: BLE001
        raise ExpressionError(_line(str(error))) from None


def _line(said: str) -> str:
    """What the library says, as one line: the place in the expression first."""
    if (of_function := _OF_FUNCTION.match(said)) is not None:
        name, problem = of_function.groups()
        return f"{name}(): {problem.removeprefix(f'{name}: ')}"
    if (unknown := _UNDEFINED.match(said)) is not None and unknown[1] in _STANDARD:  # all names are known
        return f"{unknown[1]}() does not take arguments of this number and type"
    found = _PLACE.search(said)
    if found is None:
        return said.split("\n", 1)[0].split(". ", maxsplit=1)[0].rstrip(".")
    line, column, problem = found.groups()
    where = f"character {column}" if line == "1" else f"line {line}, character {column}"
    problem = "ends too early" if "'<EOF>'" in problem else problem.split(" expecting ")[0]
    return f"{where}: {problem}; accepted: a CEL expression"


# Functions beyond CEL's own

_ALGORITHMS: Final = {"SHA256": "sha256", "SHA384": "sha384", "SHA512": "sha512"}


def _hex(data: bytes) -> str:
    return _only_bytes(data).hex()  # bytes(number) has that many


def _base64(data: bytes) -> str:
    return base64.b64encode(_only_bytes(data)).decode()


def _unbase64(text: str | bytes) -> bytes:
    try:
        return base64.b64decode(_bytes(text), validate=True)
    except binascii.Error:
        raise ValueError("the text is not base64 (RFC 4648 §4)") from None


def _hmac(algorithm: str, key: str | bytes, data: str | bytes) -> bytes:
    return hmac.digest(_bytes(key), _bytes(data), _algorithm(algorithm))


def _jwt(algorithm: str, key: str | bytes, claims: object, headers: object = None) -> str:
    return tokens.signed(algorithm, _bytes(key), claims, headers if isinstance(headers, dict) else {})


def _digest(algorithm: str, data: str | bytes) -> bytes:
    return hashlib.new(_algorithm(algorithm), _bytes(data)).digest()


def _algorithm(name: str) -> str:
    if name not in _ALGORITHMS:
        raise ValueError(f"{str(name)[:20]} is not an algorithm; accepted: {', '.join(_ALGORITHMS)}")
    return _ALGORITHMS[name]


def _bytes(value: str | bytes) -> bytes:
    if not isinstance(value, str | bytes):
        raise TypeError("a value is neither text nor bytes")
    return value.encode() if isinstance(value, str) else value


def _only_bytes(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("the value is not bytes")
    return value


def _uuid() -> str:
    import uuid  # noqa: PLC0415  # hardly any Lobby needs it

    return str(uuid.uuid4())


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise ValueError("the value is not JSON") from None


def _parse_json(text: str | bytes) -> object:
    try:
        parsed = json.loads(text if isinstance(text, str) else _bytes(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        raise ValueError("the text is not JSON") from None
    if nests_too_deep(parsed):
        raise ValueError(_TOO_DEEP)
    return parsed


_TOO_DEEP: Final = f"the text nests deeper than {EXPRESSIONS.json_depth} levels"

_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "hmac": _hmac,
    "jwt": _jwt,
    "digest": _digest,
    "uuid": _uuid,
    "hex": _hex,
    "base64": _base64,
    "unbase64": _unbase64,
    "json": _json,
    "parseJson": _parse_json,
}
_ACCEPTED_FIRST: Final[Mapping[str, Collection[str]]] = {
    "hmac": _ALGORITHMS,
    "digest": _ALGORITHMS,
    "jwt": tokens.ALGORITHMS,
}


def _call_problem(name: str, texts: Sequence[str], first: str | None) -> str:
    """Why a call is refused; empty if it is not.

    Args:
        name: the function.
        texts: its arguments, see `expression_text.Call`.
        first: the first of them if it is a constant text.
    """
    arguments = len(texts)
    if name == "matches" and texts:  # some patterns take gigabytes
        most = EXPRESSIONS.pattern_characters
        if not texts[-1]:  # an origin should not choose one
            return f"matches(): the pattern is not a constant text; accepted: at most {most} characters"
        if len(texts[-1]) > most:
            return f"matches(): the pattern has {len(texts[-1])} characters; accepted: at most {most}"
    if name not in _FUNCTIONS:
        return ""
    function = _FUNCTIONS[name]
    takes = function.__code__.co_varnames[: function.__code__.co_argcount]
    least = len(takes) - len(function.__defaults__ or ())
    if not least <= arguments <= len(takes):
        shown = ", ".join(takes[:least]) + "".join(f"[, {each}]" for each in takes[least:])
        return f"{name}() is given {arguments} argument{'' if arguments == 1 else 's'}; accepted: {name}({shown})"
    accepted = _ACCEPTED_FIRST.get(name, ())
    if accepted and first is not None and first not in accepted:
        return f"{name}(): {first[:20]} is not an algorithm; accepted: {', '.join(accepted)}"
    return ""
