"""Asks a lobby to drain, or tells it that its Lobby was deleted.

The request carries a token, as those of greeters do: nobody else may drain a lobby.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus

from lobby_gateway.clients.tokens import DELETED_QUERY, DRAIN_PATH, TOKEN_SETTINGS, Purpose, sign
from lobby_gateway.http.client import HttpClient, HttpError
from lobby_gateway.resource.spec import lobby_key
from lobby_gateway.settings import TokenSettings
from lobby_operator.reconcile.runtime import RuntimeFailedError


async def request_drain(
    address: tuple[str, int],
    *,
    namespace: str,
    name: str,
    keys: Sequence[bytes],
    timeout: float,  # noqa: ASYNC109  # of each request
    deleted: bool = False,
    settings: TokenSettings = TOKEN_SETTINGS,
) -> None:
    """Asks a lobby to drain.

    Args:
        address: of its admin port.
        namespace: of the Lobby; empty in local mode.
        name: of the lobby.
        keys: of its namespace, tried in order: while keys are rotated, it may not have the first one yet.
        timeout: most seconds to wait for each answer.
        deleted: the Lobby was deleted, so direct clients are closed instead of moved.
        settings: lifetime of the token.

    Raises:
        RuntimeFailedError: it did not accept the request.
    """
    status = int(HTTPStatus.UNAUTHORIZED)
    target = f"{DRAIN_PATH}?{DELETED_QUERY}" if deleted else DRAIN_PATH
    for key in keys:
        expires = int(time.time()) + settings.drain_seconds
        token = sign(key, purpose=Purpose.DRAIN, lobby=lobby_key(namespace, name), path=DRAIN_PATH, expires=expires)
        client = HttpClient(*address, timeout=timeout, headers={"authorization": f"Bearer {token}"})
        try:
            status = (await client.post(target)).status
        except HttpError as error:
            raise RuntimeFailedError(f"can't drain {name}: {error}") from error
        finally:
            client.close()
        if status != HTTPStatus.UNAUTHORIZED:
            break
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        raise RuntimeFailedError(f"can't drain {name}: it answered {status}")
