"""Clients that follow redirects, on the cluster's network: `python -m tests.cluster.support.redirected URL COUNT`.

A client that is closed asks the greeter again, with `?resume=` if it was told its position, as docs/operations.md says. The
program prints one line of JSON twice a second (`State`), and ends once every client was told that the Lobby was deleted.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field, fields

from tests.support.tally import by_seq
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lobby_gateway.clients.resuming import read_answer

RETRY_SECONDS = 0.2
TELL_EVERY = 0.5
DELETED = (1001, "the Lobby was deleted")


@dataclass(slots=True)
class State:
    """What the clients have seen.

    Attributes:
        open: clients that are connected.
        peers: how many of them are connected to each address.
        messages: messages received.
        missing: messages between two that a client received.
        most_missing: most of those of one client.
        repeated: messages that a client had received before.
        closes: closes by code and reason; a position is left out.
        refused: answers other than 101, by status; 0: none.
    """

    open: int = 0
    peers: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    missing: int = 0
    most_missing: int = 0
    repeated: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


async def client(url: str, state: State) -> None:
    """Stays connected until its Lobby is deleted."""
    last, lost, query = -1, 0, ""
    while True:
        try:
            async with connect(url + query, proxy=None, open_timeout=30) as connection:
                peer = f"{connection.remote_address[0]}:{connection.remote_address[1]}"
                state.open += 1
                state.peers[peer] += 1
                try:
                    async for message in connection:
                        if read_answer(message) is not None:
                            continue  # to `?resume=`
                        number = by_seq(message.encode() if isinstance(message, str) else message)
                        assert number is not None, message
                        state.messages += 1
                        if last >= 0 and number > last + 1:
                            lost += number - last - 1
                            state.missing += number - last - 1
                            state.most_missing = max(state.most_missing, lost)
                        state.repeated += number <= last
                        last = max(last, number)
                finally:
                    state.open -= 1
                    state.peers[peer] -= 1
                code, reason = connection.close_code or 1006, connection.close_reason or ""
        except ConnectionClosed as closed:  # without a close frame
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (1006, "")
        except InvalidStatus as refusal:
            state.refused[str(refusal.response.status_code)] += 1
            await asyncio.sleep(RETRY_SECONDS)
            continue
        except (OSError, TimeoutError):
            state.refused["0"] += 1
            await asyncio.sleep(RETRY_SECONDS)
            continue
        state.closes[f"{code} {'resume' if reason.startswith('resume=') else reason}".strip()] += 1
        if (code, reason) == DELETED:
            return
        query = f"?{reason}" if reason.startswith("resume=") else ""


async def main(url: str, count: int) -> None:
    """Runs the clients."""
    state = State()

    def say() -> None:
        print(json.dumps({each.name: getattr(state, each.name) for each in fields(state)}), flush=True)  # noqa: T201

    async def tell() -> None:
        while True:
            say()
            await asyncio.sleep(TELL_EVERY)

    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(tell())
        await asyncio.gather(*(client(url, state) for _ in range(count)))
        telling.cancel()
    say()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
