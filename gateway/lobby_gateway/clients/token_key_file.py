"""Where a process has the keys of tokens from: a file that may be replaced while it runs, or an environment variable."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from lobby_gateway.clients.tokens import TokenKeys, key_from_hex, keys_from_text
from lobby_gateway.errors import UserError
from lobby_gateway.process.file_watch import LOOK_SECONDS, watch_files
from lobby_gateway.settings import TOKEN_KEY_VARIABLE

logger = logging.getLogger(__name__)

_OPTION = "--token-key-file"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option."""
    parser.add_argument(
        _OPTION,
        type=Path,
        metavar="FILE",
        help=f"keys of tokens in hex, a line each: the first signs, all are good; may be replaced ({TOKEN_KEY_VARIABLE})",
    )


def read_keys(file: Path) -> tuple[bytes, ...]:
    """The keys of a file.

    Raises:
        UserError: it can't be read, or holds something else.
    """
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is no text"
        raise UserError(f"{_OPTION}: {file} can't be read ({reason}); accepted: a file with keys in hex") from error
    return keys_from_text(text, f"{_OPTION}: {file}")


def token_keys(file: Path | None, environment: Mapping[str, str]) -> TokenKeys:
    """The keys at the start.

    Args:
        file: of the option; None: it was not given.
        environment: of the process.

    Raises:
        UserError: there are none.
    """
    if file is not None:
        return TokenKeys(read_keys(file))
    return TokenKeys((key_from_hex(environment.get(TOKEN_KEY_VARIABLE, ""), TOKEN_KEY_VARIABLE),))


async def watch_keys(file: Path, keys: TokenKeys, *, look_seconds: float = LOOK_SECONDS) -> NoReturn:
    """Takes new keys as they come, until it is cancelled."""

    def take(read: tuple[bytes, ...]) -> None:
        if keys.replace(read, time.monotonic()):
            logger.info("the keys of tokens were replaced", extra={"keys": len(read)})

    await watch_files("the file of token keys", [file], lambda: read_keys(file), take, look_seconds=look_seconds)
