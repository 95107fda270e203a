from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.sockets import run

from lobby_gateway.clients.tokens import Purpose, TokenError, verify
from lobby_gateway.http.admin import AdminRequest, AdminResponse, AdminServer
from lobby_operator.reconcile.lobby_requests import PATHS, send_request
from lobby_operator.reconcile.runtime import RuntimeFailedError

A, B, C = (bytes([each]) * 32 for each in b"abc")


class Lobby:
    """The admin port of the lobby `shop/prices-1`, which has one key."""

    def __init__(self, key: bytes, status: int = 202) -> None:
        self.asked = 0
        self.drained = 0
        self.query = ""
        self.purpose = Purpose.DRAIN
        self._key = key
        self._status = status

    async def drain(self, request: AdminRequest) -> AdminResponse:
        self.asked += 1
        scheme, _, token = request.headers["authorization"].partition(" ")
        assert scheme == "Bearer"
        try:
            verify(
                token,
                [self._key],
                purpose=self.purpose,
                lobby="shop/prices-1",
                path=PATHS[self.purpose],
                now=time.time(),
            )
        except TokenError as error:
            return AdminResponse.unauthorized(str(error))
        self.drained += 1
        self.query = request.query
        return AdminResponse.json({}, self._status)


async def ask(lobby: Lobby, *keys: bytes, name: str = "prices-1", deleted: bool = False) -> None:
    server = AdminServer({("POST", PATHS[lobby.purpose]): lobby.drain})
    port = await server.start("127.0.0.1", 0)
    address = ("127.0.0.1", port)
    try:
        await send_request(lobby.purpose, address, namespace="shop", name=name, keys=keys, timeout=5, deleted=deleted)
    finally:
        await server.close()


def test_a_lobby_is_asked_with_a_token_that_it_accepts() -> None:
    lobby = Lobby(A)
    run(ask(lobby, A, B))
    assert (lobby.asked, lobby.drained) == (1, 1)


@pytest.mark.parametrize(("deleted", "query"), [(False, ""), (True, "lobby=deleted")])
def test_a_lobby_is_told_why_it_should_drain(*, deleted: bool, query: str) -> None:
    lobby = Lobby(A)
    run(ask(lobby, A, deleted=deleted))
    assert (lobby.drained, lobby.query) == (1, query)


def test_it_is_asked_to_connect_with_a_token_for_that() -> None:
    lobby = Lobby(A)
    lobby.purpose = Purpose.PRECONNECT
    run(ask(lobby, A))
    assert (lobby.asked, lobby.drained) == (1, 1)
    lobby = Lobby(B)
    lobby.purpose = Purpose.PRECONNECT
    with pytest.raises(RuntimeFailedError, match="can't preconnect prices-1: it answered 401"):
        run(ask(lobby, A))


def test_further_keys_are_tried_while_they_are_rotated() -> None:
    lobby = Lobby(B)
    run(ask(lobby, A, B, C))
    assert (lobby.asked, lobby.drained) == (2, 1)


@pytest.mark.parametrize(("keys", "name"), [((A, C), "prices-1"), ((B,), "prices-2"), ((), "prices-1")])
def test_a_lobby_that_accepts_no_token_is_an_error(keys: tuple[bytes, ...], name: str) -> None:
    lobby = Lobby(B)
    with pytest.raises(RuntimeFailedError, match=f"can't drain {name}: it answered 401"):
        run(ask(lobby, *keys, name=name))
    assert lobby.drained == 0


def test_another_failure_is_an_error_and_not_tried_again() -> None:
    lobby = Lobby(A, 500)
    with pytest.raises(RuntimeFailedError, match="can't drain prices-1: it answered 500"):
        run(ask(lobby, A, B))
    assert lobby.asked == 1


def test_a_lobby_that_is_gone_is_an_error() -> None:
    async def main() -> None:
        server = AdminServer({})
        port = await server.start("127.0.0.1", 0)
        await server.close()
        async with asyncio.timeout(5):
            await send_request(
                Purpose.DRAIN, ("127.0.0.1", port), namespace="shop", name="prices-1", keys=(A,), timeout=5
            )

    with pytest.raises(RuntimeFailedError, match="can't drain prices-1: POST"):
        run(main())
