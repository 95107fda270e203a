"""The data of the status page as JSON types, the same for a greeter and for the lobby host.

It contains counts, not rates: the page computes rates from two polls, so the server keeps no state for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from lobby_gateway.resource.spec import Lobby, RoutingMode
from lobby_gateway.resource.status import Condition, LobbyEntry, LobbyStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyOverview:
    """One lobby (a process) on the status page.

    Attributes:
        name: name of the lobby.
        phase: `starting`, `open`, `full`, `served out` (ready, but new clients go elsewhere), `silent`, `settling`,
            `draining` or `ending`.
        clients: seats taken.
        seats: number of seats.
        origin: state of its origin connection, in one word; empty if unknown.
        via: the lobbies that its stream comes over, the nearest first; empty: it comes from its own connection.
        problem: why the origin is not connected; empty if it is, or if the reason is unknown.
        retry_in_seconds: seconds until the next attempt to connect; 0 if none is scheduled.
        messages: messages received from it so far; None if unknown.
        at: when these were counted, in seconds of a monotonic clock.
    """

    name: str
    phase: str
    clients: int = 0
    seats: int = 0
    origin: str = ""
    via: tuple[str, ...] = ()
    problem: str = ""
    retry_in_seconds: float = 0.0
    messages: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LobbyCounts:
    """Counts of a Lobby's clients, in one greeter or in all processes together.

    Attributes:
        clients: connected clients.
        waiting: clients without a seat.
        deliveries: messages handed to clients so far.
        dropped: messages dropped from mailboxes so far.
        dropped_by: the same by reason: `slow`, `old`, `memory`.
        moves_exact: clients moved to another lobby without a gap or duplicate so far.
        moves_live: clients moved to the live end of another lobby's stream so far.
        at: when these were counted, in seconds of a monotonic clock.
    """

    clients: int = 0
    waiting: int = 0
    deliveries: int = 0
    dropped: int = 0
    dropped_by: Mapping[str, int] = field(default_factory=dict)
    moves_exact: int = 0
    moves_live: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One Lobby (the resource) on the status page.

    Attributes:
        name: name of the Lobby, with its namespace if it has one (`Lobby.key`).
        address: where its clients connect: a URL, or only the path if this process does not know the URL.
        origin: URL of its origin, without the parts that may be secret.
        redirected: its clients are redirected to lobbies, not proxied.
        removed: the Lobby was deleted, and only its clients are left.
        latest: the lobby that new clients are sent to; empty if there is none.
        clients: seats taken.
        free: seats that new clients can get now.
        unnamed: number of lobbies that are not in `lobbies`.
        conditions: its conditions.
        counts: counts of its clients.
        lobbies: its lobbies, oldest first.
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
        kind: which process this is; a greeter counts its own clients only.
        name: name of the process, for people.
        version: version of the program.
        seconds: seconds since the process started.
        problem: why no client can be served now; empty: clients are served.
        greeters: number of greeters that respond, and of those wanted; None if this process does not know.
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
    """The lobbies in any list of a status, by name."""
    entries = {each.name: each for each in status.lobbies}
    for each in status.open:
        entries.setdefault(each.name, each)
    for name in status.draining:
        entries.setdefault(name, LobbyEntry(name=name, phase="Draining"))
    is_open = {each.name for each in status.open}
    return {
        each.name: LobbyOverview(
            name=each.name,
            phase=_phase(each, is_open=each.name in is_open),
            clients=each.clients,
            seats=each.seats,
            origin=each.origin,
            via=each.via,
        )
        for each in entries.values()
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
    """A Lobby on the status page, with its totals.

    Args:
        lobby: the Lobby.
        status: its status, as written by the lobby host.
        lobbies: its lobbies.
        address: where its clients connect.
        counts: counts of its clients.
        removed: the Lobby was deleted.
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


def with_seats(lobby: LobbyOverview, clients: int, seats: int) -> LobbyOverview:
    """The same lobby with newer counts."""
    phase = lobby.phase
    if phase in {"open", "full"}:
        phase = "open" if clients < seats else "full"
    return replace(lobby, clients=clients, seats=seats, phase=phase)


def redacted_url(url: str) -> str:
    """A URL without the parts that may be secret: user, password and query; empty if it is not a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    netloc = host if port is None else f"{host}:{port}"
    return parts._replace(netloc=netloc, query="", fragment="").geturl()


def _phase(entry: LobbyEntry, *, is_open: bool) -> str:
    if entry.phase != "Ready":
        return entry.phase.lower()
    if is_open:
        return "open"
    return "full" if entry.clients >= entry.seats else "served out"
