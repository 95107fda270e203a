"""Requests of a Lobby with expressions in them: the handshake with its origin, and HTTP calls around it.

What an expression gives is checked here before anything is sent: a captured value or an answer of somebody else must not
become another header, another request, or credentials in a URL. No error contains a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.expressions import ExpressionError
from lobby_gateway.origin.templates import Template

_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
"""What a field value may contain (RFC 9110 §5.5): above all, no line break."""

_PRINTABLE = re.compile("[!-~]+")  # RFC 3986 §2: anything else is to be percent-encoded

Text = str | Template
"""A constant with the secrets filled in, or what makes a text for each request."""

WEBSOCKET = ("ws://", "wss://")
HTTP = ("http://", "https://")
"""How URLs begin."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to send.

    Attributes:
        url: URL with the query parameters; `repr` omits it.
        headers: names and values; `repr` omits them.
    """

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """What makes a request, once for each attempt.

    Attributes:
        path: where it is in the Lobby, for people: empty, or `beforeConnect[0].http.`.
        schemes: how its URL may begin.
        url: the URL.
        headers: names and values.
        query: names and values of parameters added to the URL; one whose expression gives an empty text is left out.
    """

    path: str = ""
    schemes: tuple[str, ...] = WEBSOCKET
    url: Text
    headers: Sequence[tuple[str, Text]] = ()
    query: Sequence[tuple[str, Text]] = ()

    def request(self, known: Known) -> Request:
        """The request, with the values of the expressions; those of headers and query are hidden from now on.

        Raises:
            ExpressionError: an expression has no value, or one that is not allowed where it is used.
        """
        url = filled(self.url, known, f"{self.path}url")
        if problem := url_problem(url, self.schemes):
            raise ExpressionError(f"{self.path}url: {problem}")
        query = [pair for pair, _ in self._filled_pairs("query", self.query, known)]
        headers = []
        for pair, where in self._filled_pairs("headers", self.headers, known):
            if problem := header_problem(*pair):
                raise ExpressionError(f"{where}: {problem}")
            headers.append(pair)
        return Request(with_query(url, query), tuple(headers))

    def _filled_pairs(
        self, kind: str, pairs: Sequence[tuple[str, Text]], known: Known
    ) -> Iterator[tuple[tuple[str, str], str]]:
        """Name and value of each pair, and its field; without parameters whose expression gives nothing."""
        for index, (name, text) in enumerate(pairs):
            where = f"{self.path}{kind}[{index}].value"
            value = filled(text, known, where)
            if not isinstance(text, str):
                known.hide(value)
                if not value and kind == "query":
                    continue
            yield (name, value), where


def filled(text: Text, known: Known, where: str) -> str:
    """The text, with the values of its expressions.

    Raises:
        ExpressionError: an expression has no value; the error begins with `where`.
    """
    if isinstance(text, str):
        return text
    try:
        return text.message(known)
    except ExpressionError as error:
        raise ExpressionError(f"{where}: {error}") from None


def header_problem(name: str, value: str) -> str:
    """Why a text is no value of this header; empty if it is one."""
    if _HEADER_VALUE.fullmatch(value) and value == value.strip():
        return ""
    problem = "has a line break, a control character, or a space at either end"
    return f"the value of {name} {problem}; accepted: one line"


def url_problem(url: str, schemes: Sequence[str]) -> str:
    """Why a text is no URL that begins with one of the schemes; empty if it is one."""
    beginnings = " or ".join(schemes)
    if problem := _url_problem(url, schemes, beginnings):
        return f"{problem}; accepted: a {beginnings} URL"
    return ""


def _url_problem(url: str, schemes: Sequence[str], beginnings: str) -> str:
    if not url.startswith(tuple(schemes)):
        return f"it does not begin with {beginnings}"
    if not _PRINTABLE.fullmatch(url) or "#" in url:
        return "it has a space, '#', a control character, or one that is not ASCII"
    try:
        parts = urlsplit(url)
    except ValueError:  # its text repeats parts of the URL
        return "its host is not an IPv6 address"  # the only part in brackets (RFC 3986 §3.2.2)
    try:
        if parts.port == 0:
            return "its port is 0"
    except ValueError:
        return "its port is not a number from 1 to 65535"
    if not parts.hostname:
        return "it has no host"
    return "it has user:password@" if "@" in parts.netloc else ""


def with_query(url: str, query: Sequence[tuple[str, str]]) -> str:
    """Appends parameters to those of the URL, percent-encoded (RFC 3986 §2.1; a space is `%20`, not `+`)."""
    if not query:
        return url
    added = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    if "?" not in url:
        return f"{url}?{added}"
    return url + added if url.endswith(("?", "&")) else f"{url}&{added}"
