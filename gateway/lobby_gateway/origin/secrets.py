"""Secrets of an origin: the references in a Lobby, and their values filled in. `redaction.py` hides them in texts.

Each value belongs to a variable named after the Secret and its key: local mode passes its environment on; in Kubernetes
it is a file of that name mounted into the pod, which is updated with the Secret. One line end at the end of a value is left
out, wherever it is used: editors and `echo` add it. No text made here contains a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lobby_gateway.errors import MissingSecretError, UserError
from lobby_gateway.origin import dialogue as dialogues
from lobby_gateway.origin.dialogue import Dialogue, ReadSecret
from lobby_gateway.origin.expressions import RESERVED
from lobby_gateway.origin.requests import header_problem
from lobby_gateway.resource.spec import HttpSpec, OriginSpec, SecretKeyRef

TLS_CERTIFICATE_KEY = "tls.crt"
TLS_PRIVATE_KEY_KEY = "tls.key"
"""Keys of a Secret of type kubernetes.io/tls."""

_CA_FIELD = "spec.origin.tls.caSecretRef"
_CLIENT_FIELD = "spec.origin.tls.clientCertSecretRef"

ENVIRONMENT = "the environment variable {}"
"""Source of a value in local mode."""


def secret_variable(name: str, key: str) -> str:
    """The environment variable that holds key `key` of the Secret `name`: `LOBBY_SECRET_FEED_API_KEY`."""
    return "LOBBY_SECRET_" + re.sub("[^A-Z0-9]", "_", f"{name}_{key}".upper())


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A place in a Lobby that refers to a key of a Secret.

    Attributes:
        field: path of the reference: `spec.origin.headers[0].valueFrom.secretKeyRef`.
        name: name of the Secret.
        key: key in the Secret.
    """

    field: str
    name: str
    key: str

    @property
    def variable(self) -> str:
        """The environment variable that holds the value."""
        return secret_variable(self.name, self.key)

    @property
    def public(self) -> bool:
        """It refers to certificates, which everybody may see."""
        return self.field == _CA_FIELD or (self.field == _CLIENT_FIELD and self.key == TLS_CERTIFICATE_KEY)

    @property
    def where(self) -> str:
        """The key, for people."""
        return f"key {self.key} of Secret {self.name}"


def secret_references(origin: OriginSpec) -> tuple[SecretReference, ...]:
    """All references to Secrets, in the order of the fields, including duplicates."""
    return tuple(_references(origin))


def _references(origin: OriginSpec) -> Iterator[SecretReference]:
    yield from _named_references(origin, "spec.origin")
    for index, before in enumerate(origin.before_connect):
        yield from _named_references(before.http, f"spec.origin.beforeConnect[{index}].http")
    for index, step in enumerate(origin.on_connect):
        if step.http is not None:
            yield from _named_references(step.http, f"spec.origin.onConnect[{index}].http")
    for index, secret in enumerate(origin.secrets):
        ref = secret.secret_key_ref
        yield SecretReference(f"spec.origin.secrets[{index}].secretKeyRef", ref.name, ref.key)
    if origin.proxy is not None and (login := origin.proxy.credentials_secret_ref) is not None:
        yield SecretReference("spec.origin.proxy.credentialsSecretRef", login.name, login.key)
    if (ca := origin.tls.ca_secret_ref) is not None:
        yield SecretReference(_CA_FIELD, ca.name, ca.key)
    if (client := origin.tls.client_cert_secret_ref) is not None:
        for key in (TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY):
            yield SecretReference(_CLIENT_FIELD, client.name, key)


def _named_references(request: OriginSpec | HttpSpec, path: str) -> Iterator[SecretReference]:
    named = {"headers": request.headers, "query": request.query}
    for which, values in named.items():
        for index, each in enumerate(values):
            if each.value_from is not None:
                ref = each.value_from.secret_key_ref
                yield SecretReference(f"{path}.{which}[{index}].valueFrom.secretKeyRef", ref.name, ref.key)


def problems(origin: OriginSpec) -> tuple[tuple[str, str], ...]:
    """Errors in references and expressions that the CRD's rules cannot express, as (field, one line)."""
    return (*_names_of_expressions(origin), *dialogues.problems(origin), *_shared_variables(origin))


def _names_of_expressions(origin: OriginSpec) -> Iterator[tuple[str, str]]:
    """Secrets that would hide a variable of expressions, or that no expression could use."""
    for index, each in enumerate(origin.secrets):
        if each.name in RESERVED:
            accepted = f"accepted: a name other than {', '.join(sorted(RESERVED))}"
            yield f"spec.origin.secrets[{index}].name", f"{each.name!r} has a meaning in expressions; {accepted}"


def _shared_variables(origin: OriginSpec) -> Iterator[tuple[str, str]]:
    """Keys whose names differ only in characters that become `_`, and so would silently share one value."""
    seen: dict[str, SecretReference] = {}
    for each in secret_references(origin):
        other = seen.setdefault(each.variable, each)
        if (other.name, other.key) != (each.name, each.key):
            same = f"maps to the same variable, {each.variable}, as {other.name}/{other.key} of {other.field}"
            yield each.field, f"{each.name}/{each.key} {same}; accepted: names that differ in letters or digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOrigin:
    """An origin's values with secrets filled in. Its `repr` shows none of them.

    Attributes:
        values: those from Secrets, by the variables that hold them.
        dialogue: what is said to the origin, and how its messages are understood.
        ca_pem: CA certificates to verify the origin with; None: those of the system.
        client_certificate_pem: our certificate; None: no client certificate.
        client_key_pem: its private key.
        secrets: values that must never be shown: those from Secrets, but not certificates, and those of headers and query.
    """

    values: Mapping[str, str]
    dialogue: Dialogue
    ca_pem: str | None
    client_certificate_pem: str | None
    client_key_pem: str | None
    secrets: frozenset[str]

    def __repr__(self) -> str:
        return f"<ResolvedOrigin with {len(self.dialogue.steps)} steps and {len(self.secrets)} secrets>"


def resolve(origin: OriginSpec, environment: Mapping[str, str], *, place: str = ENVIRONMENT) -> ResolvedOrigin:
    """Fills in the secrets.

    Args:
        origin: the origin of a validated Lobby.
        environment: values by variable, as `os.environ`.
        place: where a value should be, for people; `{}` is its variable.

    Raises:
        MissingSecretError: values are missing or empty: one line each, with the field and the place.
        UserError: a value is not UTF-8 or not allowed where it is used, or a `send` text names an unknown secret.
    """
    references = secret_references(origin)
    environment = {each.variable: _without_line_end(environment.get(each.variable, "")) for each in references}
    if missing := [each for each in references if not environment[each.variable]]:
        raise MissingSecretError("\n".join(dict.fromkeys(_missing(each, place) for each in missing)))
    if binary := [each for each in references if not _is_text(environment[each.variable])]:
        raise UserError("\n".join(f"{each.field}: {each.where} is not UTF-8; accepted: UTF-8 text" for each in binary))
    if wrong := problems(origin):
        raise UserError("\n".join(f"{field}: {text}" for field, text in wrong))

    def read(reference: SecretKeyRef) -> str:
        return environment[secret_variable(reference.name, reference.key)]

    made = dialogues.dialogue(origin, read)
    for index, (name, value) in enumerate(made.handshake.headers if made.handshake else ()):
        if isinstance(value, str) and (problem := header_problem(name, value)):
            raise UserError(f"spec.origin.headers[{index}]: {problem}")
    tls = origin.tls
    ca, client = tls.ca_secret_ref, tls.client_cert_secret_ref
    values = {environment[each.variable] for each in references if not each.public}
    return ResolvedOrigin(
        values=environment,
        dialogue=made,
        ca_pem=environment[secret_variable(ca.name, ca.key)] if ca else None,
        client_certificate_pem=environment[secret_variable(client.name, TLS_CERTIFICATE_KEY)] if client else None,
        client_key_pem=environment[secret_variable(client.name, TLS_PRIVATE_KEY_KEY)] if client else None,
        secrets=frozenset(values | set(made.constants()) | set(_passwords(origin, read))),
    )


def _passwords(origin: OriginSpec, read: ReadSecret) -> Iterator[str]:
    """The proxy's password, which is only a part of a secret."""
    if origin.proxy is not None and origin.proxy.credentials_secret_ref is not None:
        password = read(origin.proxy.credentials_secret_ref).partition(":")[2]
        if password:
            yield password


def _missing(reference: SecretReference, place: str) -> str:
    return f"{reference.field}: {reference.where} is missing; accepted: a value in {place.format(reference.variable)}"


def _without_line_end(value: str) -> str:
    return value.removesuffix("\n").removesuffix("\r") if value.endswith("\n") else value


def _is_text(value: str) -> bool:
    """Whether it was UTF-8. Other bytes were decoded to surrogates (PEP 383), which nothing can encode."""
    return not any("\ud800" <= character <= "\udfff" for character in value)
