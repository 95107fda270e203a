"""A client's full round trip: handshake, ping and pong, messages. `helm test` runs it against the greeters' Service.

    python -m lobby_gateway.commands.round_trip --greeter ws://127.0.0.1:8000 --messages 3 /demo

Without a path it requests one that no Lobby has: the greeter's 404 shows that clients can reach it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.process.arguments import Accepted, ArgumentParser, integer, number, websocket_url

NO_LOBBY = "/lobby-gateway-round-trip"
"""A path no Lobby has."""


class RoundTripFailedError(LobbyGatewayError):
    """A client did not get what it should have."""


async def round_trip(url: str, *, messages: int = 0, within: float = 60.0) -> str:
    """Connects, waits for a pong and for messages, and closes; returns a line that describes what it saw.

    Args:
        url: of a Lobby at a greeter.
        messages: how many to wait for.
        within: seconds for everything.

    Raises:
        RoundTripFailedError: something failed.
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(within), connect(url, open_timeout=None, compression=None) as client:
            opened = time.monotonic()
            pong = await client.ping()
            seconds = await pong
            received = [await client.recv() for _ in range(messages)]
    except TimeoutError as error:
        raise RoundTripFailedError(f"{url}: not finished within {within:g} s") from error
    except InvalidStatus as error:
        raise RoundTripFailedError(f"{url}: answer {error.response.status_code}: {_body(error)}") from error
    except (ConnectionClosed, InvalidHandshake, OSError) as error:
        raise RoundTripFailedError(f"{url}: {str(error) or type(error).__name__}") from error
    last = f", the last {_shorten(received[-1])}" if received else ""
    return (
        f"{url}: connected in {1000 * (opened - started):.0f} ms, ping {1000 * seconds:.1f} ms, "
        f"{len(received)} {'message' if len(received) == 1 else 'messages'}{last}"
    )


async def probe_greeter(greeter: str, *, within: float = 60.0) -> str:
    """Requests a path that no Lobby has; returns a line that describes what it saw.

    Raises:
        RoundTripFailedError: anything but the greeter's 404.
    """
    url = greeter + NO_LOBBY
    try:
        async with asyncio.timeout(within):
            connection: ClientConnection = await connect(url, open_timeout=None)
            await connection.close()
    except InvalidStatus as error:
        if error.response.status_code == 404:
            return f"{greeter}: a greeter responds; pass the path of a Lobby to check more"
        raise RoundTripFailedError(f"{url}: answer {error.response.status_code}: {_body(error)}") from error
    except TimeoutError as error:
        raise RoundTripFailedError(f"{url}: no answer within {within:g} s") from error
    except (InvalidHandshake, OSError) as error:
        raise RoundTripFailedError(f"{url}: {str(error) or type(error).__name__}") from error
    raise RoundTripFailedError(f"{url}: connected, but no Lobby should have this path")


def _body(error: InvalidStatus) -> str:
    return _shorten((error.response.body or b"").decode("utf-8", "replace").strip() or error.response.reason_phrase)


def _shorten(message: str | bytes) -> str:
    text = message if isinstance(message, str) else message.hex(" ")
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def parser() -> ArgumentParser:
    """The command line."""
    made = ArgumentParser(prog="python -m lobby_gateway.commands.round_trip", description=__doc__)
    made.add_argument(
        "--greeter", type=websocket_url(), required=True, metavar="URL", help="URL of the greeters, without a path"
    )
    made.add_argument(
        "--messages", type=integer(0, 10_000), default=0, help="messages to wait for on each path (%(default)s)"
    )
    made.add_argument("--seconds", type=number(0.1, 3600), default=60.0, help="time limit for each path (%(default)s)")
    made.add_argument("paths", nargs="*", type=Accepted(_path, "/path"), metavar="PATH", help="path of a Lobby")
    return made


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("does not start with /")
    return text


async def _run(greeter: str, paths: Sequence[str], messages: int, seconds: float) -> int:
    failed = 0
    trips = [round_trip(greeter + path, messages=messages, within=seconds) for path in paths]
    for trip in trips or [probe_greeter(greeter, within=seconds)]:
        try:
            print(await trip, flush=True)  # noqa: T201
        except RoundTripFailedError as error:
            failed += 1
            print(error, file=sys.stderr, flush=True)  # noqa: T201
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the round trips one after the other; returns the exit code, 1 if one failed."""
    given = parser().parse_args(argv)
    return asyncio.run(_run(given.greeter.rstrip("/"), given.paths, given.messages, given.seconds))


if __name__ == "__main__":
    sys.exit(main())
