from __future__ import annotations

import json
import logging
import sys

import pytest

from lobby_gateway.process.logs import JsonFormatter, TextFormatter, configure


def record(level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("lobby_gateway.x", level, "x.py", 1, "lobby %s", ("opens",), None)
    vars(made).update(extra)
    return made


def test_json_has_the_fields_of_the_event() -> None:
    line = json.loads(JsonFormatter().format(record(lobby="prices-1", seats=512)))
    assert (line["message"], line["level"], line["lobby"], line["seats"]) == ("lobby opens", "info", "prices-1", 512)
    assert line["time"].endswith("+00:00")


def test_json_is_one_line_even_with_an_exception() -> None:
    made = record(logging.ERROR)
    try:
        int("a\nb")
    except ValueError:
        made.exc_info = sys.exc_info()
    text = JsonFormatter().format(made)
    assert "\n" not in text
    assert "ValueError" in json.loads(text)["exception"]


def test_text_names_the_process_and_the_fields() -> None:
    assert TextFormatter("prices-1").format(record(seats=512)).endswith(" prices-1: lobby opens seats=512")
    assert "warning: lobby opens" in TextFormatter("prices-1").format(record(logging.WARNING))


def test_style_and_level_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOBBY_LOG_STYLE", "json")
    monkeypatch.setenv("LOBBY_LOG_LEVEL", "warning")
    before = logging.root.handlers[:]
    try:
        configure("prices-1")
        logging.getLogger("lobby_gateway.x").info("quiet")
        logging.getLogger("lobby_gateway.x").warning("loud")
    finally:
        logging.root.handlers[:] = before
        logging.getLogger("lobby_gateway").setLevel(logging.NOTSET)
        logging.getLogger("lobby_operator").setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["loud"]
