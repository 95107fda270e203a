"""Binds the sockets on which processes listen, to one address or to all of both families, and names their peers."""

from __future__ import annotations

import socket

ALL_ADDRESSES = "::"
"""All addresses of this machine, IPv6 and IPv4: in a pod, the cluster may use either."""

_MAPPED_PREFIX = "::ffff:"


def bind(host: str, port: int, *, reuse_address: bool = True, reuse_port: bool = False) -> socket.socket:
    """A non-blocking TCP socket that is bound and does not listen yet.

    Args:
        host: an IP address. `::` also means all IPv4 addresses (RFC 3493 §5.3), and only those if the kernel has no IPv6.
        port: 0: any free port.
        reuse_address: SO_REUSEADDR: connections in TIME_WAIT do not occupy the port.
        reuse_port: SO_REUSEPORT: other sockets with this option may be bound to the port, too.

    Raises:
        OSError: the address can't be bound.
    """
    if host == ALL_ADDRESSES and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"  # noqa: S104  # the same as asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if host == ALL_ADDRESSES:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever net.ipv6.bindv6only says
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def peer_ip(address: str) -> str:
    """The IP address of a peer: that of an IPv4 peer is IPv4-mapped (RFC 4291 §2.5.5.2) on a socket of both families."""
    return address.removeprefix(_MAPPED_PREFIX) if "." in address else address
