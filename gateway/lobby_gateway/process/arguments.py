"""Command-line parsing. An error is one line that names the option, the value and what is accepted; the exit code is 2."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Final, Generic, NoReturn, TypeVar
from urllib.parse import urlsplit

from lobby_gateway.errors import UserError

T = TypeVar("T")

LONGEST_OBJECT_NAME: Final = 253
"""Characters of a DNS subdomain, as Kubernetes counts them."""


class Accepted(Generic[T]):
    """Parses the value of an option, for `type=` of argparse.

    Attributes:
        accepted: short description of the accepted values.
    """

    def __init__(self, read: Callable[[str], T], accepted: str) -> None:
        self._read = read
        self.accepted = accepted

    def __call__(self, text: str) -> T:
        """Returns the value.

        Raises:
            argparse.ArgumentTypeError: the value is not accepted; the text is one line with the problem and what is accepted.
        """
        try:
            return self._read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{_printable(text)} {error}; accepted: {self.accepted}") from error


def _printable(text: str) -> str:
    if not text:
        return "the empty string"
    plain = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return plain if len(plain) <= 100 else f"{plain[:97]}..."


def _bounded(value: float, least: float, most: float) -> None:
    if value < least:
        raise ValueError("is too small")
    if value > most:
        raise ValueError("is too large")


def integer(least: int, most: int) -> Accepted[int]:
    """An integer within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            raise ValueError("is not an integer")
        _bounded(int(text), least, most)
        return int(text)

    return Accepted(read, f"{least} to {most}")


def number(least: float, most: float) -> Accepted[float]:
    """A number within bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise ValueError("is not a number")
        _bounded(value, least, most)
        return value

    return Accepted(read, f"{least:.15g} to {most:.15g}")


def port(*, free: bool = True) -> Accepted[int]:
    """A TCP port; with `free`, 0 means any free port."""
    accepted = integer(0 if free else 1, 65535)
    accepted.accepted += " (0: any free port)" if free else ""
    return accepted


def _url(text: str, schemes: tuple[str, str]) -> str:
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("contains a space or control character")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError as error:
        raise ValueError(f"is not a URL ({error})") from error
    if parts.scheme not in schemes:
        raise ValueError(f"has the scheme {parts.scheme}" if "://" in text else "has no scheme")
    if not host:
        raise ValueError("has no host")
    if parts.fragment:
        raise ValueError("has a fragment")
    return text


def websocket_url() -> Accepted[str]:
    """The URL of a WebSocket server (RFC 6455 §3: `ws` or `wss`, a host, no fragment)."""
    return Accepted(lambda text: _url(text, ("ws", "wss")), "ws://host[:port]/path or wss://host[:port]/path")


def http_url() -> Accepted[str]:
    """The URL of a page of an HTTP server."""
    return Accepted(lambda text: _url(text, ("http", "https")), "http://host[:port]/path or https://host[:port]/path")


def name(longest: int = 63) -> Accepted[str]:
    """A name that is a DNS label, as in Kubernetes (RFC 1123).

    Args:
        longest: maximum number of characters.
    """

    def read(text: str) -> str:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
            raise ValueError("is not a valid name")
        if len(text) > longest:
            raise ValueError("is too long")
        return text

    return Accepted(read, f"1 to {longest} of a-z, 0-9 and -, no - at the ends")


def object_name() -> Accepted[str]:
    """The name of a Kubernetes object such as a Secret: a DNS subdomain (RFC 1123), up to 253 characters."""

    def read(text: str) -> str:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", text):
            raise ValueError("is not a valid name")
        if len(text) > LONGEST_OBJECT_NAME:
            raise ValueError("is too long")
        return text

    return Accepted(
        read, f"1 to {LONGEST_OBJECT_NAME} of a-z, 0-9, - and ., beginning and ending with a letter or digit"
    )


def _address(text: str) -> str:
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


def address() -> Accepted[str]:
    """An IP address to listen on; `localhost` means `127.0.0.1`."""
    return Accepted(_address, "an IP address of this machine, such as 127.0.0.1, or :: for all")


def networks() -> Accepted[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]]:
    """Networks and addresses, separated by commas; the empty string: none."""

    def read(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        try:
            return tuple(ipaddress.ip_network(each.strip()) for each in text.split(",")) if text else ()
        except ValueError as error:
            raise ValueError(f"is not a list of networks ({error})") from error

    return Accepted(read, "networks such as 10.0.0.0/8 or fd00::/8, separated by commas")


def hosts() -> Accepted[tuple[str, ...]]:
    """Names of hosts, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        found = tuple(each.strip() for each in text.split(","))
        for each in found:
            if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?", each):
                raise ValueError(f"contains {each[:100]!a}, which is not the name of a host")
        return found

    return Accepted(read, "names of hosts, separated by commas, without ports")


def add_admin_hosts(parser: argparse.ArgumentParser) -> None:
    """Adds the option for names of the admin port."""
    parser.add_argument(
        "--admin-hosts", type=hosts(), default=(), metavar="NAMES",
        help="names under which the admin port may be reached, besides addresses, localhost and names outside public DNS "
        "(none)",
    )  # fmt: skip


def cannot_listen(error: OSError, host: str, port: int, option: str = "--port") -> UserError:
    """The error to raise if listening on an address and port failed.

    Args:
        error: the error of the operating system.
        host: the address.
        port: the port.
        option: the command-line option for the port.
    """
    if error.errno == errno.EADDRINUSE:
        return UserError(f"{option}: {port} is in use on {host}; accepted: a free port")
    if error.errno == errno.EADDRNOTAVAIL:
        return UserError(f"--host: {host} is not an address of this machine; accepted: {address().accepted}")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return UserError(f"{option}: can't listen on {port} on {host} ({reason}); accepted: a free port")


class _HelpFormatter(argparse.HelpFormatter):
    """As wide as the terminal. argparse makes one for each option, and by default loads shutil to ask for the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_columns() - 2)


def _terminal_columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):  # closed (then Python has None for it), or not a terminal
        return 80


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage, with the option and what it accepts."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _HelpFormatter)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # argparse's own signature, unchanged

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Parses arguments; unknown ones are reported by the parser of the subcommand."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Prints the error and exits with code 2."""
        print(f"{self.prog}: {self._line(message)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)

    def _line(self, message: str) -> str:
        if found := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL):
            option, problem = found[1].split("/")[-1], found[2]
            if problem.startswith("expected "):
                return f"{option}: a value is missing{self._accepted(option)}"
            if other := re.fullmatch(r"not allowed with argument (\S+)", problem):
                return f"{option}: can't be combined with {other[1].split('/')[-1]}; accepted: one of the two"
            if choice := re.match(r"invalid choice: '?(.*?)'? \(choose from (.*)\)$", problem):
                choices = choice[2].replace("'", "")
                return f"{option}: {_printable(choice[1])} is unknown; accepted: {choices}"
            if problem.startswith("ignored explicit argument"):
                return f"{option}: takes no value; accepted: {option} alone"
            return f"{option}: {problem}"
        if found := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
            visible = (a for a in self._actions if a.option_strings and a.help != argparse.SUPPRESS)
            options = ", ".join(action.option_strings[-1] for action in visible)
            return f"{_printable(found[1])}: is unknown; accepted: {options}"
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{found[1]}: is missing{self._accepted(found[1])}"
        if found := re.fullmatch(r"one of the arguments (.*) is required", message):
            options = ", ".join(option.split("/")[-1] for option in found[1].split())
            return f"a required option is missing; accepted: one of {options}"
        return message

    def _accepted(self, option: str) -> str:
        for action in self._actions:
            if option in {*action.option_strings, action.dest, action.metavar}:
                if isinstance(action.type, Accepted):
                    return f"; accepted: {action.type.accepted}"
                if action.choices:
                    return f"; accepted: {', '.join(map(str, action.choices))}"
        return ""
