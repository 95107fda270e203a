"""Logs: one line per event on standard error, with its time and level; text on a terminal, JSON elsewhere.

Details of an event go into `extra={...}`: fields in JSON, `key=value` after the text on a terminal. Nothing is logged per
message, and no secrets: what may contain one is not passed to a logger, and `hide_secrets` catches what libraries log.

The first line has the version. What libraries and Python itself have to say has the same form: loggers of asyncio and kopf,
warnings, exceptions that nobody caught.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from lobby_gateway import __version__

logger = logging.getLogger(__name__)

_STYLES = ("text", "json")
_LEVELS = ("debug", "info", "warning", "error")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_OF_KOPF = frozenset({"settings", "k8s_skip", "k8s_ref"})
"""What kopf adds to its records for itself; the last one is the object that the record is about."""


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = {key: value for key, value in vars(record).items() if key not in _STANDARD | _OF_KOPF}
    about = getattr(record, "k8s_ref", None)
    if isinstance(about, dict):
        found["object"] = "/".join(str(about[key]) for key in ("kind", "namespace", "name") if about.get(key))
    return found


class _Formatter(logging.Formatter):
    """A formatter that hides secrets.

    Attributes:
        hide: returns a text with its secrets replaced.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hide: Callable[[str], str] = str

    def _shown(self, value: object) -> object:
        """A value as JSON types."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            return {str(key): self._shown(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._shown(each) for each in value]
        return self.hide(str(value))


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record; an exception becomes one field."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.hide(record.getMessage()),
            **{key: self._shown(value) for key, value in _fields(record).items()},
        }
        if record.exc_info:
            line["exception"] = self.hide(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(_Formatter):
    """A line for people: time, level, process, message, fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = record.levelname.lower()
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        text = f"{time} {level} {self._process}: {record.getMessage()}{fields}"
        return self.hide(f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text)


def hide_secrets(hide: Callable[[str], str]) -> None:
    """From now on, `hide` is applied to every text that this process logs: also to those of libraries, and to tracebacks."""
    for handler in logging.root.handlers:
        if isinstance(handler.formatter, _Formatter):
            handler.formatter.hide = hide


class _Version(logging.Filter):
    """Adds the version to the first record of a handler."""

    def __init__(self) -> None:
        super().__init__()
        self._added = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Accepts every record."""
        if not self._added:
            self._added = True
            record.version = __version__
        return True


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logger.critical("an exception was not caught", exc_info=(kind, error or kind(), trace))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_type is not SystemExit:
        name = given.thread.name if given.thread is not None else ""
        error = given.exc_value or given.exc_type()
        exc_info = (given.exc_type, error, given.exc_traceback)
        logger.error("an exception was not caught in a thread", extra={"in_thread": name}, exc_info=exc_info)


def _unraisable(given: sys.UnraisableHookArgs) -> None:
    error = given.exc_value or given.exc_type()
    extra = {"where": repr(given.object)[:200]}
    exc_info = (given.exc_type, error, given.exc_traceback)
    logger.error(given.err_msg or "an exception was ignored", extra=extra, exc_info=exc_info)


def _log_what_python_says() -> None:
    """Logs warnings and uncaught exceptions, which Python would print; leaves hooks that someone else has set alone."""
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


def configure(process: str, *, style: str | None = None, level: str | None = None) -> None:
    """Sets up logging of the process. An unknown style or level, which a Lobby's `spec.template.env` may contain, is logged.

    Args:
        process: name of the process in text logs.
        style: `text` or `json`; by default `LOBBY_LOG_STYLE`, otherwise text on a terminal and JSON elsewhere.
        level: by default `LOBBY_LOG_LEVEL`, otherwise `info`.
    """
    style = style or os.environ.get("LOBBY_LOG_STYLE") or ""
    level = level or os.environ.get("LOBBY_LOG_LEVEL") or ""
    found_style = style.lower() if style.lower() in _STYLES else "text" if sys.stderr.isatty() else "json"
    found_level = level.lower() if level.lower() in _LEVELS else "info"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(process) if found_style == "text" else JsonFormatter())
    handler.addFilter(_Version())
    _log_what_python_says()
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("lobby_gateway").setLevel(found_level.upper())
    logging.getLogger("lobby_operator").setLevel(found_level.upper())
    logging.getLogger("websockets").setLevel(logging.WARNING)
    for variable, given, accepted in (("LOBBY_LOG_STYLE", style, _STYLES), ("LOBBY_LOG_LEVEL", level, _LEVELS)):
        if given and given.lower() not in accepted:
            logger.warning("%s: %r is unknown; accepted: %s", variable, given[:60], ", ".join(accepted))
