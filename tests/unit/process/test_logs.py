from __future__ import annotations

import json
import logging
import sys

import pytest

from lobby_gateway.process.logs import JsonFormatter, TextFormatter, configure, hide_secrets


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


@pytest.mark.parametrize("style", ["json", "text"])
def test_secrets_are_hidden_in_whatever_is_logged(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:]
    try:
        configure("prices-1", style=style)
        hide_secrets(lambda text: text.replace("hunter22", "***"))
        extra = {
            "problem": "hunter22",
            "seats": 512,
            "names": ("hunter22", 1),
            "nested": {"key": ValueError("hunter22")},
        }
        logging.getLogger("asyncio").error(
            "callback of %s failed", "hunter22", extra=extra, exc_info=KeyError("hunter22")
        )
    finally:
        logging.root.handlers[:] = before
        logging.getLogger("lobby_gateway").setLevel(logging.NOTSET)
        logging.getLogger("lobby_operator").setLevel(logging.NOTSET)
    text = capsys.readouterr().err
    assert "hunter22" not in text
    assert "KeyError: '***'" in text
    if style == "json":
        line = json.loads(text)
        assert (line["message"], line["problem"], line["seats"]) == ("callback of *** failed", "***", 512)
        assert (line["names"], line["nested"]) == (["***", 1], {"key": "***"})


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("LOBBY_LOG_LEVEL", "verbose", "LOBBY_LOG_LEVEL: 'verbose' is unknown; accepted: debug, info, warning, error"),
        ("LOBBY_LOG_LEVEL", "15", "LOBBY_LOG_LEVEL: '15' is unknown; accepted: debug, info, warning, error"),
        ("LOBBY_LOG_STYLE", "xml", "LOBBY_LOG_STYLE: 'xml' is unknown; accepted: text, json"),
    ],
)
def test_unknown_style_or_level_is_reported_and_ends_no_process(
    variable: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOBBY_LOG_STYLE", raising=False)
    monkeypatch.setenv(variable, value)
    before = logging.root.handlers[:]
    try:
        configure("prices-1")
        logging.getLogger("lobby_gateway.x").debug("quiet")
        logging.getLogger("lobby_gateway.x").info("loud")
    finally:
        logging.root.handlers[:] = before
        logging.getLogger("lobby_gateway").setLevel(logging.NOTSET)
        logging.getLogger("lobby_operator").setLevel(logging.NOTSET)
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["message"], second["message"]) == ("warning", problem, "loud")
