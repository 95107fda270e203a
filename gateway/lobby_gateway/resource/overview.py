"""The data of the status page as JSON types, the same from a greeter and from the lobby host.

It has counts, not rates: the page derives rates from two looks, so the server keeps no state for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from lobby_gateway.resource.spec import Lobby, RoutingMode
from lobby_gateway.resource.status import Condition, LobbyEntry, LobbyStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyOverview:
    """A lobby.

    Attributes:
        name: of the lobby.
        phase: `starting`, `open`, `full`, `served out` (ready, but new clients go elsewhere), `silent`, `settling`,
            `draining` or `ending`.
        clients: seats taken.
        seats: how many there are.
        origin: state of its origin connection, in a word; empty where that is not known.
        problem: why the origin is not connected; empty when all is well, or not known.
        retry_in_seconds: until the next try, 0 when none is planned.
        messages: messages that came from it so far; None where that is not known.
        at: when those were counted, in seconds of any clock that goes on.
    """

    name: str
    phase: str
    clients: int = 0
    seats: int = 0
    origin: str = ""
    problem: str = ""
    retry_in_seconds: float = 0.0
    messages: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyCounts:
    """Counts about a Lobby's clients, by one greeter or by all processes together.

    Attributes:
        clients: that are connected to it.
        waiting: without a seat.
        deliveries: messages handed to clients so far.
        dropped: messages dropped from mailboxes of slow clients so far.
        moves_exact: clients moved to another lobby without a gap or duplicate so far.
        moves_live: clients moved to the live end of another lobby's stream so far.
        at: when this was counted, in seconds.
    """

    clients: int = 0
    waiting: int = 0
    deliveries: int = 0
    dropped: int = 0
    moves_exact: int = 0
    moves_live: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A Lobby.

    Attributes:
        name: of the Lobby, with its namespace if it has one (`Lobby.key`).
        address: where its clients connect: a URL, or the path where nobody here knows more.
        origin: URL of its origin, without what may be secret.
        redirected: its clients are connected to lobbies, not to greeters.
        removed: the Lobby is gone, and only its clients are left.
        latest: the lobby that new clients are sent to; empty where there is none.
        clients: seats taken.
        free: seats that new clients can have now.
        unnamed: how many lobbies there are beside those that are named.
        conditions: why it is as it is.
        counts: of its clients.
        lobbies: its lobbies, the oldest first.
    """

    name: str
    address: str
    origin: str
    redirected: bool = False
    removed: bool = False
    latest: str = ""
    clients: int = 0
    free: int = 0
    unnamed: int = 0
    conditions: tuple[Condition, ...] = ()
    counts: LobbyCounts
    lobbies: tuple[LobbyOverview, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The whole status page.

    Attributes:
        kind: who tells; a greeter's counts are of its own clients.
        name: of that process, for a person.
        version: of the program.
        seconds: since it was started.
        problem: why no client can be served now; empty: it can.
        greeters: greeters that answer, and how many there should be; None where nobody here knows.
        items: the Lobbies.
    """

    kind: Literal["greeter", "lobby host"]
    name: str
    version: str
    seconds: float
    problem: str = ""
    greeters: tuple[int, int] | None = None
    items: tuple[Item, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The overview as JSON types."""
        return asdict(self)


def lobby_overviews(status: LobbyStatus) -> dict[str, LobbyOverview]:
    """The lobbies in any of a status's lists, by name."""
    told = {each.name: each for each in status.lobbies}
    for each in status.open:
        told.setdefault(each.name, each)
    for name in status.draining:
        told.setdefault(name, LobbyEntry(name=name, phase="Draining"))
    is_open = {each.name for each in status.open}
    return {
        each.name: LobbyOverview(
            name=each.name,
            phase=_phase(each, is_open=each.name in is_open),
            clients=each.clients,
            seats=each.seats,
            origin=each.origin,
        )
        for each in told.values()
    }


def item(
    lobby: Lobby,
    status: LobbyStatus,
    lobbies: tuple[LobbyOverview, ...],
    *,
    address: str,
    counts: LobbyCounts,
    removed: bool = False,
) -> Item:
    """The item of a Lobby, with its totals.

    Args:
        lobby: the Lobby.
        status: what the lobby host told of it.
        lobbies: its lobbies, with all that is known.
        address: where its clients connect.
        counts: of its clients.
        removed: it is gone.
    """
    unnamed = max(0, status.replicas - len(lobbies))
    free = sum(each.seats - each.clients for each in lobbies if each.phase == "open")
    return Item(
        name=lobby.key,
        address=address,
        origin=redacted_url(lobby.spec.origin.url),
        redirected=lobby.spec.routing.mode is RoutingMode.REDIRECT,
        removed=removed,
        latest=status.latest,
        clients=status.clients if unnamed else sum(each.clients for each in lobbies),
        free=max(0, status.seats - status.clients) if unnamed else free,
        unnamed=unnamed,
        conditions=status.conditions,
        counts=counts,
        lobbies=lobbies,
    )


def with_seats(shown: LobbyOverview, clients: int, seats: int) -> LobbyOverview:
    """The lobby with newer counts."""
    phase = shown.phase
    if phase in {"open", "full"}:
        phase = "open" if clients < seats else "full"
    return replace(shown, clients=clients, seats=seats, phase=phase)


def redacted_url(url: str) -> str:
    """A URL without the parts that may be secret: user, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def redacted_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what may be secret: headers, query, texts to send, variables, and the URL except host and path."""
    origin = spec["origin"]
    hidden = {"headers", "query", "onConnect", "secrets", "tls"}
    kept = {key: value for key, value in origin.items() if key not in hidden}
    template = {key: value for key, value in (spec.get("template") or {}).items() if key != "env"}
    return {**spec, "origin": {**kept, "url": redacted_url(origin["url"])}, "template": template}


def _phase(told: LobbyEntry, *, is_open: bool) -> str:
    if told.phase != "Ready":
        return told.phase.lower()
    if is_open:
        return "open"
    return "full" if told.clients >= told.seats else "served out"
