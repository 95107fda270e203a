"""A TCP connection to a host that may have several addresses, some of which may not answer.

The addresses are tried with a head start for the earlier ones ("Happy Eyeballs", RFC 8305), as asyncio's
`create_connection` does, too. But this one leaves no socket behind, whenever it is cancelled, and tells each error apart.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

ATTEMPT_DELAY_SECONDS = 0.25  # RFC 8305 §5

Address = tuple[int, Any]
"""Family and address of a socket."""


async def dial(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket; the caller bounds the time.

    Raises:
        OSError: no address answered: the error of the last one. `socket.gaierror` if there is no address.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempts: list[asyncio.Task[socket.socket]] = []
    won: socket.socket | None = None
    try:
        for family, address in interleave([(family, address) for family, _, _, _, address in found]):
            attempts.append(loop.create_task(_connect(family, address)))
            won = await _first(attempts, ATTEMPT_DELAY_SECONDS)
            if won is not None:
                return won
        while any(not each.done() for each in attempts):
            won = await _first(attempts, None)
            if won is not None:
                return won
    finally:
        _give_up(attempts, won)
    error = attempts[-1].exception()
    assert error is not None  # noqa: S101  none of them won
    raise error


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Alternates between the families, beginning with that of the first address (RFC 8305 §4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


async def _connect(family: int, address: Any) -> socket.socket:  # noqa: ANN401  an address depends on its family
    sock = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # asyncio sets TCP_NODELAY if it sees this number
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _first(attempts: list[asyncio.Task[socket.socket]], seconds: float | None) -> socket.socket | None:
    """The socket of the first attempt that succeeds within `seconds`; None if one fails, or the time is over."""
    pending = [each for each in attempts if not each.done()]
    await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in attempts:
        if each.done() and each.exception() is None:
            return each.result()
    return None


def _give_up(attempts: list[asyncio.Task[socket.socket]], won: socket.socket | None) -> None:
    """Ends all attempts but the one that won. Nothing is awaited here: a cancellation meanwhile would lose the socket."""
    for each in attempts:
        # One that is not done closes its socket by itself when the cancellation reaches it.
        if each.cancel() or each.cancelled():
            continue
        if each.exception() is None and each.result() is not won:
            each.result().close()
