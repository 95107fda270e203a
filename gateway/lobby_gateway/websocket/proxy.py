"""HTTP proxies on the way to an origin: which one to use, and the CONNECT request to it (RFC 9110 §9.3.6). Pure.

Plain connections (`ws://`, `http://`) use CONNECT, too: the proxy passes bytes on and answers for nobody else, so its refusals
are not taken for those of an origin.

No error and no `repr` contains the credentials of a proxy.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from lobby_gateway.errors import UserError
from lobby_gateway.websocket.client_handshake import ConnectFailedError, status_text

MAX_HEAD_BYTES = 16 << 10
"""Largest response of a proxy: a refusal may come with a page, of which only the status is read."""

_ACCEPTED = "accepted: http://host:port"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        host: its name or address.
        port: its port.
        authorization: value of `Proxy-Authorization`; empty: none.
        trusted: whoever runs the process chose it, so it may be in a denied network.
    """

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    trusted: bool = False

    def __str__(self) -> str:
        return f"the proxy {_authority(self.host, self.port)}"

    def request(self, host: str, port: int) -> bytes:
        """The request for a connection to a host."""
        authority = _authority(host, port)
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    def check_response(self, received: bytes) -> bool:
        """Whether the response is complete; if it is, the connection is to the host from now on.

        Args:
            received: all bytes so far.

        Raises:
            ConnectFailedError: the proxy refuses, or it is no proxy.
        """
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            if len(head) > MAX_HEAD_BYTES:
                raise ConnectFailedError(
                    f"{self} answered more than {MAX_HEAD_BYTES} bytes without an end of its headers"
                )
            return False
        status_line = head.split(b"\r\n", 1)[0].decode("latin-1")
        version, _, status = status_line.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise ConnectFailedError(f"{self} did not answer in HTTP")
        if not status.startswith("2"):
            # Not its words: they may repeat a password that only the environment of this process has.
            raise ConnectFailedError(f"{self} refused to connect: {status_text(int(status[:3]))}")
        if rest:
            raise ConnectFailedError(f"{self} sent data of its own")
        return True


def proxy_of(url: str, credentials: str = "", *, where: str, trusted: bool = False) -> Proxy:
    """The proxy at a URL.

    Args:
        url: `http://[user:password@]host[:port]`.
        credentials: `user:password`; empty: those of the URL, if any.
        where: the field or variable that has the URL, for people.
        trusted: see `Proxy`.

    Raises:
        UserError: it is not such a URL. The error does not contain it, since it may have a password.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:
        raise UserError(f"{where}: not a URL; {_ACCEPTED}") from None
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UserError(f"{where}: not the URL of an HTTP proxy; {_ACCEPTED}")
    if not credentials and parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    if credentials and (":" not in credentials or not credentials.isprintable()):
        raise UserError(f"{where}: its credentials are not usable; accepted: user:password in one line")
    authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
    return Proxy(parts.hostname, port, authorization, trusted)


def environment_proxy(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for a URL, unless NO_PROXY excepts it.

    HTTPS_PROXY is for wss:// and https://, HTTP_PROXY for ws:// and http://.

    There is none to this machine itself, as with Go's `http.ProxyFromEnvironment`.

    Raises:
        UserError: the variable has no usable URL.
    """
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    name = "HTTPS_PROXY" if secure else "HTTP_PROXY"
    value = environment.get(name) or environment.get(name.lower(), "")
    excepted = environment.get("NO_PROXY") or environment.get("no_proxy", "")
    if (
        not value
        or host == "localhost"
        or any(_is_meant(host, port, each.strip()) for each in f"{excepted},127.0.0.0/8,::1".split(","))
    ):
        return None
    return proxy_of(value, where=f"the environment variable {name}", trusted=True)


VARIABLES = frozenset(name for each in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY") for name in (each, each.lower()))
"""The environment variables that `environment_proxy` reads."""


def _is_meant(host: str, port: int, entry: str) -> bool:
    """Whether an entry of NO_PROXY means an origin: `*`, a domain and all below it, an address, or a network."""
    if not entry:
        return False
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        pass
    name, colon, given = entry.rpartition(":")
    if colon and given.isdecimal() and "]" not in given:
        if int(given) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".").rstrip(".").lower()
    host = host.rstrip(".").lower()
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
