"""The files that a lobby process follows: its Lobby, the secrets of its origin, the keys of tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lobby_gateway.lobby.loading import load
from lobby_gateway.lobby.origin_values import OriginValues
from lobby_gateway.lobby.process import Follower, LobbyProcess
from lobby_gateway.model.token_keys import TokenKeys
from lobby_gateway.net.follow import LOOK_SECONDS, follow
from lobby_gateway.net.token_key_file import follow_keys


def followers(
    process: LobbyProcess,
    *,
    file: Path | None,
    validated: bool,
    values: OriginValues,
    keys: TokenKeys,
    key_file: Path | None,
    look_seconds: float = LOOK_SECONDS,
) -> list[Follower]:
    """What is to run as long as the process.

    Args:
        process: the lobby.
        file: with its Lobby; None: it does not change.
        validated: see `load`.
        values: of its origin's secrets.
        keys: of tokens.
        key_file: where those may come from.
        look_seconds: between two looks.
    """
    made: list[Follower] = []
    if file is not None:
        read = partial(load, file, validated=validated)
        made.append(partial(follow, "the Lobby's file", [file], read, process.update, look_seconds=look_seconds))
    origin = process.lobby.spec.origin
    if files := values.files(origin):
        secrets = partial(values.resolve, origin)
        made.append(partial(follow, "a secret", files, secrets, process.values_seen, look_seconds=look_seconds))
    if key_file is not None:
        made.append(partial(follow_keys, key_file, keys, look_seconds=look_seconds))
    return made
