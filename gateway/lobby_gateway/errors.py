"""Every exception of ours, so that a caller can tell bad input from a broken peer.

`UserError` is the one that people see: its text is one line that names the field, the value and what is accepted.
"""

from __future__ import annotations


class LobbyGatewayError(Exception):
    """Base of all exceptions raised by Lobby Gateway."""


class UserError(LobbyGatewayError):
    """Bad input from a person: a command line, a file, an environment variable. Shown as one line; exit code 2."""


class InvalidLobbyError(UserError):
    """A Lobby resource that the CRD does not accept.

    Attributes:
        problems: one line each, every one of which names the field, the value and what is accepted.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MissingSecretError(UserError):
    """A secret that a Lobby refers to is not there. The text names where it was looked for, never a value."""
