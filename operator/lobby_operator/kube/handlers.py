"""All that kopf calls: how it is set up, and what it does with what Kubernetes tells.

Kopf watches one kind in one namespace, or in all: a namespace that is gone or grants no rights must not end the watches of
others. `memo` is the watch (`kopf_thread.py`). The handlers keep no state on objects, add no finalizer and write nothing, so a
standby runs them, too. They pass on what they are told, and the reconciler of that Lobby looks at all there is (`manager.py`).
What is checked at `kubectl apply` is answered from what is known anyway, in a life of kopf of its own (`admission.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import kopf

from lobby_gateway.process.backoff import Backoff
from lobby_operator.kube.names import LOBBIES, PODS, Resource
from lobby_operator.settings import KopfSettings

ADMISSION_PATH = "lobbies"
"""Path of the URL of admission, and in the chart's ValidatingWebhookConfiguration."""

LOBBY_WATCH, POD_WATCH = kopf.OperatorRegistry(), kopf.OperatorRegistry()
ADMISSION = kopf.OperatorRegistry()
REGISTRIES: Mapping[Resource, kopf.OperatorRegistry] = {LOBBIES: LOBBY_WATCH, PODS: POD_WATCH}


class Memo(Protocol):
    """What the handlers know of the operator.

    Attributes:
        settings: settings of kopf.
        labels: label selector of the objects; empty: all.
    """

    settings: KopfSettings
    labels: str

    async def log_in(self) -> kopf.AiohttpSession:
        """Opens a session to the API server."""

    def tell(self, kind: str | None, item: Mapping[str, Any]) -> None:
        """Passes an event on; kind None: of a list."""


class AdmissionMemo(Memo, Protocol):
    """What the handlers of admission know of the operator.

    Attributes:
        server: serves the API server's questions.
    """

    server: kopf.WebhookServer

    async def refusal(self, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
        """Why a Lobby may not be stored as it is, for people; empty: it may."""


@kopf.on.startup(registry=LOBBY_WATCH)
@kopf.on.startup(registry=POD_WATCH)
@kopf.on.startup(registry=ADMISSION)
async def configure(settings: kopf.OperatorSettings, memo: Memo, **_: object) -> None:
    """Settings of kopf."""
    ours = memo.settings
    settings.peering.standalone = True  # a Lease says who acts, and someone's ClusterKopfPeering must not pause us
    settings.scanning.disabled = True  # no rights on CRDs and namespaces; kopf starts when its objects can be listed
    settings.posting.enabled = False  # our own Events have series and limits
    settings.persistence.diffbase_storage = _NoHistory()
    settings.process.ultimate_exiting_timeout = None  # the end of kopf is not the end of this process
    settings.networking.error_backoffs = _Forever(ours)
    settings.networking.request_timeout = ours.request_seconds
    settings.networking.connect_timeout = settings.watching.connect_timeout = ours.connect_seconds
    settings.watching.server_timeout = int(ours.watch_seconds)  # the server refuses 300.0
    settings.watching.inactivity_timeout = ours.idle_seconds
    settings.watching.chunk_size = ours.page_size
    settings.queueing.idle_timeout = ours.worker_seconds
    settings.queueing.exit_timeout = ours.worker_seconds  # whatever it has not told by then is told after its restart
    if memo.labels:
        settings.watching.label_selectors[kopf.EVERYTHING] = memo.labels  # by the server


@kopf.on.startup(registry=ADMISSION)
async def configure_admission(settings: kopf.OperatorSettings, memo: AdmissionMemo, **_: object) -> None:
    """The server for the API server's questions. The chart makes the configuration: kopf would empty it at each stop."""
    settings.admission.server = memo.server
    settings.admission.managed = None


@kopf.on.login(registry=LOBBY_WATCH)
@kopf.on.login(registry=POD_WATCH)
@kopf.on.login(registry=ADMISSION)
async def log_in(memo: Memo, **_: object) -> kopf.AiohttpSession:
    """Credentials of kopf: those of all our calls."""
    return await memo.log_in()


@kopf.on.event(LOBBIES.group, LOBBIES.version, LOBBIES.plural, registry=LOBBY_WATCH)
async def lobby_told(type: str | None, event: kopf.RawEvent, memo: Memo, **_: object) -> None:  # noqa: A002  # kopf's name
    """A Lobby exists, has changed or was deleted."""
    memo.tell(type, event["object"])


@kopf.on.event(PODS.group, PODS.version, PODS.plural, registry=POD_WATCH)
async def pod_told(type: str | None, event: kopf.RawEvent, memo: Memo, **_: object) -> None:  # noqa: A002  # kopf's name
    """A pod of a lobby or of a greeter, depending on the labels of its watch, exists, has changed or was deleted."""
    memo.tell(type, event["object"])


@kopf.on.validate(
    LOBBIES.group,
    LOBBIES.version,
    LOBBIES.plural,
    id=ADMISSION_PATH,
    operations=["CREATE", "UPDATE"],
    registry=ADMISSION,
)
async def lobby_checked(
    body: kopf.Body, memo: AdmissionMemo, old: Mapping[str, Any] | None = None, **_: object
) -> None:
    """A Lobby is about to be created or changed."""
    if refusal := await memo.refusal(body, old):
        raise kopf.AdmissionError(refusal, code=422)


class _NoHistory(kopf.DiffBaseStorage):
    """Keeps no last state of an object: nobody asks for it, and it takes more than half of an event's time."""

    def build(self, **_: object) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Forever:
    """Waits between attempts, without an end: an API server that is away is no reason to end."""

    settings: KopfSettings

    def __iter__(self) -> Iterator[float]:
        shortest, longest = self.settings.min_backoff_seconds, self.settings.max_backoff_seconds
        backoff = Backoff(base=shortest, cap=longest, fraction=random.random)
        while True:
            yield backoff.next(floor=shortest / 2)
