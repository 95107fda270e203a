"""What happens to the clients and lobbies in each scenario. Times are in seconds from the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import cos, pi, sin
from types import MappingProxyType


class Incident(StrEnum):
    """Something that happens to lobbies at once."""

    NODE_LOST = "a node is lost"
    NEW_REVISION = "a rollout begins"


@dataclass(frozen=True, slots=True)
class Flow:
    """How many clients come and go.

    Attributes:
        join: clients that connect, per second.
        leave: connected clients that leave, per second, whichever they are.
    """

    join: float = 0.0
    leave: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario.

    Attributes:
        name: its name on the command line.
        sentence: what happens, for people.
        seconds: how long it lasts.
        start: clients that are connected at the start, as a share of all.
        flow: the clients that come and go at a time, given the number of all clients.
        incidents: what else happens, and when.
        node_share: share of the lobbies that run on one node.
        origin_fails_every: mean seconds between two losses of one lobby's origin connection; 0: it is never lost.
        origin_seconds: how long it is lost then.
    """

    name: str
    sentence: str
    seconds: float
    start: float
    flow: Callable[[float, int], Flow]
    incidents: tuple[tuple[float, Incident], ...] = ()
    node_share: float = 0.0
    origin_fails_every: float = 0.0
    origin_seconds: float = 0.0


def _during(now: float, start: float, seconds: float, clients: float) -> float:
    """The rate at which so many clients act, evenly, within that time."""
    return clients / seconds if start <= now < start + seconds else 0.0


def _flash_crowd(now: float, clients: int) -> Flow:
    return Flow(_during(now, 60, 60, 0.99 * clients), _during(now, 720, 60, 0.9 * clients))


def _slow_leak(now: float, clients: int) -> Flow:
    return Flow(leave=_during(now, 60, 1800, 0.9 * clients))


_DAY, _SESSION, _NIGHT = 2400.0, 600.0, 0.1


def _day_and_night(now: float, clients: int) -> Flow:
    """The number of clients is a wave; each stays for ten minutes on average, so most that come replace one that left."""
    phase = 2 * pi * now / _DAY
    connected = clients * (_NIGHT + (1 - _NIGHT) * (1 - cos(phase)) / 2)
    growth = clients * (1 - _NIGHT) * sin(phase) * pi / _DAY
    leave = connected / _SESSION
    return Flow(max(0.0, leave + growth), leave + max(0.0, -growth - leave))


def _mass_disconnect(now: float, clients: int) -> Flow:
    return Flow(_during(now, 70, 120, 0.8 * clients), _during(now, 60, 1, 0.8 * clients))


def _replaced(_now: float, clients: int) -> Flow:
    """One client in a hundred is replaced each minute."""
    return Flow(clients / 6000, clients / 6000)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario(
                name="flash-crowd",
                sentence="Nearly all clients connect within one minute, and most leave again ten minutes later.",
                seconds=1080,
                start=0.01,
                flow=_flash_crowd,
            ),
            Scenario(
                name="slow-leak",
                sentence="Nine of ten clients leave over half an hour, so that every lobby is left with a few.",
                seconds=2160,
                start=1.0,
                flow=_slow_leak,
            ),
            Scenario(
                name="day-and-night",
                sentence="A day in 40 minutes: from a tenth of the clients to all and back; most stay for a few minutes.",
                seconds=_DAY,
                start=_NIGHT,
                flow=_day_and_night,
            ),
            Scenario(
                name="mass-disconnect",
                sentence="Four of five clients are disconnected within one second and come back over two minutes.",
                seconds=600,
                start=1.0,
                flow=_mass_disconnect,
            ),
            Scenario(
                name="node-loss",
                sentence="Three times, a node with a tenth of the lobbies is lost.",
                seconds=480,
                start=1.0,
                flow=_replaced,
                incidents=tuple((at, Incident.NODE_LOST) for at in (60.0, 180.0, 300.0)),
                node_share=0.1,
            ),
            Scenario(
                name="flapping-origin",
                sentence="Each lobby loses its origin connection every half minute, for five seconds.",
                seconds=480,
                start=1.0,
                flow=_replaced,
                origin_fails_every=30.0,
                origin_seconds=5.0,
            ),
            Scenario(
                name="rollout",
                sentence="All lobbies are replaced by those of a new revision while clients come and go.",
                seconds=1500,
                start=1.0,
                flow=_replaced,
                incidents=((60.0, Incident.NEW_REVISION),),
            ),
        )
    }
)
"""All scenarios by name, in the order of the documentation."""
