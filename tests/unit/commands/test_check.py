"""What `lobby check` says of a Lobby. Trying its origin is tested in tests/integration/test_check.py."""

from __future__ import annotations

import pytest
from tests.support.up import lobby_resource

from lobby_gateway.commands.check import describe
from lobby_gateway.resource.schema import validate_and_default
from lobby_gateway.resource.spec import lobby_from_resource


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://feed.example:8443/ws", "wss://feed.example:8443/ws"),
        ("wss://feed.example/ws?key=s3cr3t", "wss://feed.example/ws"),
        ("wss://$(saved.user):s3cr3t@feed.example/", "wss://feed.example/"),
        ("wss://feed.example/?key=s3cr3t&of=$(saved.of)", "wss://feed.example/"),
        ("$(saved.url)?key=s3cr3t", "$(saved.url)"),
        ("wss://$(saved.hosts[0])/ws", "wss://$(saved.hosts[0])/ws"),
        (
            'wss://feed.example/$(has(last.at) ? "more" : "all")/x',
            'wss://feed.example/$(has(last.at) ? "more" : "all")/x',
        ),
        (
            '$(has(saved.url) ? saved.url : "wss://u:s3cr3t@feed.example/ws?key=s3cr3t")',
            '$(has(saved.url) ? saved.url : "wss://feed.example/ws")',
        ),
    ],
)
def test_a_url_is_shown_without_user_password_and_query_and_with_its_expressions(url: str, shown: str) -> None:
    lobby = lobby_from_resource(validate_and_default(lobby_resource("prices", url), "Lobby"))
    (line,) = describe(lobby)
    assert line == f"clients connect to /prices; a lobby connects to {shown} when the first client arrives"
