from __future__ import annotations

import json

import pytest

from lobby_gateway.clients.tokens import Purpose, verify
from lobby_gateway.greeter.redirect import (
    RedirectError,
    Ticket,
    cors_headers,
    lobby_url,
    location,
    new_ticket,
    redirect_headers,
    ticket_response,
    wants_json,
)
from lobby_gateway.greeter.seat_queue import LobbyId
from lobby_gateway.websocket.server_handshake import Request

TICKET = Ticket(url="ws://10.0.0.7:9000/prices?token=t", token="t", expires=1700000000)


@pytest.mark.parametrize(
    ("template", "address", "expected"),
    [
        ("ws://{ip}:{port}/", "10.0.0.7:9000", "ws://10.0.0.7:9000/prices?token=t.k"),
        ("ws://{ip}:{port}", "[fd00::7]:9000", "ws://[fd00::7]:9000/prices?token=t.k"),
        ("ws://{ip}:{port}/", "fd00::7:9000", "ws://[fd00::7]:9000/prices?token=t.k"),
        ("wss://edge.example:{port}/", "10.0.0.7:9000", "wss://edge.example:9000/prices?token=t.k"),
        ("wss://{ip}/", "10.0.0.7:9000", "wss://10.0.0.7/prices?token=t.k"),
    ],
)
def test_the_address_is_filled_into_the_template(template: str, address: str, expected: str) -> None:
    assert lobby_url(template, LobbyId("x-1", address), "/prices", "", "t.k") == expected


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("ws://{ip}:{port}\u0001", "10.0.0.7:9000"),
        ("ws://{ip}:{port} ", "10.0.0.7:9000"),
        ("wss://münchen-{port}.example/", "10.0.0.7:9000"),
        ("wss://host:{port}/path", "10.0.0.7:9000"),
        ("wss://user@host:{port}", "10.0.0.7:9000"),
        ("http://{ip}:{port}/", "10.0.0.7:9000"),
        ("wss://{ip}:9{port}/", "10.0.0.7:9000"),  # port 99000
        ("wss://{ip}:0/", "10.0.0.7:9000"),
        ("wss://{ip}.pods.example/", "[fd00::7]:9000"),
        ("ws://{ip}:{port}/", "9000"),
        ("ws://{ip}:{port}/", "10.0.0.7"),
        ("ws://{ip}:{port}/", "10.0.0.7:port"),
        ("ws://{ip}:{port}/", "evil.example/#:9000"),
        ("ws://{ip}:{port}/", "10.0.0.7:9000\r\nSet-Cookie: a=b"),
    ],
)
def test_what_is_not_a_url_is_an_error_that_names_the_field_and_no_token(template: str, address: str) -> None:
    with pytest.raises(RedirectError, match=r"spec\.routing\.redirect\.urlTemplate") as caught:
        lobby_url(template, LobbyId("x-1", address), "/prices", "", "secret")
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"host": "greeter.example:8443", "origin": "https://greeter.example"}, "greeter.example"),
        ({"host": "greeter.example", "origin": "https://listed.example"}, "greeter.example"),
        ({"host": "greeter.example"}, "greeter.example"),  # browsers name no page that fetches from its own origin
        ({"host": "greeter.example", "upgrade": "websocket", "connection": "Upgrade"}, ""),  # no page
    ],
)
def test_the_token_names_the_greeters_host_if_a_page_may_have_asked(headers: dict[str, str], named: str) -> None:
    request = Request("GET", "/prices", headers, b"")
    ticket = new_ticket("ws://{ip}:{port}/", LobbyId("prices-1", "10.0.0.7:9000"), request, b"k" * 32, 1000.0)
    claims = verify(ticket.token, [b"k" * 32], purpose=Purpose.SEAT, lobby="prices-1", path="/prices", now=1000.0)
    assert claims.host == named


def test_the_query_is_passed_on_without_the_clients_token() -> None:
    url = lobby_url("ws://{ip}:{port}/", LobbyId("x", "h:1"), "/p", "resume=00-1&token=forged&x=%20y&&token", "real")
    assert url == "ws://h:1/p?resume=00-1&x=%20y&token=real"


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_location_has_no_scheme(scheme: str) -> None:
    assert location(f"{scheme}://h:1/p?token=t") == "//h:1/p?token=t"
    assert redirect_headers(TICKET) == (
        ("Location", "//10.0.0.7:9000/prices?token=t"),
        ("Cache-Control", "no-store"),
    )


def test_a_ticket_is_json_that_only_the_asking_page_may_read() -> None:
    headers, body = ticket_response(TICKET, "https://example.com")
    assert json.loads(body) == {"url": "ws://10.0.0.7:9000/prices?token=t", "token": "t", "expires": 1700000000}
    assert dict(headers) == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://example.com",
        "Access-Control-Expose-Headers": "Retry-After",
    }


def test_without_an_origin_no_other_origin_is_allowed() -> None:
    assert cors_headers(None) == (("Vary", "Origin"),)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json", True),
        ("text/html, Application/JSON;q=0.9", True),
        ("application/json; q=0", False),
        ("*/*", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_json_is_for_clients_that_ask_for_it(accept: str, expected: bool) -> None:
    assert wants_json(accept) is expected
