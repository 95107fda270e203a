"""Host names in requests: which one a request is for, and whether a web page may have made it up.

A page can let the DNS answer for a name of its own with the address of one of our processes (DNS rebinding). Its browser then
considers us to be the page's own server, and sends that name as Host. What cannot be rebound is an address, and a name that no
public DNS server answers for.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

_MAX_HOST = 255  # a DNS name has at most 253 characters (RFC 1035 §2.3.4), an address fewer
# Of special use, so never delegated to anybody: RFC 6761 §6.3, RFC 6762 §3, ICANN resolution 2024.07.29.06. Kubernetes' DNS
# answers for `svc`, and for `cluster.local` below `local`.
_PRIVATE_DOMAINS = ("localhost", "local", "internal", "svc")

_match_absolute = re.compile(r"(?i:https?|wss?)://(?P<authority>[^/?]*)/?(?P<rest>.*)").fullmatch


def host_of(authority: str) -> str:
    """The host of a Host header or another authority (RFC 3986 §3.2), without the port, in lower case.

    An IPv6 address keeps its brackets. Empty if it is too long for a host.
    """
    host = authority.lower()
    if not host.endswith("]"):
        before, colon, port = host.rpartition(":")
        if colon and (port.isdecimal() or not port):
            host = before
    return host if len(host) <= _MAX_HOST else ""


def split_target(target: str) -> tuple[str, str]:
    """Authority, and path with query, of a request target; the authority is empty unless it is in absolute-form.

    An absolute path may be empty, which is the same as `/` (RFC 9112 §3.2.1, §3.2.2).
    """
    match = _match_absolute(target)
    return (match["authority"], f"/{match['rest']}") if match is not None else ("", target)


def is_rebindable(host: str) -> bool:
    """Whether a stranger's DNS server may answer for a host, as `host_of` returns it."""
    name = host.removesuffix(".")
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        labels = name.split(".")
        return len(labels) > 1 and labels[-1] not in _PRIVATE_DOMAINS
    return False
