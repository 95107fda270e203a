"""Polls the running pods of greeters for the number of clients that wait for each Lobby."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from lobby_gateway.process.background import Spawn
from lobby_gateway.process.seat_reports import GreeterReport
from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.names import ADMIN_PORT
from lobby_operator.planner.state import PollResult
from lobby_operator.reconcile.poller import Poller, PollSchedule


class GreeterPods:
    """The greeters of a cluster.

    Args:
        changed: called with the keys of the Lobbies whose numbers changed; empty: possibly all of them.
        spawn: creates tasks.
        port: admin port of greeters.
        schedule: shared by all pollers of this process; None: a new one.
    """

    def __init__(
        self,
        changed: Callable[[frozenset[str]], None],
        *,
        spawn: Spawn,
        port: int = ADMIN_PORT,
        schedule: PollSchedule | None = None,
    ) -> None:
        self._spawn = spawn
        self._changed = changed
        self._port = port
        self._schedule = schedule or PollSchedule()
        self._pollers: dict[str, tuple[str, Poller[GreeterReport]]] = {}  # by key of the pod, with its address
        self._closing: set[asyncio.Task[None]] = set()
        self._fast = False

    @property
    def serving(self) -> int:
        """Number of greeters that answer."""
        return sum(
            poller.result.report is not None and poller.result.unresponsive_since is None
            for _, poller in self._pollers.values()
        )

    def poll_results(self) -> dict[str, PollResult[GreeterReport]]:
        """The latest poll of each greeter, by key of its pod; without those that have never answered."""
        return {key: poller.result for key, (_, poller) in self._pollers.items() if poller.result.report is not None}

    def pod_changed(self, change: Change) -> None:
        """A greeter's pod was added, changed or deleted."""
        address = _address(change.object) if change.object is not None else ""
        known = self._pollers.get(change.key)
        if known is not None and known[0] == address:
            known[1].quiet = _ending(change.object)
            return
        if known is not None:
            del self._pollers[change.key]
            task = self._spawn(known[1].close(), f"close {change.key}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._changed(frozenset())
        if address:
            self._pollers[change.key] = (address, self._poller(change.key, address))

    def poll_fast(self, *, fast: bool) -> None:
        """Polls at the fast interval, or at the normal one."""
        self._fast = fast
        for _, poller in self._pollers.values():
            poller.fast = fast

    async def close(self) -> None:
        """Stops polling."""
        pollers, self._pollers = self._pollers, {}
        await asyncio.gather(*(poller.close() for _, poller in pollers.values()), *self._closing)

    def _poller(self, key: str, address: str) -> Poller[GreeterReport]:
        last: dict[str, dict[str, int]] = {"waiting": {}, "clients": {}}

        def polled() -> None:
            report = poller.result.report
            if report is None or poller.result.unresponsive_since is not None:
                return
            before, now = last.copy(), {"waiting": report.waiting, "clients": report.clients}
            last.update(now)
            changed = {
                lobby
                for counts in now
                for lobby in before[counts].keys() | now[counts].keys()
                if before[counts].get(lobby, 0) != now[counts].get(lobby, 0)
            }
            if changed:
                self._changed(frozenset(changed))

        poller = Poller(
            key, (address, self._port), "/waiting", GreeterReport.from_json, polled, schedule=self._schedule
        )
        poller.fast = self._fast
        return poller


def _address(pod: Mapping[str, Any]) -> str:
    """The address of a pod; empty if it is not running."""
    status = pod.get("status") or {}
    return str(status.get("podIP") or "") if status.get("phase") == "Running" else ""


def _ending(pod: Mapping[str, Any] | None) -> bool:
    return pod is None or bool(pod["metadata"].get("deletionTimestamp"))
