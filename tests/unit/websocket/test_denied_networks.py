"""Which addresses are in a denied network, in every notation that a resolver may return."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from lobby_gateway.websocket.denied_networks import denied_by

DENIED = [ip_network(each) for each in ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.255.255.254", "127.0.0.0/8"),
        ("169.254.169.254", "169.254.0.0/16"),
        ("::1", "::1/128"),
        ("fe80::1", "fe80::/10"),
        ("fe80::1%eth0", "fe80::/10"),
        ("::ffff:169.254.169.254", "169.254.0.0/16"),
        ("::ffff:7f00:1", "127.0.0.0/8"),
        ("64:ff9b::a9fe:a9fe", "169.254.0.0/16"),
        ("2002:7f00:1::", "127.0.0.0/8"),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "127.0.0.0/8"),
    ],
)
def test_address_in_a_denied_network_is_denied_in_every_notation(address: str, network: str) -> None:
    assert str(denied_by(address, DENIED)) == network


@pytest.mark.parametrize(
    "address", ["126.255.255.255", "128.0.0.1", "169.253.255.255", "::2", "2001:db8::1", "64:ff9b::808:808"]
)
def test_other_addresses_are_not_denied(address: str) -> None:
    assert denied_by(address, DENIED) is None


def test_nothing_is_denied_without_networks() -> None:
    assert denied_by("127.0.0.1", []) is None
