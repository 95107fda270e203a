"""Logs: one line per event on standard error; text on a terminal, JSON elsewhere.

Details of an event go into `extra={...}`: fields in JSON, `key=value` after the text on a terminal. Nothing is logged per
message, and no secrets: anything that may contain one is never passed to a logger.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record; an exception becomes one field."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people: time, process, message, fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        text = f"{time} {self._process}: {level}{record.getMessage()}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure(process: str, *, style: str | None = None, level: str | None = None) -> None:
    """Sets up logging of the process.

    Args:
        process: name of the process in text logs.
        style: `text` or `json`; by default `LOBBY_LOG_STYLE`, otherwise text on a terminal and JSON elsewhere.
        level: by default `LOBBY_LOG_LEVEL`, otherwise `info`.
    """
    style = style or os.environ.get("LOBBY_LOG_STYLE") or ("text" if sys.stderr.isatty() else "json")
    level = level or os.environ.get("LOBBY_LOG_LEVEL") or "info"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(process) if style == "text" else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("lobby_gateway").setLevel(level.upper())
    logging.getLogger("lobby_operator").setLevel(level.upper())
    logging.getLogger("websockets").setLevel(logging.WARNING)
