"""A client that survives reconnects: an async iterator that continues with the next message, at any greeter and lobby.

    async with Stream("wss://gateway.example.com/prices") as stream:
        async for message in stream:
            ...

It remembers its latest 16 messages. When the connection is lost, it reconnects, with back-off and jitter, and sends their
hashes; the lobby continues right after them if it can, and says so if it cannot. See docs/clients.md.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from lobby_gateway.clients.resuming import HASHES_KEPT, PARAMETER, hashes, read_answer
from lobby_gateway.process.backoff import Backoff
from lobby_gateway.settings import StreamSettings
from lobby_gateway.websocket.client_handshake import retry_after_seconds

logger = logging.getLogger(__name__)

STREAM_SETTINGS = StreamSettings()

Message = str | bytes

_FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes after which the same would happen again (see `close_codes.CLOSES`)."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a refusal that may be different next time (see `close_codes.REFUSALS`)."""
_ENDED = 1000
_BAD_TOKEN = 401
_NO_SEAT_LEFT = 1013


class Stream:
    """The messages of a Lobby. To be used by one task; `send` and `close` also by others.

    Attributes:
        url: of the Lobby.
        reconnects: connections after the first one.
        gaps: those of them that may have missed messages, or repeated some.
    """

    def __init__(
        self,
        url: str,
        *,
        on_gap: Callable[[str], object] | None = None,
        settings: StreamSettings = STREAM_SETTINGS,
        **options: Any,  # noqa: ANN401  those of `websockets`
    ) -> None:
        """Does not connect yet.

        Args:
            url: a `ws://` or `wss://` URL of a Lobby.
            on_gap: is called with the reason when the stream did not continue where it was, before the message after the gap.
            settings: see `StreamSettings`.
            options: of `websockets.asyncio.client.connect`: `additional_headers`, `ssl`, `max_size` and others.
        """
        self.url = url
        self.reconnects = 0
        self.gaps = 0
        self._on_gap = on_gap
        self._settings = settings
        self._options = {"max_size": settings.max_message_bytes, **options}
        self._latest: deque[Message] = deque(maxlen=HASHES_KEPT)
        self._connection: ClientConnection | None = None
        self._connected_before = False
        self._asked = False  # with hashes: the next message is the answer
        self._after_gap = False  # the next message does not follow the latest ones
        self._backoff = Backoff(
            base=settings.min_backoff_seconds, cap=settings.max_backoff_seconds, fraction=random.random,
            max_floor=settings.max_retry_after_seconds,
        )  # fmt: skip
        self._connect_at = -math.inf
        self._connected_at = math.inf
        self._closing = asyncio.Event()

    def __aiter__(self) -> Self:
        """The messages, from now on."""
        return self

    async def __anext__(self) -> Message:
        """The next message; connects first if necessary. May be canceled and called again.

        Raises:
            StopAsyncIteration: the stream was closed, here or by the server with 1000.
            ConnectionClosed: the server closed it with a code after which reconnecting does not help.
            InvalidStatus: the server refused it in the same way.
        """
        while True:
            connection = self._connection or await self._connect()
            try:
                message = await connection.recv()
            except ConnectionClosed as closed:
                self._lost(closed)
                continue
            if self._asked:
                self._asked = False
                problem = read_answer(message)
                if problem is None:
                    self._gap("the server does not support resuming")
                else:
                    if problem:
                        self._gap(problem)
                    continue
            if self._after_gap:
                self._after_gap = False
                self._latest.clear()  # no lobby has these in a row
            self._latest.append(message)
            return message

    async def send(self, message: Message) -> None:
        """Sends a message to the origin, if the Lobby forwards messages. None is kept while there is no connection.

        Raises:
            ConnectionError: there is no connection now.
            ConnectionClosed: it was lost.
        """
        if self._connection is None:
            raise ConnectionError(f"not connected to {self._shown_url}")
        await self._connection.send(message)

    async def close(self) -> None:
        """Closes the connection and ends the iteration. Idempotent."""
        self._closing.set()
        if self._connection is not None:
            await self._connection.close()

    async def __aenter__(self) -> Self:
        """Connects."""
        if self._connection is None:
            await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    async def _connect(self) -> ClientConnection:
        while True:
            await self._wait()
            attempt = connect(self._url_to_ask(), **self._options)
            try:
                connection = await attempt
            except InvalidStatus as refused:
                response = refused.response
                # A lobby refuses a token that has expired on the way from the greeter, which gives another one.
                expired = response.status_code == _BAD_TOKEN and attempt.uri != self._url_to_ask()
                if not expired and response.status_code not in _TRANSIENT:
                    raise
                wait = retry_after_seconds(response.headers.get("Retry-After", ""), time.time())
                self._later(f"refused with {response.status_code}", wait or 0.0)
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, EOFError, InvalidMessage) as error:  # TimeoutError is an OSError
                self._later(str(error) or type(error).__name__)
            else:
                self._connection = connection
                self._connected_at = asyncio.get_running_loop().time()
                if self._connected_before:
                    self.reconnects += 1
                    self._asked = bool(self._latest)
                    if not self._asked:
                        self._gap("no message was received before")
                self._connected_before = True
                if self._closing.is_set():
                    await connection.close()
                return connection

    async def _wait(self) -> None:
        """Waits until it is time to connect.

        Raises:
            StopAsyncIteration: the stream is closed.
        """
        if not self._closing.is_set():
            try:
                async with asyncio.timeout_at(self._connect_at):
                    await self._closing.wait()
            except TimeoutError:
                return
        raise StopAsyncIteration

    def _url_to_ask(self) -> str:
        if not self._latest:
            return self.url
        payloads = (message.encode() if isinstance(message, str) else message for message in self._latest)
        return f"{self.url}{'&' if '?' in self.url else '?'}{PARAMETER}={hashes(payloads)}"

    @property
    def _shown_url(self) -> str:
        """The URL without what may be secret: a password, a token in the query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def _lost(self, closed: ConnectionClosed) -> None:
        self._connection = None
        self._asked = False
        received = closed.rcvd.code if closed.rcvd is not None else None
        sent = closed.sent.code if closed.sent is not None and not closed.rcvd_then_sent else None
        if self._closing.is_set() or received == _ENDED:
            self._closing.set()
            raise StopAsyncIteration
        if received in _FINAL_CODES or sent in _FINAL_CODES:  # sent: a message was larger than `max_size`, for instance
            self._closing.set()
            raise closed
        if asyncio.get_running_loop().time() - self._connected_at >= self._settings.stable_seconds:
            self._backoff.reset()
        self._later(str(closed), self._settings.no_seat_seconds if received == _NO_SEAT_LEFT else 0.0)

    def _later(self, problem: str, floor: float = 0.0) -> None:
        wait = self._backoff.next(floor)
        self._connect_at = asyncio.get_running_loop().time() + wait
        logger.info("reconnecting to %s in %.1f s: %s", self._shown_url, wait, problem)

    def _gap(self, problem: str) -> None:
        self.gaps += 1
        self._after_gap = True
        logger.warning("messages of %s may be missing or repeated: %s", self._shown_url, problem)
        if self._on_gap is not None:
            self._on_gap(problem)
