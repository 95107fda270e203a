"""Holds the Lease, or waits for it: asks and writes what `election.py` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from lobby_gateway.errors import LobbyGatewayError
from lobby_operator import wall_clock
from lobby_operator.kube.client import KubeApi, Object
from lobby_operator.kube.election import Election, ObservedLease
from lobby_operator.kube.errors import AlreadyExistsError, ApiError, ConflictError, NotFoundError
from lobby_operator.kube.resources import LEASES

logger = logging.getLogger(__name__)


class LeaseLostError(LobbyGatewayError):
    """This process held the Lease and does so no more: another may act, so this one must not."""


class Lease:
    """One candidate for a Lease.

    Args:
        api: access to the API.
        election: this candidate's.
        namespace: of the Lease.
        name: of the Lease.

    Attributes:
        acquired: is set once this process holds the Lease. It never holds it again when it has lost it.
        problem: why it can't be read or written now; empty: it can.
    """

    def __init__(self, api: KubeApi, election: Election, *, namespace: str, name: str) -> None:
        self.acquired = asyncio.Event()
        self.problem = ""
        self._api = api
        self._election = election
        self._namespace = namespace
        self._name = name
        self._clock = asyncio.get_running_loop().time
        self._seconds = election.settings.renew_seconds

    @property
    def holder(self) -> str:
        """Who holds it, as far as is known here."""
        seen = self._election.seen
        return seen.holder if seen is not None else ""

    def holds(self) -> bool:
        """Whether this process may act now."""
        return self._election.holds(self._clock())

    async def run(self) -> None:
        """Tries to get the Lease, then keeps it, until it is cancelled.

        Raises:
            LeaseLostError: it was lost.
        """
        read = True
        while True:
            started = self._clock()
            try:
                # A call that takes longer is of no use: the next one may be quicker, and the deadline does not wait.
                async with asyncio.timeout(2 * self._seconds):
                    await self._turn(read=read)
                self._well()
                read = not self.holds()
            except (ApiError, TimeoutError) as error:
                self._fails(str(error) or "no answer in time")
                read = True
            if self._election.lost(self._clock()):
                mine = self.holder == self._election.identity
                how = "could not be renewed in time" if mine else f"is lost to {self.holder or 'nobody'}"
                raise LeaseLostError(f"the Lease {self._namespace}/{self._name} {how}")
            if self.holds() and not self.acquired.is_set():
                logger.info("holds the Lease: acts from now on", extra={"lease": self._name})
                self.acquired.set()
            await asyncio.sleep(max(0.0, started + self._seconds - self._clock()))

    async def release(self) -> None:
        """Gives the Lease up, so that another takes it at once. Whoever calls it has stopped to act."""
        with contextlib.suppress(ApiError, TimeoutError):  # then another waits until it has run out
            async with asyncio.timeout(self._seconds):
                await self._read()  # a renewal may have been done whose answer we did not wait for
                spec = self._election.gives_up(wall_clock.now_micro())
                if spec is not None:
                    await self._change(spec)
                    logger.info("gave the Lease up", extra={"lease": self._name})

    async def _turn(self, *, read: bool) -> None:
        if read:
            await self._read()
        started = self._clock()
        spec = self._election.wants(started, wall_clock.now_micro())
        if spec is None:
            return
        try:
            written = await (self._create(spec) if self._election.seen is None else self._change(spec))
        except (ConflictError, AlreadyExistsError):
            await self._read()  # another was quicker; or our own write was done, though nobody told us
            return
        self._election.wrote(ObservedLease.of(written), started, self._clock())

    async def _read(self) -> None:
        try:
            seen = ObservedLease.of(await self._api.get(LEASES, self._namespace, self._name))
        except NotFoundError:
            seen = None
        self._election.observe(seen, self._clock())

    async def _create(self, spec: Mapping[str, Any]) -> Object:
        manifest = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": dict(spec),
        }
        return await self._api.create(LEASES, self._namespace, manifest)

    async def _change(self, spec: Mapping[str, Any]) -> Object:
        """Writes the `spec` into the Lease as it was seen. Its metadata stays: by it Helm knows a Lease as its own."""
        seen = self._election.seen
        version = {"resourceVersion": seen.version} if seen is not None else {}
        return await self._api.patch(LEASES, self._namespace, self._name, {"metadata": version, "spec": dict(spec)})

    def _well(self) -> None:
        if self.problem:
            logger.warning("the Lease can be read and written again", extra={"lease": self._name})
        self.problem = ""

    def _fails(self, problem: str) -> None:
        if not self.problem:
            logger.warning("the Lease can't be read or written", extra={"lease": self._name, "problem": problem})
        self.problem = problem
