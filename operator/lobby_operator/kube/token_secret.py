"""The key that signs seat tokens, where lobbies need it: a Secret in each namespace that has a Lobby.

Only for an operator of all namespaces; in a single namespace lobbies use the chart's Secret. The value comes from a file of
this process, which is read again each time, so that a new key reaches all namespaces. No Secret is ever read from the API.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

from lobby_gateway.clients.tokens import key_from_hex
from lobby_gateway.errors import UserError
from lobby_operator.kube import names
from lobby_operator.kube.client import ApiError, KubeApi
from lobby_operator.kube.names import SECRETS
from lobby_operator.reconcile.runtime import RuntimeFailedError
from lobby_operator.settings import LobbyControllerSettings


class TokenSecret:
    """Writes the Secret.

    Args:
        api: access to the API.
        name: name of the Secret.
        file: file with the key, in hex.
        own_namespace: namespace whose Secret the chart manages; it is never written.
        settings: when the Secret is written again.
    """

    def __init__(
        self,
        api: KubeApi,
        name: str,
        file: Path,
        own_namespace: str,
        settings: LobbyControllerSettings | None = None,
    ) -> None:
        self._api = api
        self._name = name
        self._file = file
        self._own_namespace = own_namespace
        self._settings = settings or LobbyControllerSettings()
        self._written: dict[str, tuple[str, float]] = {}
        self._clock = asyncio.get_running_loop().time

    async def ensure(self, namespace: str) -> None:
        """Writes the Secret, unless that was done recently.

        Raises:
            RuntimeFailedError: it can't be written now.
        """
        if namespace == self._own_namespace:
            return
        text = await read_key(self._file)
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
                "labels": {names.NAME_LABEL: names.APP, names.MANAGED_BY_LABEL: names.MANAGER},
            },
            "type": "Opaque",
            "data": {names.TOKEN_KEY: base64.b64encode(text.encode()).decode()},
        }
        try:
            await self._api.apply(SECRETS, namespace, self._name, secret)
        except ApiError as error:
            raise RuntimeFailedError(f"can't write the Secret {self._name}: {error}") from error
        self._written[namespace] = (digest, self._clock())


async def read_key(file: Path) -> str:
    """The key in a file, in hex.

    Raises:
        RuntimeFailedError: the file contains no valid key.
    """
    try:
        text = (await asyncio.to_thread(file.read_text, encoding="ascii")).strip()
        key_from_hex(text, str(file))
    except (OSError, ValueError, UserError) as error:
        raise RuntimeFailedError(f"{file} contains no key: {error}") from error
    return text
