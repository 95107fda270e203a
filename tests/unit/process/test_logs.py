from __future__ import annotations

import contextlib
import gc
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from lobby_gateway import __version__
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
    assert " warning prices-1: lobby opens" in TextFormatter("prices-1").format(record(logging.WARNING))


def test_text_has_time_and_level_in_every_line() -> None:
    for level in ("debug", "info", "warning", "error", "critical"):
        text = TextFormatter("prices-1").format(record(getattr(logging, level.upper())))
        assert re.match(rf"\d\d:\d\d:\d\d {level} prices-1: lobby opens$", text)


@contextlib.contextmanager
def configured(style: str) -> Iterator[None]:
    before = logging.root.handlers[:]
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    try:
        configure("prices-1", style=style)
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.handlers[:] = before
        logging.getLogger("lobby_gateway").setLevel(logging.NOTSET)
        logging.getLogger("lobby_operator").setLevel(logging.NOTSET)
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


class Broken:
    def __del__(self) -> None:
        raise ValueError("broken")


def fail() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize("style", ["json", "text"])
def test_what_libraries_and_python_say_has_time_and_level(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    with configured(style):
        logging.getLogger("asyncio").error("a task failed")
        logging.getLogger("uvloop").warning("slow")
        about = {"kind": "Lobby", "namespace": "shop", "name": "prices", "uid": "1"}
        extra = {"settings": object(), "k8s_skip": False, "k8s_ref": about}
        handlers = logging.getLogger("kopf.handlers")
        handlers.setLevel(logging.ERROR)  # whatever the operator's tests in this process have set for "kopf"
        handlers.error("a handler failed", extra=extra)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)  # catch_warnings has replaced what captureWarnings had set
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        thread = threading.Thread(target=fail, name="reader")
        thread.start()
        thread.join()
        Broken()
        gc.collect()
        try:
            fail()
        except ValueError as error:
            sys.excepthook(ValueError, error, error.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    if style == "text":
        starts = [line for line in lines if re.match(r"\d\d:\d\d:\d\d (warning|error|critical) prices-1: ", line)]
        assert len(starts) == 7
        assert any(line.endswith("a handler failed object=Lobby/shop/prices") for line in starts)
        return
    found = [json.loads(line) for line in lines]
    assert all(each["time"] and each["level"] and each["logger"] for each in found)
    assert [(each["level"], each["message"]) for each in found[:3]] == [
        ("error", "a task failed"),
        ("warning", "slow"),
        ("error", "a handler failed"),
    ]
    assert found[2]["object"] == "Lobby/shop/prices"
    assert not {"settings", "k8s_skip", "k8s_ref"} & set(found[2])
    assert "DeprecationWarning: old" in found[3]["message"]
    assert [each["message"] for each in found[4:]] == [
        "an exception was not caught in a thread",
        "an exception was ignored",
        "an exception was not caught",
    ]
    assert all("ValueError: broken" in each["exception"] for each in found[4:])


def test_hooks_that_someone_else_has_set_are_left_alone() -> None:
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    before = logging.root.handlers[:]

    def other(*_: object) -> None: ...

    sys.excepthook = threading.excepthook = sys.unraisablehook = other
    try:
        configure("prices-1")
        assert sys.excepthook is other
        assert threading.excepthook is other
        assert sys.unraisablehook is other
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        logging.root.handlers[:] = before
        logging.getLogger("lobby_gateway").setLevel(logging.NOTSET)
        logging.getLogger("lobby_operator").setLevel(logging.NOTSET)


@pytest.mark.parametrize("style", ["json", "text"])
def test_the_first_line_has_the_version(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    with configured(style):
        logging.getLogger("asyncio").error("first")
        logging.getLogger("lobby_gateway.x").info("second")
    first, second = capsys.readouterr().err.splitlines()
    assert __version__ in first
    assert "version" in first
    assert "version" not in second


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
