"""The Lobby that a lobby process is told to serve, from its file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lobby_gateway.errors import UserError
from lobby_gateway.model.spec import Lobby, lobby_from_resource


def load(file: Path, *, validated: bool) -> Lobby:
    """Reads a Lobby.

    Checking needs libraries that would double this process for good, so a child process does it.

    Raises:
        UserError: the file can't be read, or is not accepted.
    """
    if validated:
        try:
            document: Any = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"--file: {file} can't be read ({error}); accepted: a checked Lobby as JSON") from error
    else:
        command = [sys.executable, "-m", "lobby_gateway.model.schema", str(file)]
        checked = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if checked.returncode:
            raise UserError(checked.stderr.decode(errors="replace").strip())
        document = json.loads(checked.stdout)
    return lobby_from_resource(document)
