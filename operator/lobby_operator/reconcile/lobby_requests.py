"""What the lobby host asks of a lobby. Each request carries a token, as those of greeters do: nobody else may ask."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus

from lobby_gateway.clients.tokens import (
    DELETED_QUERY,
    DRAIN_PATH,
    PEERS_PATH,
    PRECONNECT_PATH,
    TOKEN_SETTINGS,
    Purpose,
    sign,
)
from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.settings import TokenSettings
from lobby_operator.reconcile.runtime import RuntimeFailedError

PATHS = {Purpose.DRAIN: DRAIN_PATH, Purpose.PRECONNECT: PRECONNECT_PATH, Purpose.PEERS: PEERS_PATH}
"""Where each of the requests goes."""


async def send_request(
    purpose: Purpose,
    address: tuple[str, int],
    *,
    namespace: str,
    name: str,
    keys: Sequence[bytes],
    timeout: float,  # noqa: ASYNC109  # of each request
    deleted: bool = False,
    body: bytes = b"",
    settings: TokenSettings = TOKEN_SETTINGS,
) -> None:
    """Asks a lobby to drain, or to connect to its origin although it has no clients; or tells it its peers.

    Args:
        purpose: which of these.
        address: of its admin port.
        namespace: of the Lobby; empty in local mode.
        name: of the lobby.
        keys: of its namespace, tried in order: while keys are rotated, it may not have the first one yet.
        timeout: most seconds to wait for each answer.
        deleted: it is asked to drain because the Lobby was deleted, so direct clients are closed instead of moved.
        body: of the request.
        settings: lifetime of the token.

    Raises:
        RuntimeFailedError: it did not accept the request.
    """
    path = PATHS[purpose]
    status = int(HTTPStatus.UNAUTHORIZED)
    target = f"{path}?{DELETED_QUERY}" if deleted else path
    for key in keys:
        expires = int(time.time()) + settings.request_seconds
        token = sign(key, purpose=purpose, lobby=lobby_key(namespace, name), path=path, expires=expires)
        client = HttpClient(*address, timeout=timeout, headers={"authorization": f"Bearer {token}"})
        try:
            status = (await client.post(target, body)).status
        except HttpError as error:
            raise RuntimeFailedError(f"can't {purpose} {name}: {error}") from error
        finally:
            client.close()
        if status != HTTPStatus.UNAUTHORIZED:
            break
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise RuntimeFailedError(f"can't {purpose} {name}: it answered {status}")
