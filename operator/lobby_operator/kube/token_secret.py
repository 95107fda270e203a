"""The key of a namespace's tokens, where its lobbies mount it: a Secret in each namespace that has a Lobby.

The keys are derived from the master keys (`namespace_key`), which are in a file of this process and in no pod but those of
operators and greeters. It is watched (`process.py`), so that a new master key reaches all namespaces.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lobby_gateway.clients.token_key_file import read_keys
from lobby_gateway.clients.tokens import namespace_key
from lobby_gateway.errors import UserError
from lobby_operator.kube import names
from lobby_operator.kube.client import ApiError, KubeApi
from lobby_operator.kube.names import SECRETS
from lobby_operator.kube.owned_object import NameTakenError, OwnedObject
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LobbyControllerSettings


class TokenSecrets:
    """Writes the Secrets.

    Args:
        api: access to the API.
        name: name of the Secret, the same in each namespace.
        file: file with the master keys, as for a greeter.
        settings: when a Secret is written again.
    """

    def __init__(self, api: KubeApi, name: str, file: Path, settings: LobbyControllerSettings | None = None) -> None:
        self._api = api
        self._name = name
        self._file = file
        self._master_keys: tuple[bytes, ...] = ()
        self._settings = settings or LobbyControllerSettings()
        self._objects: dict[str, OwnedObject] = {}  # by namespace
        self._written: dict[str, tuple[str, float]] = {}
        self._clock = asyncio.get_running_loop().time

    async def ensure(self, namespace: str) -> None:
        """Writes the Secret of a namespace, unless that was done recently.

        Raises:
            RuntimeFailedError: it can't be written now.
        """
        text = "".join(f"{key.hex()}\n" for key in await self.keys_of(namespace))
        digest = hashlib.sha256(text.encode()).hexdigest()
        before, at = self._written.get(namespace, ("", 0.0))
        if before == digest and self._clock() < at + self._settings.resync_seconds:
            return
        secret = {
            "apiVersion": SECRETS.api_version,
            "kind": SECRETS.kind,
            "metadata": {
                "name": self._name,
                "namespace": namespace,
                "labels": names.TOKEN_SECRET_LABELS,
            },
            "type": "Opaque",
            "data": {names.TOKEN_KEY: base64.b64encode(text.encode()).decode()},
        }
        if namespace not in self._objects:
            self._objects[namespace] = OwnedObject(self._api, SECRETS, namespace, self._name, _is_ours)
        try:
            await self._objects[namespace].write(secret)
        except ApiError as error:
            raise RuntimeFailedError(f"can't write the Secret {self._name}: {error}") from error
        self._written[namespace] = (digest, self._clock())

    def replace(self, master_keys: tuple[bytes, ...]) -> None:
        """These are the keys in the file from now on."""
        self._master_keys = master_keys

    def forget(self, namespace: str) -> None:
        """Makes `ensure` write the Secret of a namespace again: it was deleted."""
        self._written.pop(namespace, None)

    @property
    def written(self) -> Sequence[str]:
        """The namespaces whose Secret was written, and not found to be deleted since."""
        return list(self._written)

    async def deleted(self, namespace: str) -> bool:
        """Whether the Secret of one of the `written` was deleted; then `ensure` writes it again.

        Raises:
            ApiError: it can't be read now.
        """
        try:
            stored = await self._objects[namespace].read()
        except NameTakenError:
            stored = None  # someone else's; `ensure` says so
        if stored is None:
            self.forget(namespace)
        return stored is None

    async def keys_of(self, namespace: str) -> tuple[bytes, ...]:
        """The keys of a namespace, in the order of the file, which is read here only before the first `replace`.

        Raises:
            RuntimeFailedError: the file contains no valid keys.
        """
        try:
            keys = self._master_keys or await asyncio.to_thread(read_keys, self._file)
        except UserError as error:
            raise RuntimeFailedError(str(error)) from error
        return tuple(namespace_key(key, namespace) for key in keys)


def _is_ours(metadata: Mapping[str, Any]) -> bool:
    """Whether a Secret was made by the chart or by an operator for this purpose."""
    return names.TOKEN_SECRET_LABELS.items() <= (metadata.get("labels") or {}).items()
