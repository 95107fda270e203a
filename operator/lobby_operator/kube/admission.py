"""Checks Lobbies before they are stored: answers the API server's questions, and keeps the certificate for that.

Every replica answers: the answer depends on Lobbies and settings alone, and nothing is written. The holder of the Lease makes
and renews the certificate, which is in a Secret that all replicas read, and tells the API server which CA to trust. Without
an answer, the API server stores the Lobby (`failurePolicy: Ignore`), and its conditions say the same.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kopf

from lobby_gateway.process.backoff import Backoff
from lobby_gateway.process.repeated_failures import RepeatedFailures
from lobby_gateway.resource.list_watch import object_key
from lobby_operator.kube.certificates import Certificate, issue
from lobby_operator.kube.client import ApiError, KubeApi
from lobby_operator.kube.handlers import ADMISSION
from lobby_operator.kube.kopf_thread import KopfThread
from lobby_operator.kube.lobby_registry import LobbyRegistry
from lobby_operator.kube.names import LOBBIES, SECRETS, WEBHOOKS
from lobby_operator.settings import AdmissionSettings, KopfSettings

logger = logging.getLogger(__name__)


class AdmissionThread(KopfThread):
    """A life of kopf that answers the API server. It watches nothing.

    Args:
        api: access to the API, for its credentials.
        lobbies: what the answers depend on.
        folder: where the certificate is.
        ended: called once it has ended.
        settings: port and deadline.
        kopf_settings: settings of kopf.

    Attributes:
        server: see `handlers.AdmissionMemo`.
    """

    def __init__(
        self,
        api: KubeApi,
        lobbies: LobbyRegistry,
        folder: Path,
        *,
        ended: Callable[[], None],
        settings: AdmissionSettings,
        kopf_settings: KopfSettings,
    ) -> None:
        super().__init__(
            api,
            LOBBIES,
            namespace="",
            labels="",
            told=lambda _kind, _item: None,
            listing=lambda: None,
            ended=ended,
            settings=kopf_settings,
            registry=ADMISSION,
        )
        self.server = kopf.WebhookServer(
            port=settings.port,
            host="localhost",  # only for kopf's logs
            certfile=_file(folder),
            pkeyfile=_file(folder),
            file_check_interval=settings.first_check_seconds,
        )
        self._lobbies = lobbies
        self._answer_seconds = settings.answer_seconds

    def start(self) -> None:
        """Starts the thread."""
        logging.getLogger("aiohttp.access").setLevel(logging.WARNING)  # a line for each question; refusals are logged
        super().start()

    async def refusal(self, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
        """See `handlers.AdmissionMemo`; what fails refuses nothing. Called in kopf's thread; our loop knows the Lobbies."""
        try:
            asked = asyncio.run_coroutine_threadsafe(self._refusal(new, old), self._ours)
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            logger.warning("no answer in time; accepting a Lobby unchecked", extra={"seconds": self._answer_seconds})
        except Exception:  # a bug, logged with its traceback; kopf would refuse the Lobby with it
            logger.exception("can't check a Lobby; accepting it unchecked")
        return ""

    async def _refusal(self, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
        refusal = self._lobbies.refusal(new, old)
        if refusal:
            logger.info("refused a Lobby", extra={"lobby": object_key(new), "problem": refusal})
        return refusal


class Admission:
    """Keeps the certificate, and kopf running.

    Args:
        api: access to the API.
        lobbies: what the answers depend on.
        namespace: namespace of the Service and the Secret.
        holds: whether this process may write.
        settings: names, port and times.
        kopf_settings: settings of kopf.

    Attributes:
        problem: why there is no certificate, or why the API server was not told of it; empty: all is well.
    """

    def __init__(
        self,
        api: KubeApi,
        lobbies: LobbyRegistry,
        *,
        namespace: str,
        holds: Callable[[], bool],
        settings: AdmissionSettings,
        kopf_settings: KopfSettings,
    ) -> None:
        self.problem = ""
        self._api = api
        self._lobbies = lobbies
        self._namespace = namespace
        self._holds = holds
        self._settings = settings
        self._kopf_settings = kopf_settings
        service = f"{settings.service}.{namespace}.svc"
        self._names = (service, f"{service}.cluster.local")
        self._clock = asyncio.get_running_loop().time
        self._failures = RepeatedFailures(self._clock)
        self._ends = RepeatedFailures(self._clock, lapses=True)  # of kopf
        self._wake = asyncio.Event()
        self._thread: AdmissionThread | None = None
        self._start_at = 0.0
        shortest, longest = kopf_settings.min_backoff_seconds, kopf_settings.max_backoff_seconds
        self._backoff = Backoff(base=shortest, cap=longest, fraction=random.random)

    async def run(self) -> None:
        """Answers until cancelled. Lobbies must be known."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="lobby-admission-"))
        try:
            written: Certificate | None = None
            while True:
                certificate = await self._try_check()
                if certificate is not None and certificate != written:
                    await asyncio.to_thread(_write, folder, certificate)
                    written = certificate
                if written is not None:
                    self._tend_kopf(folder)
                seconds = self._settings.first_check_seconds if written is None else self._settings.check_seconds
                await self._sleep(seconds)
        finally:
            if self._thread is not None:
                self._thread.stop("the operator stops")
            await asyncio.to_thread(_remove, folder)

    async def close(self) -> None:
        """Waits until kopf has ended; call it after `run` has."""
        if self._thread is not None:
            await self._thread.wait_ended()

    async def _sleep(self, seconds: float) -> None:
        until = self._clock() + seconds
        if self._thread is None and self._start_at > self._clock():
            until = min(until, self._start_at)
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _tend_kopf(self, folder: Path) -> None:
        now = self._clock()
        if self._thread is not None and not self._thread.alive:
            if now - self._start_at > self._kopf_settings.behind_seconds:  # it was up for long
                self._backoff.reset()
            if (told := self._ends.failed(self._thread.reason)) is not None:
                logger.warning("kopf ended; starting it again", extra={"resource": "admission", **told})
            self._thread = None
            self._start_at = now + self._backoff.next()
        if self._thread is None and now >= self._start_at:
            self._start_at = now
            self._thread = AdmissionThread(
                self._api,
                self._lobbies,
                folder,
                ended=self._wake.set,
                settings=self._settings,
                kopf_settings=self._kopf_settings,
            )
            self._thread.start()

    # The certificate

    async def _try_check(self) -> Certificate | None:
        """The certificate to use; None: there is none yet, or it can't be read now."""
        found, problem = None, ""
        try:
            found = await self._check()
            if found is None and not self._settings.configuration:  # cert-manager writes all entries that there are
                lacking = f"the Secret {self._settings.secret} lacks ca.crt, tls.crt or tls.key"
                problem = f"{lacking}; accepted: an issuer that provides its CA"
        except ApiError as error:
            problem = str(error)
        self.problem = problem
        told = self._failures.failed(problem) if problem else self._failures.worked()
        if told is not None:
            text = (
                "can't keep the certificate of admission"
                if problem
                else "the certificate of admission is in order again"
            )
            logger.warning(text, extra=told if not problem else {**told, "problem": problem})
        return found

    async def _check(self) -> Certificate | None:
        settings = self._settings
        secret = await self._api.get(SECRETS, self._namespace, settings.secret)
        stored = Certificate.of(secret)
        if not settings.configuration or not self._holds():
            return stored
        now = datetime.now(UTC)
        until = stored.valid_until(self._names, now) if stored is not None else None
        if stored is None or until is None or until < now + timedelta(days=settings.renew_days):
            stored = await asyncio.to_thread(issue, self._names, now, settings.certificate_days, stored)
            await self._trust(stored.ca)  # before a replica uses it
            version = {"resourceVersion": secret["metadata"]["resourceVersion"]}
            body = {"metadata": version, "data": stored.data()}
            await self._api.patch(SECRETS, self._namespace, settings.secret, body)
            logger.info("made a certificate for admission", extra={"days": settings.certificate_days})
        else:
            await self._trust(stored.ca)
        return stored

    async def _trust(self, ca: bytes) -> None:
        """Tells the API server which CAs to trust, unless it knows."""
        name, bundle = self._settings.configuration, base64.b64encode(ca).decode()
        configuration = await self._api.get(WEBHOOKS, "", name)
        webhooks = configuration.get("webhooks") or ()
        if all(each["clientConfig"].get("caBundle") == bundle for each in webhooks):
            return
        manifest = {
            "apiVersion": WEBHOOKS.api_version,
            "kind": WEBHOOKS.kind,
            "metadata": {"name": name},
            "webhooks": [{"name": each["name"], "clientConfig": {"caBundle": bundle}} for each in webhooks],
        }
        await self._api.apply(WEBHOOKS, "", name, manifest)


def _file(folder: Path) -> Path:
    return folder / "tls.pem"


def _write(folder: Path, certificate: Certificate) -> None:
    """Writes key and certificate at once, so that kopf, which reads them now and then, never reads two that don't match."""
    path = _file(folder)
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(certificate.key + certificate.certificate)
    new.replace(path)


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
