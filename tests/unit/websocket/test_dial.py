from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from tests.support.sockets import run

from lobby_gateway.websocket.client import AddressDeniedError, dial, explain, interleave

V4, V6 = socket.AF_INET, socket.AF_INET6


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@contextlib.contextmanager
def unanswering() -> Iterator[tuple[str, int]]:
    """An address where connecting takes for ever: the queue of a listener that accepts nothing is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        address = server.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Makes every name have these addresses."""

    async def getaddrinfo(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(V4, socket.SOCK_STREAM, 6, "", each) for each in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


def refusing() -> tuple[str, int]:
    with listening() as server:
        address: tuple[str, int] = server.getsockname()
        return address


def test_socket_is_connected_and_does_not_block() -> None:
    async def main() -> None:
        with listening() as server, await dial("localhost", server.getsockname()[1], attempt_delay=0.25) as sock:
            assert sock.getpeername() == server.getsockname()
            assert sock.getblocking() is False

    run(main())


def test_name_without_an_address_is_a_gaierror() -> None:
    async def main() -> None:
        with pytest.raises(socket.gaierror):
            await dial("no-such-host.invalid", 80, attempt_delay=0.25)

    run(main())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "::ffff:127.0.0.1"])
def test_host_with_denied_addresses_only_is_not_connected_to(host: str) -> None:
    async def main() -> None:
        with listening() as server:
            server.setblocking(False)
            networks = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
            with pytest.raises(AddressDeniedError) as denied:
                await dial(host, server.getsockname()[1], attempt_delay=0.25, denied_networks=networks)
            with pytest.raises(BlockingIOError):
                server.accept()
        assert "is in the denied network " in explain(denied.value, host)
        assert host in explain(denied.value, host)

    run(main())


def test_only_the_allowed_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening() as denied, socket.create_server(("127.0.0.2", 0)) as allowed:
            denied.setblocking(False)
            resolve_to(monkeypatch, denied.getsockname(), allowed.getsockname())
            networks = [ip_network("127.0.0.1/32")]
            with await dial("host", 1, attempt_delay=3600, denied_networks=networks) as sock:
                assert sock.getpeername() == allowed.getsockname()
            with pytest.raises(BlockingIOError):
                denied.accept()

    run(main(), deadline=5)


def test_name_is_resolved_once_so_that_the_checked_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening() as denied, socket.create_server(("127.0.0.2", 0)) as allowed:
            answers = [allowed.getsockname(), denied.getsockname()]

            async def getaddrinfo(*_: object, **__: object) -> list[tuple[Any, ...]]:
                return [(V4, socket.SOCK_STREAM, 6, "", answers.pop(0))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            networks = [ip_network("127.0.0.1/32")]
            with await dial("rebinding", 1, attempt_delay=0.25, denied_networks=networks) as sock:
                assert sock.getpeername() == allowed.getsockname()
            with pytest.raises(AddressDeniedError):  # at the next attempt the name leads elsewhere
                await dial("rebinding", 1, attempt_delay=0.25, denied_networks=networks)

    run(main(), deadline=5)


def test_address_that_refuses_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening() as server:
            resolve_to(monkeypatch, refusing(), server.getsockname())
            with await dial("host", 1, attempt_delay=3600) as sock:
                assert sock.getpeername() == server.getsockname()

    run(main(), deadline=5)


def test_address_that_never_answers_gets_a_head_start_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening() as server, unanswering() as nobody:
            resolve_to(monkeypatch, nobody, server.getsockname())
            with await dial("host", 1, attempt_delay=0.01) as sock:
                assert sock.getpeername() == server.getsockname()

    run(main(), deadline=5)


def test_error_is_that_of_the_last_address_when_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        resolve_to(monkeypatch, refusing(), refusing())
        with pytest.raises(ConnectionRefusedError) as caught:
            await dial("host", 1, attempt_delay=0.25)
        assert caught.value.errno == errno.ECONNREFUSED

    run(main())


def test_slow_address_behind_one_that_refuses_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with unanswering() as nobody:
            resolve_to(monkeypatch, nobody, refusing())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await dial("host", 1, attempt_delay=0.01)

    run(main())


def test_two_addresses_that_both_accept_leave_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening() as one, listening() as other:
            resolve_to(monkeypatch, one.getsockname(), other.getsockname())
            with await dial("host", 1, attempt_delay=0) as sock:
                assert sock.getpeername() in (one.getsockname(), other.getsockname())

    run(main())  # a socket left open is a warning, and that is an error


def test_address_families_alternate() -> None:
    def all_of(text: str) -> list[tuple[int, str]]:
        return [(V6 if each.isupper() else V4, each) for each in text]

    assert interleave(all_of("ABCxyz")) == all_of("AxByCz")
    assert interleave(all_of("xAB")) == all_of("xAB")
    assert interleave(all_of("xyA")) == all_of("xAy")
    assert interleave(all_of("xy")) == all_of("xy")
