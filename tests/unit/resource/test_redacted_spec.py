"""What the CRD marks as a possible secret is hidden wherever it is, and the rest is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lobby_gateway.resource.redacted_spec import HIDDEN, redacted_spec
from lobby_gateway.resource.schema import default_lobby, open_api_schema
from lobby_gateway.resource.spec import lobby_from_resource

SCHEMA: Mapping[str, Any] = open_api_schema()["properties"]["spec"]
SECRET = "s3cret"


def passwords(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The fields that may hold a secret; `[]` is an item of a list."""
    if schema.get("format") == "password":
        yield path
    for name, each in schema.get("properties", {}).items():
        yield from passwords(each, (*path, name))
    if "items" in schema:
        yield from passwords(schema["items"], (*path, "[]"))


def nested(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = [value] if name == "[]" else {name: value}
    return value


@pytest.mark.parametrize("path", list(passwords(SCHEMA)), ids=".".join)
def test_a_field_that_may_hold_a_secret_is_hidden(path: tuple[str, ...]) -> None:
    assert redacted_spec(nested(path, SECRET)) == nested(path, HIDDEN)


def test_what_may_be_secret_is_known_in_steps_rules_and_calls() -> None:
    found = {".".join(path) for path in passwords(SCHEMA)}
    assert {"origin.every.[].send", "origin.onMessage.[].send", "origin.beforeConnect.[].http.body"} <= found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://feed.example.com/stream", "wss://feed.example.com/stream"),
        ("wss://user:s3cret@feed.example.com:8443/x?key=s3cret", "wss://feed.example.com:8443/x"),
        ("ws://[::1]:9000/?s3cret", "ws://[::1]:9000/"),
        ("ws://[s3cret", HIDDEN),
    ],
)
def test_of_urls_only_host_and_path_are_shown(url: str, shown: str) -> None:
    call = {"http": {"url": url}}
    made = redacted_spec({"origin": {"url": url, "proxy": {"url": url}, "beforeConnect": [call]}})
    assert made == {"origin": {"url": shown, "proxy": {"url": shown}, "beforeConnect": [{"http": {"url": shown}}]}}


def test_the_rest_is_shown_and_can_be_read_like_a_spec() -> None:
    given = default_lobby(
        "prices", "ws://h/", spec={"clients": {"seats": 5}, "template": {"env": [{"name": "KEY", "value": SECRET}]}}
    )
    made = redacted_spec(given["spec"])
    assert SECRET not in str(made)
    lobby, plain = (lobby_from_resource({**given, "spec": {**spec, "template": {}}}) for spec in (made, given["spec"]))
    assert lobby == plain
