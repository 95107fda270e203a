"""The origin of `lobby up --demo`: a ticker, as a child process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from lobby_operator.local.child import Child, ChildFailedError, LogLine, child_environment, describe_exit

logger = logging.getLogger(__name__)

LISTEN_SECONDS = 20.0
RESTART_SECONDS = 1.0


class DemoOrigin:
    """A running ticker. One that is killed is started again, at the same address: lobbies find it back.

    Args:
        log: is called with each line that it logs; None: it has our standard error.
        environment: of the parent.

    Attributes:
        url: its `ws://` address; empty before it is started.
    """

    def __init__(self, *, log: LogLine | None, environment: Mapping[str, str]) -> None:
        self.url = ""
        self._log = log
        self._environment = child_environment(environment)
        self._port = 0
        self._child: Child | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Starts it; returns its URL.

        Raises:
            ChildFailedError: it does not start.
        """
        await self._start()
        self.url = f"ws://127.0.0.1:{self._port}/"
        self._keeping = asyncio.create_task(self._keep(), name="keep the demo's origin")
        return self.url

    async def close(self, grace: float) -> None:
        """Ends it, at once if it takes longer than `grace` seconds."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._child is not None:
            await self._child.stop(grace)

    async def _start(self) -> None:
        arguments = ["-m", "lobby_gateway.commands.origin", "--end-with-stdin", "--port", str(self._port)]
        self._child = await Child.start("origin", arguments, environment=self._environment, log=self._log)
        try:
            self._port = int((await self._child.listening(LISTEN_SECONDS))["port"])
        except BaseException:
            self._child.kill()
            raise

    async def _keep(self) -> None:
        while self._child is not None:
            code = await self._child.wait()
            logger.warning("the demo's origin is gone", extra={"ended_with": describe_exit(code)})
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self._start()
            except ChildFailedError as error:
                logger.warning("the demo's origin does not start", extra={"problem": str(error)})
