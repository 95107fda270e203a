"""Validates and defaults a Lobby resource with the CRD itself: `lobby up -f` accepts what `kubectl apply` accepts.

`python -m lobby_gateway.resource.schema FILE` prints the defaulted resource as JSON, for processes that must stay small: the
imports of this module take 40 MiB, so no module of a lobby or greeter may import it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from lobby_gateway.errors import InvalidLobbyError, UserError
from lobby_gateway.origin import secrets
from lobby_gateway.resource import cel_rules, structural_schema, yaml_file
from lobby_gateway.resource.json_pointer import is_deeper, is_pointer
from lobby_gateway.resource.spec import LobbySpec, lobby_from_resource
from lobby_gateway.resource.structural_schema import Problem
from lobby_gateway.settings import KEPT
from lobby_gateway.trunk.identity import identity_of
from lobby_gateway.websocket.proxy import proxy_of

_HERE: Final = Path(__file__).resolve()

# In a wheel it is next to this module, in a checkout at the top.
_CRD_FILES: Final = (_HERE.with_name("lobbies.yaml"), *(up / "crds" / "lobbies.yaml" for up in _HERE.parents[3:4]))

_METADATA: Final = (
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName",
    "generation", "labels", "managedFields", "name", "namespace", "ownerReferences", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
"""Fields of ObjectMeta, which the API server knows and a CRD does not list."""


@cache
def crd() -> Mapping[str, Any]:
    """The CustomResourceDefinition `lobbies.lobby-gateway.io`. Do not modify it.

    Raises:
        FileNotFoundError: the package is incomplete.
    """
    file = next((each for each in _CRD_FILES if each.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"lobbies.yaml is missing from the package; tried {', '.join(map(str, _CRD_FILES))}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: Mapping[str, Any] = yaml.load(file.read_text(encoding="utf-8"), loader)  # noqa: S506  both are safe
    return loaded


def open_api_schema() -> Mapping[str, Any]:
    """The OpenAPI schema of a Lobby, from the CRD."""
    (version,) = crd()["spec"]["versions"]
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def api_version() -> str:
    """`lobby-gateway.io/v1alpha1`."""
    (version,) = crd()["spec"]["versions"]
    return f"{crd()['spec']['group']}/{version['name']}"


def validate_and_default(document: object, source: str) -> dict[str, Any]:
    """Validates a whole resource and fills in the defaults. `status` is dropped, as by the API server.

    Args:
        document: the resource as JSON types.
        source: where it came from; each line of an error starts with it.

    Raises:
        InvalidLobbyError: the resource is invalid, with one line per problem.
    """
    if not isinstance(document, dict):
        raise InvalidLobbyError((f"{source}: is not a mapping; accepted: a Lobby resource",))
    found = list(_identity_problems(document))
    if found:  # another kind of resource: its fields would all be unknown
        raise _invalid(source, found)
    schema = open_api_schema()
    resource: dict[str, Any] = structural_schema.defaulted(
        schema, {key: value for key, value in document.items() if key != "status"}
    )
    metadata = resource.get("metadata", {})
    checked = resource
    if isinstance(metadata, dict):
        resource["metadata"] = metadata = {key: value for key, value in metadata.items() if value is not None}
        found += _metadata_problems(metadata)
        # The CRD knows only the name; the rest of the metadata is checked above.
        checked = {**resource, "metadata": {key: metadata[key] for key in ("name",) if key in metadata}}
    found += structural_schema.problems(schema, checked)
    found += cel_rules.violations(schema, checked, [problem.path for problem in found])
    if not found:
        found += _problems_beyond_crd(resource)
    if found:
        raise _invalid(source, found)
    return resource


def default_stored(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the defaults of a resource that an API server has validated, and checks what an API server cannot.

    It may have been stored with an older or newer CRD: fields that are unknown here are ignored, and missing ones get their
    defaults. `status` is dropped.

    Raises:
        InvalidLobbyError: the resource is invalid, with one line per problem.
    """
    if is_deeper(document, yaml_file.MAX_DEPTH):  # an API server accepts 10,000 levels; what follows is recursive
        raise InvalidLobbyError((f"is nested too deeply; accepted: at most {yaml_file.MAX_DEPTH} levels",))
    resource: dict[str, Any] = structural_schema.defaulted(
        open_api_schema(), {key: value for key, value in document.items() if key != "status"}
    )
    if found := tuple(map(str, _problems_beyond_crd(resource))):
        raise InvalidLobbyError(found)
    return resource


def load_file(path: str | Path) -> dict[str, Any]:
    """Reads, validates and defaults a YAML or JSON file with one Lobby.

    Raises:
        InvalidLobbyError: the file is invalid, with one line per problem, each starting with the path.
    """
    path = Path(path)
    return validate_and_default(yaml_file.read_document(path), str(path))


def default_lobby(
    name: str, origin_url: str, *, source: str = "command line", spec: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A validated and defaulted Lobby from a name and a URL, for `lobby up --origin`.

    Args:
        name: name of the Lobby.
        origin_url: URL of its origin.
        source: start of each line of an error.
        spec: more fields, as in a file: `{"clients": {"seats": 5}}`.

    Raises:
        InvalidLobbyError: see `validate_and_default`.
    """
    fields = {**(spec or {})}
    fields["origin"] = {**fields.get("origin", {}), "url": origin_url}
    document = {"apiVersion": api_version(), "kind": "Lobby", "metadata": {"name": name}, "spec": fields}
    return validate_and_default(document, source)


def _invalid(source: str, problems: Sequence[Problem]) -> InvalidLobbyError:
    return InvalidLobbyError(tuple(dict.fromkeys(f"{source}: {problem}" for problem in problems)))


def _identity_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    for field, expected in (("apiVersion", api_version()), ("kind", "Lobby")):
        given = document.get(field)
        if given is None:
            yield Problem((field,), f"missing; accepted: {expected}")
        elif given != expected:
            yield Problem((field,), f"{structural_schema.describe(given, {})} is not supported; accepted: {expected}")


def _metadata_problems(metadata: Mapping[str, Any]) -> Iterator[Problem]:
    for key in metadata:
        if key not in _METADATA:
            yield Problem(("metadata", key), f"unknown field; accepted: {', '.join(_METADATA)}")
    if "name" not in metadata:
        name = open_api_schema()["properties"]["metadata"]["properties"]["name"]
        yield Problem(("metadata", "name"), f"missing; accepted: {structural_schema.accepted(name)}")
    for key in ("labels", "annotations"):
        values = metadata.get(key, {})
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            yield Problem(("metadata", key), "is not a mapping of strings; accepted: strings (put numbers in quotes)")


def _problems_beyond_crd(resource: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems that neither a schema nor CEL can express: addresses, expressions, and keys that are JSON pointers."""
    spec: LobbySpec = lobby_from_resource(resource).spec
    try:
        urlsplit("" if "$(" in spec.origin.url else spec.origin.url)  # what an expression gives is checked later
    except ValueError:
        wrong = f"{structural_schema.describe(spec.origin.url, {})} has a host that is not an address"
        yield Problem(("spec", "origin", "url"), f"{wrong}; accepted: an IPv6 address in the brackets")
    if spec.origin.proxy is not None:
        try:
            proxy_of(spec.origin.proxy.url, where="")
        except UserError:  # its text leaves the URL out, which may be of the environment
            described = structural_schema.describe(spec.origin.proxy.url, {})
            yield Problem(
                ("spec", "origin", "proxy", "url"),
                f"{described} is not the URL of an HTTP proxy; accepted: http://host:port",
            )
    if len(names := spec.origin.keeps) > KEPT.messages:
        yield Problem(
            ("spec", "origin"),
            f"keeps messages under {len(names)} names (keep); accepted: at most {KEPT.messages} different ones",
        )
    for field, text in secrets.problems(spec.origin):
        yield Problem((), f"{field}: {text}")
    try:
        identity_of(spec.origin.identity)
    except ValueError as error:
        yield Problem(("spec", "origin", "identity"), str(error))
    for index, step in enumerate(spec.origin.on_connect):
        for pointer in step.expect.json if step.expect else ():
            if not is_pointer(pointer):
                path = ("spec", "origin", "onConnect", index, "expect", "json", pointer)
                yield Problem(
                    path,
                    "is not a JSON pointer; accepted: /name/0/name (~1 for '/', ~0 for '~'), or '' for the whole message",
                )


def main(arguments: Sequence[str]) -> int:
    """Prints the defaulted JSON of a file; problems go to stderr, one line each.

    Returns:
        The exit code: 2 for bad input.
    """
    if len(arguments) != 1:
        sys.stderr.write(
            "python -m lobby_gateway.resource.schema: expected one argument; accepted: a file with a Lobby\n"
        )
        return 2
    try:
        resource = load_file(arguments[0])
    except InvalidLobbyError as error:
        sys.stderr.write("".join(f"{line}\n" for line in error.problems))
        return 2
    json.dump(resource, sys.stdout, separators=(",", ":"))  # ASCII, for any locale
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
