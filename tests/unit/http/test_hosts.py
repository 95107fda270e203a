from __future__ import annotations

import pytest

from lobby_gateway.http.hosts import host_of, is_rebindable


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("Greeter.Example:8443", "greeter.example"),
        ("greeter.example.", "greeter.example."),
        ("greeter.example:", "greeter.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[FD00::1]:80", "[fd00::1]"),
        ("[fd00::1]", "[fd00::1]"),
        ("", ""),
        ("a" * 256, ""),
    ],
)
def test_the_host_is_in_lower_case_and_has_no_port(authority: str, host: str) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("[::1]", False),
        ("localhost", False),
        ("localhost.", False),
        ("app.localhost", False),
        ("prices", False),
        ("greeter.lobby-system.svc", False),
        ("greeter.lobby-system.svc.cluster.local", False),
        ("printer.local", False),
        ("prices.internal", False),
        ("evil.example", True),
        ("evil.com.", True),
        ("127.0.0.1.evil.com", True),
        ("localhost.evil.com", True),
        ("svc.evil.com", True),
    ],
)
def test_names_in_public_dns_can_be_rebound(host: str, expected: bool) -> None:
    assert is_rebindable(host) is expected
