"""Reads the keys of tokens from a file, which may be replaced while the process runs, or from an environment variable."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from lobby_gateway.clients.tokens import TokenKeys, key_from_hex, keys_from_text
from lobby_gateway.errors import UserError
from lobby_gateway.process.file_watch import FILE_WATCH_SETTINGS, watch_files
from lobby_gateway.settings import TOKEN_KEY_VARIABLE, FileWatchSettings

logger = logging.getLogger(__name__)

_OPTION = "--token-key-file"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option."""
    parser.add_argument(
        _OPTION,
        type=Path,
        metavar="FILE",
        help="token keys in hex, one per line: the first signs, all verify; may be replaced while running "
        f"(default: the variable {TOKEN_KEY_VARIABLE})",
    )


def read_keys(file: Path) -> tuple[bytes, ...]:
    """Reads the keys of a file.

    Raises:
        UserError: the file can't be read, or does not hold keys.
    """
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "not ASCII text"
        raise UserError(f"{_OPTION}: {file} can't be read ({reason}); accepted: a file with keys in hex") from error
    return keys_from_text(text, f"{_OPTION}: {file}")


def token_keys(file: Path | None, environment: Mapping[str, str]) -> TokenKeys:
    """The keys to start with.

    Args:
        file: value of the option; None: it was not given.
        environment: of the process.

    Raises:
        UserError: there are no keys.
    """
    if file is not None:
        return TokenKeys(read_keys(file))
    return TokenKeys((key_from_hex(environment.get(TOKEN_KEY_VARIABLE, ""), TOKEN_KEY_VARIABLE),))


async def watch_keys(file: Path, keys: TokenKeys, *, settings: FileWatchSettings = FILE_WATCH_SETTINGS) -> NoReturn:
    """Replaces the keys whenever the file changes, until it is cancelled."""

    def apply(read: tuple[bytes, ...]) -> None:
        if keys.replace(read, time.monotonic()):
            logger.info("replaced the token keys", extra={"keys": len(read)})

    await watch_files("the token key file", [file], lambda: read_keys(file), apply, settings=settings)
