from __future__ import annotations

import pytest

from lobby_gateway.errors import UserError
from lobby_gateway.websocket.client_handshake import ConnectFailedError
from lobby_gateway.websocket.proxy import MAX_HEAD_BYTES, Proxy, environment_proxy, proxy_of

PROXY = Proxy("proxy.example", 3128)


def test_the_request_names_the_origin_and_the_login() -> None:
    proxy = proxy_of("http://proxy.example:3128", "joe:pass", where="spec.origin.proxy")
    assert proxy.request("feed.example", 443) == (
        b"CONNECT feed.example:443 HTTP/1.1\r\nHost: feed.example:443\r\n"
        b"Proxy-Authorization: Basic am9lOnBhc3M=\r\n\r\n"
    )
    assert PROXY.request("2001:db8::1", 80).startswith(
        b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n"
    )


def test_neither_repr_nor_text_has_the_login() -> None:
    proxy = proxy_of("http://joe:pa%20ss@[::1]:3128", where="x")
    assert "am9lOnBhIHNz" in proxy.request("a", 1).decode()
    assert "am9l" not in f"{proxy} {proxy!r}"
    assert str(proxy) == "the proxy [::1]:3128"


@pytest.mark.parametrize("response", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 204 Fine\r\nVia: me\r\n\r\n"])
def test_any_success_is_the_connection(response: bytes) -> None:
    assert not PROXY.check_response(response[:-1])
    assert PROXY.check_response(response)


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused to connect: 407 Proxy Auth"),
        (b"HTTP/1.1 407 bad password s3cret\r\n\r\n", "refused to connect: 407 Proxy Authentication Required"),
        (b"HTTP/1.1 502\r\nContent-Length: 3\r\n\r\nbad", "refused to connect: 502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "sent data of its own"),
        (b"x" * (MAX_HEAD_BYTES + 1), "without an end of its headers"),
    ],
)
def test_anything_else_is_an_error_that_names_the_proxy(response: bytes, problem: str) -> None:
    with pytest.raises(ConnectFailedError, match=problem) as caught:
        PROXY.check_response(response)
    assert caught.value.reason.startswith("the proxy proxy.example:3128 ")


@pytest.mark.parametrize(
    "url",
    [
        "https://proxy:1",
        "socks5://proxy:1",
        "http://",
        "http://proxy:port",
        "http://u:s3cret@:1",
        "http://u:12/s3cret@proxy:3128",
    ],
)
def test_an_unusable_url_is_named_by_its_field_alone(url: str) -> None:
    with pytest.raises(UserError) as caught:
        proxy_of(url, where="spec.origin.proxy")
    assert str(caught.value).startswith("spec.origin.proxy: ")
    assert "s3cret" not in str(caught.value)


def test_unusable_credentials_are_not_shown() -> None:
    with pytest.raises(UserError) as caught:
        proxy_of("http://proxy:1", "s3cret", where="spec.origin.proxy")
    assert str(caught.value) == "spec.origin.proxy: its credentials are not usable; accepted: user:password in one line"


def test_the_environment_names_one_for_each_scheme() -> None:
    environment = {"HTTPS_PROXY": "http://secure:1", "http_proxy": "plain:2"}
    assert environment_proxy("wss://feed.example/", environment) == Proxy("secure", 1, trusted=True)
    assert environment_proxy("ws://feed.example/", environment) == Proxy("plain", 2, trusted=True)
    assert environment_proxy("https://feed.example/", environment) == Proxy("secure", 1, trusted=True)
    assert environment_proxy("http://feed.example/", environment) == Proxy("plain", 2, trusted=True)
    assert environment_proxy("wss://feed.example/", {}) is None


@pytest.mark.parametrize(
    ("url", "excepted", "direct"),
    [
        ("wss://feed.example/", "*", True),
        ("wss://feed.example/", "other.example, feed.example", True),
        ("wss://a.feed.example/", "feed.example", True),
        ("wss://a.feed.example/", ".feed.example", True),
        ("wss://FEED.example./", "*.example", True),
        ("wss://notfeed.example/", "feed.example", False),
        ("wss://feed.example:8443/", "feed.example:8443", True),
        ("https://feed.example/", "feed.example:443", True),
        ("wss://feed.example/", "feed.example:8443", False),
        ("wss://10.1.2.3/", "10.0.0.0/8", True),
        ("wss://11.1.2.3/", "10.0.0.0/8", False),
        ("wss://[2001:db8::1]/", "2001:db8::/32", True),
        ("wss://localhost:1/", "", True),
        ("wss://127.0.0.1:1/", "", True),
        ("wss://feed.example/", "", False),
    ],
)
def test_no_proxy_excepts_domains_addresses_and_networks(url: str, excepted: str, direct: bool) -> None:
    found = environment_proxy(url, {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": excepted})
    assert (found is None) is direct
