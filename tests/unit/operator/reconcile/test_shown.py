"""What is shown on the admin port, and what never is."""

from __future__ import annotations

import pytest

from lobby_gateway.process.reports import GreeterReport
from lobby_operator.local.sources import from_url
from lobby_operator.reconcile.poller import PollResult
from lobby_operator.reconcile.shown import shown_reading, shown_spec


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://feed.example.com/stream", "wss://feed.example.com/stream"),
        ("wss://user:s3cret@feed.example.com:8443/x?key=s3cret", "wss://feed.example.com:8443/x"),
        ("ws://[::1]:9000/?s3cret", "ws://[::1]:9000/"),
    ],
)
def test_what_may_be_secret_is_not_shown(url: str, shown: str) -> None:
    source = from_url("ws://h/", name="prices", seats=5, option="test")
    spec = source.resource["spec"]
    origin = {
        **spec["origin"],
        "url": url,
        "headers": [{"name": "X", "value": "s3cret"}],
        "query": [{"name": "q", "value": "s3cret"}],
        "onConnect": [{"send": "s3cret"}],
    }
    template = {"env": [{"name": "KEY", "value": "s3cret"}], "labels": {"a": "b"}}
    made = shown_spec({**spec, "origin": origin, "template": template})
    assert made["template"] == {"labels": {"a": "b"}}
    assert "s3cret" not in str(made)
    assert made["origin"]["url"] == shown
    assert made["clients"]["seats"] == 5


def test_a_reading_is_shown_with_what_was_said_last_and_why_nothing_is_said_now() -> None:
    report = GreeterReport(waiting={"prices": 2})
    silent = PollResult(report, 1.0, 2.0, "no answer")
    assert shown_reading(silent) == {"report": report.to_json(), "answers": False, "problem": "no answer"}
    assert shown_reading(PollResult()) == {"report": None, "answers": True, "problem": ""}
