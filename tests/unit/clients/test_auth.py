from __future__ import annotations

from ipaddress import ip_network

import pytest

from lobby_gateway.clients.auth import TrustedProxies, is_own_page, origin_allowed

PAGES = ("https://example.com", "http://localhost:3000")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://example.com", True),
        ("https://EXAMPLE.com", True),
        ("https://example.com:443", True),
        ("http://localhost:3000", True),
        (None, True),
        ("http://example.com", False),
        ("https://example.com:8443", False),
        ("https://example.com.evil.org", False),
        ("https://evil-example.com", False),
        ("http://localhost", False),
        ("null", False),
        ("", False),
    ],
)
def test_listed_pages_and_clients_other_than_browsers_may_connect(origin: str | None, expected: bool) -> None:
    assert origin_allowed(origin, PAGES, own_host="greeter.example") is expected


@pytest.mark.parametrize("allowed", [(), PAGES])
@pytest.mark.parametrize(
    ("origin", "own_host", "expected"),
    [
        ("https://greeter.example", "greeter.example", True),
        ("https://GREETER.example:8443", "greeter.example", True),
        ("https://greeter.example.", "greeter.example.", True),
        ("http://localhost:3000", "localhost", True),
        ("http://app.localhost:3000", "app.localhost", True),
        ("http://127.0.0.1", "127.0.0.1", True),
        ("http://[fd00::1]:80", "[fd00::1]", True),
        ("http://prices:8080", "prices", True),
        ("http://greeter.lobby-system.svc", "greeter.lobby-system.svc", True),
        ("http://greeter.example", "greeter.example", False),  # may have been rebound
        ("http://evil.com.", "evil.com.", False),
        ("https://evil.example", "greeter.example", False),
        ("https://greeter.example.evil.org", "greeter.example", False),
        ("https://a.greeter.example", "greeter.example", False),
        ("https://greeter.example@evil.org", "greeter.example", False),
        ("https://greeter.example/", "greeter.example", False),
        ("file://localhost", "localhost", False),
        ("ftp://greeter.example", "greeter.example", False),
        ("null", "null", False),
        ("null", "", False),
        ("", "", False),
        ("https://", "", False),
        ("https://evil.example", "", False),
    ],
)
def test_pages_of_our_own_host_may_connect(
    allowed: tuple[str, ...], origin: str, own_host: str, expected: bool
) -> None:
    assert is_own_page(origin, own_host) is expected
    listed = origin in allowed
    assert origin_allowed(origin, allowed, own_host=own_host) is (expected or listed)


def test_a_client_that_is_no_browser_may_connect_but_comes_from_no_page() -> None:
    assert origin_allowed(None, (), own_host="")
    assert not is_own_page(None, "localhost")


def test_a_listed_default_port_makes_no_difference() -> None:
    assert origin_allowed("https://example.com", ["https://example.com:443"], own_host="")
    assert not origin_allowed("http://example.com", ["http://example.com:443"], own_host="")


@pytest.mark.parametrize(
    ("origin", "entry", "expected"),
    [
        ("https://a.example.com", "https://*.example.com", True),
        ("https://a.b.EXAMPLE.com:443", "https://*.example.com", True),
        ("https://a.example.com:8443", "https://*.example.com:8443", True),
        ("https://example.com", "https://*.example.com", False),
        ("https://.example.com", "https://*.example.com", True),  # no browser sends it, and nobody else owns it
        ("http://a.example.com", "https://*.example.com", False),
        ("https://a.example.com:8443", "https://*.example.com", False),
        ("https://evilexample.com", "https://*.example.com", False),
        ("https://evil.org/.example.com", "https://*.example.com", False),
        ("https://evil.org#.example.com", "https://*.example.com", False),
        ("https://evil.org:1.example.com", "https://*.example.com", False),
        ("https://a.example.com.evil.org", "https://*.example.com", False),
        ("null", "https://*.example.com", False),
        ("null", "null", True),
        ("https://example.com", "null", False),
        ("https://example.com", "*", True),
        ("null", "*", True),
        ("anything", "*", True),
    ],
)
def test_wildcards_and_null_can_be_listed(origin: str, entry: str, expected: bool) -> None:
    assert origin_allowed(origin, [entry], own_host="") is expected


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.9", ["198.51.100.7"], "203.0.113.9"),  # an untrusted peer may write what it likes
        ("10.1.1.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.1.1.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),  # 6.6.6.6 was written by the client
        ("10.1.1.1", ["6.6.6.6", "198.51.100.7, 10.2.2.2"], "198.51.100.7"),  # several headers are one list
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),  # all trusted: the one furthest away
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["unknown"], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.7, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("::ffff:10.1.1.1", ["[2001:db8::5]:4711"], "2001:db8::5"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        ("not an address", ["198.51.100.7"], "not an address"),
    ],
)
def test_the_rightmost_untrusted_hop_is_the_client(peer: str, forwarded_for: list[str], expected: str) -> None:
    proxies = TrustedProxies(map(ip_network, ("10.0.0.0/8", "fd00::/8")))
    assert proxies.client_address(peer, forwarded_for) == expected


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert TrustedProxies().client_address("127.0.0.1", ["198.51.100.7"]) == "127.0.0.1"
