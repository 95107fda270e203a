"""Acquires and renews the Lease: reads and writes what `election.py` decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from lobby_gateway.errors import LobbyGatewayError
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator import wall_clock
from lobby_operator.kube.client import AlreadyExistsError, ApiError, ConflictError, KubeApi, NotFoundError
from lobby_operator.kube.election import Election, ObservedLease
from lobby_operator.kube.names import LEASES, Object

logger = logging.getLogger(__name__)


class LeaseLostError(LobbyGatewayError):
    """This process held the Lease and no longer does: another may act, so this one must not."""


class Lease:
    """A candidate's access to the Lease.

    Args:
        api: access to the API.
        election: this candidate's view of the election.
        namespace: namespace of the Lease.
        name: name of the Lease.

    Attributes:
        acquired: set once this process holds the Lease. Having lost it, a process never holds it again.
        problem: why it can't be read or written now; empty if it can.
    """

    def __init__(self, api: KubeApi, election: Election, *, namespace: str, name: str) -> None:
        self.acquired = asyncio.Event()
        self.problem = ""
        self._api = api
        self._election = election
        self._namespace = namespace
        self._name = name
        self._clock = asyncio.get_running_loop().time
        self._failures = RepeatedFailures(self._clock)
        self._seconds = election.settings.renew_seconds

    @property
    def holder(self) -> str:
        """The holder's identity as far as this process knows."""
        observed = self._election.observed
        return observed.holder if observed is not None else ""

    @property
    def term(self) -> int:
        """How often the Lease has changed hands: each holder has a greater term than those before it."""
        observed = self._election.observed
        return observed.transitions if observed is not None else 0

    def holds(self) -> bool:
        """Whether this process may act now."""
        return self._election.holds(self._clock())

    async def run(self) -> None:
        """Acquires the Lease, then renews it, until cancelled.

        Raises:
            LeaseLostError: it was lost.
        """
        read = True
        while True:
            started = self._clock()
            try:
                # A slower call is useless: the next may be quicker, and the deadline does not wait.
                async with asyncio.timeout(2 * self._seconds):
                    await self._acquire_or_renew(read=read)
                self._set_reachable()
                read = not self.holds()
            except (ApiError, TimeoutError) as error:
                self._set_unreachable(str(error) or "no answer in time")
                read = True
            if self._election.lost(self._clock()):
                mine = self.holder == self._election.identity
                how = "could not be renewed in time" if mine else f"was lost to {self.holder or 'nobody'}"
                raise LeaseLostError(f"the Lease {self._namespace}/{self._name} {how}")
            if self.holds() and not self.acquired.is_set():
                logger.info("acquired the Lease", extra={"lease": self._name})
                self.acquired.set()
            await asyncio.sleep(max(0.0, started + self._seconds - self._clock()))

    async def release(self) -> None:
        """Releases the Lease, so that another acquires it at once. The caller has stopped acting."""
        with contextlib.suppress(ApiError, TimeoutError):  # otherwise another waits until it expires
            async with asyncio.timeout(self._seconds):
                await self._read()  # a renewal may have succeeded although its answer never arrived
                spec = self._election.spec_to_release(wall_clock.now_micro())
                if spec is not None:
                    await self._update(spec)
                    logger.info("released the Lease", extra={"lease": self._name})

    async def _acquire_or_renew(self, *, read: bool) -> None:
        if read:
            await self._read()
        started = self._clock()
        spec = self._election.spec_to_write(started, wall_clock.now_micro())
        if spec is None:
            return
        try:
            written = await (self._create(spec) if self._election.observed is None else self._update(spec))
        except (ConflictError, AlreadyExistsError):
            await self._read()  # another was faster, or our own write succeeded although its answer never arrived
            return
        self._election.written(ObservedLease.of(written), started, self._clock())

    async def _read(self) -> None:
        try:
            observed = ObservedLease.of(await self._api.get(LEASES, self._namespace, self._name))
        except NotFoundError:
            observed = None
        self._election.observe(observed, self._clock())

    async def _create(self, spec: Mapping[str, Any]) -> Object:
        manifest = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": dict(spec),
        }
        return await self._api.create(LEASES, self._namespace, manifest)

    async def _update(self, spec: Mapping[str, Any]) -> Object:
        """Writes the `spec` into the Lease that was observed. Its metadata stays, by which Helm recognizes its own Lease."""
        observed = self._election.observed
        version = {"resourceVersion": observed.version} if observed is not None else {}
        return await self._api.patch(LEASES, self._namespace, self._name, {"metadata": version, "spec": dict(spec)})

    def _set_reachable(self) -> None:
        if (told := self._failures.worked()) is not None:
            logger.warning("the Lease can be read and written again", extra={"lease": self._name, **told})
        self.problem = ""

    def _set_unreachable(self, problem: str) -> None:
        if (told := self._failures.failed(problem)) is not None:
            logger.warning("can't read or write the Lease", extra={"lease": self._name, **told})
        self.problem = problem
