"""What a Lobby may do depending on its namespace: be served at all, at which path, with which Secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lobby_gateway.origin.secrets import secret_references
from lobby_gateway.resource.spec import Lobby, with_namespace_in_path
from lobby_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """The rules, the same for all namespaces.

    Attributes:
        namespaces: namespaces whose Lobbies are served; empty: all.
        prefix_paths: paths begin with the namespace.
        key_secrets: names of Secrets with keys of tokens, or of admission. No Lobby may refer to them: an origin is sent
            whatever a Lobby refers to, and whoever knows a key of tokens can enter every lobby that accepts it.
    """

    namespaces: frozenset[str] = frozenset()
    prefix_paths: bool = False
    key_secrets: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: OperatorSettings) -> Tenancy:
        """The rules of an operator."""
        return cls(
            namespaces=frozenset(settings.lobby_namespaces),
            prefix_paths=settings.prefix_paths,
            key_secrets=frozenset(
                {settings.master_secret, settings.pods.token_secret, settings.admission.secret} - {""}
            ),
        )

    def serves(self, namespace: str) -> bool:
        """Whether Lobbies of a namespace are served."""
        return not self.namespaces or namespace in self.namespaces

    def place(self, lobby: Lobby) -> Lobby:
        """The Lobby with the path at which it is served."""
        return with_namespace_in_path(lobby) if self.prefix_paths else lobby

    def own_path(self, path: str, namespace: str) -> str:
        """The path that a Lobby asked for, from that at which it is served."""
        return path.removeprefix(f"/{namespace}") if self.prefix_paths else path

    def problems(self, lobby: Lobby) -> list[str]:
        """References that are refused, one line each."""
        return [
            f"{field}.name: {name} holds keys of the operator; accepted: another Secret"
            for field, name in dict.fromkeys(_referenced_secrets(lobby))
            if name in self.key_secrets
        ]


def _referenced_secrets(lobby: Lobby) -> Iterator[tuple[str, str]]:
    """Field and name of each reference to a Secret."""
    for reference in secret_references(lobby.spec.origin):
        yield reference.field, reference.name
    for index, each in enumerate(lobby.spec.template.get("imagePullSecrets", ())):
        yield f"spec.template.imagePullSecrets[{index}]", each["name"]
