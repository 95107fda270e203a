from __future__ import annotations

import pytest

from lobby_gateway.clients.auth import TrustedProxies, origin_allowed
from lobby_gateway.errors import UserError

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
    assert origin_allowed(origin, PAGES) is expected


@pytest.mark.parametrize("origin", ["https://anything.example", "null", None])
def test_without_a_list_every_page_may_connect(origin: str | None) -> None:
    assert origin_allowed(origin, ())


def test_a_listed_default_port_makes_no_difference() -> None:
    assert origin_allowed("https://example.com", ["https://example.com:443"])
    assert not origin_allowed("http://example.com", ["http://example.com:443"])


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
    proxies = TrustedProxies.parse("10.0.0.0/8, fd00::/8")
    assert proxies.client_address(peer, forwarded_for) == expected


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert TrustedProxies.parse("").client_address("127.0.0.1", ["198.51.100.7"]) == "127.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy.example", "10.0.0.1/8"])
def test_the_error_names_a_bad_network(text: str) -> None:
    with pytest.raises(UserError, match=f"--trusted-proxies: '{text}' is not a network"):
        TrustedProxies.parse(f"192.0.2.0/24,{text}")
