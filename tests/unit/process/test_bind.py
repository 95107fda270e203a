"""Sockets for one address, or for all of both families."""

from __future__ import annotations

import socket

import pytest

from lobby_gateway.process.bind import ALL_ADDRESSES, bind, peer_ip

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def reaches(listening: socket.socket, host: str) -> str:
    """Connects to a socket; returns the address of the peer as its process sees it."""
    port = listening.getsockname()[1]
    with socket.create_connection((host, port), timeout=5):
        listening.setblocking(True)
        accepted, peer = listening.accept()
        accepted.close()
    return str(peer[0])


@needs_ipv6
def test_all_addresses_are_those_of_both_families() -> None:
    with bind(ALL_ADDRESSES, 0) as sock:
        sock.listen()
        assert not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert reaches(sock, "::1") == "::1"
        assert peer_ip(reaches(sock, "127.0.0.1")) == "127.0.0.1"


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with bind(ALL_ADDRESSES, 0) as sock:
        sock.listen()
        assert sock.family is socket.AF_INET
        assert reaches(sock, "127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_one_address_is_only_that_one(host: str) -> None:
    with bind(host, 0) as sock:
        sock.listen()
        assert reaches(sock, host) == host
        other = "127.0.0.1" if host == "::1" else "127.0.0.2"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, sock.getsockname()[1]), timeout=5)


def test_a_port_in_use_is_an_error_unless_both_share_it() -> None:
    with bind("127.0.0.1", 0, reuse_port=True) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", port)
        bind("127.0.0.1", port, reuse_port=True).close()


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::1", "::1"),
        ("::ffff:0:1", "::ffff:0:1"),
    ],
)
def test_an_ipv4_peer_has_an_ipv4_address_on_a_socket_of_both_families(address: str, plain: str) -> None:
    assert peer_ip(address) == plain
