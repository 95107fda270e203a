"""Base classes of our exceptions: a caller can tell bad input from a peer that broke the protocol.

People see only `UserError`: its text is one line that names the field, the value and what is accepted.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath


class LobbyGatewayError(Exception):
    """Base of all exceptions raised by Lobby Gateway."""


class UserError(LobbyGatewayError):
    """Bad input from a person: a command line, a file, an environment variable. Shown as one line; exit code 2."""


class InvalidLobbyError(UserError):
    """A Lobby resource that is invalid.

    Attributes:
        problems: one line each, with the field, the value and what is accepted.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MissingSecretError(UserError):
    """A secret that a Lobby refers to is missing. The text says where it should be, and never contains a value."""


def internal_error(error: BaseException) -> str:
    """One line about an exception that nobody expected: its type and place, not its text, which may contain a secret."""
    places = [f" in {PurePath(f.f_code.co_filename).name}:{line}" for f, line in traceback.walk_tb(error.__traceback__)]
    return f"internal error: {type(error).__name__}{places[-1] if places else ''}"
