"""Finds out when ConfigMaps, disruption budgets and token Secrets that the operator wrote are deleted, to write them again.

Without a ConfigMap or Secret no new pod can start, and without its budget a Lobby may lose all pods to evictions. They are
few and rarely deleted, so a list of their uids every few seconds costs less than a watch; and to watch Secrets would take the
right to read all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NoReturn, Protocol

from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_operator.kube.client import ApiError, KubeApi
from lobby_operator.kube.names import CONFIG_MAPS, DISRUPTION_BUDGETS, MANAGED_BY_LABEL, MANAGER, Resource, selector
from lobby_operator.kube.token_secret import TokenSecrets
from lobby_operator.settings import WrittenObjectsSettings

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """Writes the objects of one Lobby."""

    @property
    def written(self) -> Mapping[Resource, str]:
        """The uids of its ConfigMap and of its disruption budget, as far as they are written."""

    def write_again(self) -> None:
        """Writes what the Lobby needs again."""


class WrittenObjects:
    """Watches over what the operator wrote.

    Args:
        api: access to the API.
        namespaces: where to list; an empty one: everywhere.
        writers: returns the writers of all Lobbies in a namespace.
        token_secrets: writes the token Secrets; None: someone else does.
        settings: intervals.
    """

    def __init__(
        self,
        api: KubeApi,
        namespaces: Sequence[str],
        writers: Callable[[str], Iterable[Writer]],
        *,
        token_secrets: TokenSecrets | None,
        settings: WrittenObjectsSettings | None = None,
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._writers = writers
        self._token_secrets = token_secrets
        self._settings = settings or WrittenObjectsSettings()

    async def run(self) -> NoReturn:
        """Looks until cancelled."""
        rounds = 0
        settings = self._settings
        pause = max(settings.config_seconds, len(self._namespaces) / settings.lists_per_second)
        failures = RepeatedFailures(asyncio.get_running_loop().time)
        while True:
            await asyncio.sleep(pause)
            rounds += 1
            problems = await self._look(all_kinds=rounds % settings.rounds_per_full_check == 0)
            for problem in problems:
                if (fields := failures.failed(problem)) is not None:
                    logger.warning("can't look for deleted objects", extra=fields)
            if not problems and (fields := failures.worked()) is not None:
                logger.info("can look for deleted objects again", extra=fields)

    async def _look(self, *, all_kinds: bool) -> list[str]:
        """Looks once; returns what failed. A namespace that is gone or grants no rights is no problem of the others."""
        kinds = (CONFIG_MAPS, DISRUPTION_BUDGETS) if all_kinds else (CONFIG_MAPS,)
        checks = [partial(self._check, namespace, kind) for namespace in self._namespaces for kind in kinds]
        if all_kinds and (secrets := self._token_secrets) is not None:
            checks += [partial(self._check_token, namespace, secrets) for namespace in secrets.written]
        problems = []
        for check in checks:
            try:
                await check()
            except ApiError as error:
                problems.append(str(error))
        return problems

    async def _check(self, namespace: str, kind: Resource) -> None:
        written = [(each, uid) for each in self._writers(namespace) if (uid := each.written.get(kind))]
        for cached in (True, False):  # a cache may lack what was written a moment ago
            if not written:
                return
            labels = selector({MANAGED_BY_LABEL: MANAGER})
            there, _ = await self._api.list_versions(kind, namespace, labels=labels, cached=cached)
            written = [(writer, uid) for writer, uid in written if uid not in there]
        for writer, uid in written:
            if writer.written.get(kind) == uid:
                writer.write_again()

    async def _check_token(self, namespace: str, token_secrets: TokenSecrets) -> None:
        if await token_secrets.deleted(namespace):
            for writer in self._writers(namespace):
                writer.write_again()
