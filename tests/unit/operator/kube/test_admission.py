"""The answers to the API server: real kopf over TLS, against a fake API server; and the certificate for them."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from tests.support.kube_api import FakeKubeApi
from tests.support.waiting import until
from tests.unit.operator.kube.support import connected, lobby_resource, running

from lobby_operator.kube.admission import Admission, AdmissionThread
from lobby_operator.kube.certificates import Certificate, issue
from lobby_operator.kube.lobby_registry import LobbyRegistry
from lobby_operator.settings import AdmissionSettings, ApiSettings, KopfSettings, PolicySettings

SECRET = "/api/v1/namespaces/system/secrets/admission"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/checks"
NAMES = ("admission.system.svc", "admission.system.svc.cluster.local")
SETTINGS = AdmissionSettings(
    service="admission",
    secret="admission",
    configuration="checks",
    check_seconds=0.05,
    first_check_seconds=0.05,
)


class Asker:
    """Asks as the API server does.

    Attributes:
        lobbies: the Lobbies that the operator knows.
        holds: whether this replica holds the Lease.
        admission: what is tested.
    """

    def __init__(self, server: FakeKubeApi, port: int) -> None:
        self.server = server
        self.port = port
        self.lobbies = LobbyRegistry(PolicySettings())
        self.lobbies.synced = True
        self.holds = True
        self.admission: Admission

    @property
    def bundle(self) -> str:
        """What the API server trusts."""
        webhook = self.server.objects[CONFIGURATION]["webhooks"][0]
        return base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()

    async def ask(self, new: dict[str, Any], old: dict[str, Any] | None = None) -> tuple[bool, str]:
        """Whether a Lobby may be stored, and the reason if not."""
        request = {
            "uid": "1",
            "operation": "CREATE" if old is None else "UPDATE",
            "resource": {"group": "lobby-gateway.io", "version": "v1alpha1", "resource": "lobbies"},
            "userInfo": {"username": "someone"},
            "object": new,
            "oldObject": old,
            "dryRun": False,
        }
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        context = ssl.create_default_context(cadata=self.bundle)
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"https://127.0.0.1:{self.port}/lobbies", json=review, ssl=context, server_hostname=NAMES[0]
            ) as answer,
        ):
            assert answer.status == 200, await answer.text()
            response = (await answer.json())["response"]
        assert response["uid"] == "1"
        return response["allowed"], response.get("status", {}).get("message", "")

    async def answers(self) -> bool:
        """Whether questions are answered."""
        try:
            return (await self.ask(stored()))[0]
        except (aiohttp.ClientError, ssl.SSLError, ValueError):
            return False


def stored(name: str = "prices", **fields: Any) -> dict[str, Any]:
    return lobby_resource(name, **fields)


@asynccontextmanager
async def asking(*, port: int = 0, **fields: Any) -> AsyncIterator[Asker]:
    async with connected(settings=ApiSettings(request_seconds=5.0)) as (server, api):
        if not port:
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                port = listening.getsockname()[1]
        asker = Asker(server, port)
        server.put(SECRET, {"metadata": {"name": "admission", "namespace": "system"}, "type": "Opaque"})
        webhook = {"name": "lobbies.lobby-gateway.io", "clientConfig": {"service": {"name": "admission"}}}
        server.put(CONFIGURATION, {"metadata": {"name": "checks"}, "webhooks": [webhook]})
        asker.admission = admission = Admission(
            api,
            asker.lobbies,
            namespace="system",
            holds=lambda: asker.holds,
            settings=replace(SETTINGS, port=port, **fields),
            kopf_settings=KopfSettings(min_backoff_seconds=0.01, max_backoff_seconds=0.05),
        )
        try:
            async with running(admission.run()):
                yield asker
        finally:
            await admission.close()


def secret_of(asker: Asker) -> Certificate | None:
    return Certificate.of(asker.server.objects[SECRET])


def test_a_lobby_is_accepted_or_refused_with_the_sentence_of_its_condition() -> None:
    async def scenario() -> None:
        async with asking() as asker:
            asker.lobbies.update(stored("taken", path="/here", created="2026-11-25T14:00:00Z"))
            await until(asker.answers)
            assert await asker.ask(stored(maxReplicas=200)) == (True, "")
            too_many = (False, "spec.maxReplicas: 201 is too large; accepted here: at most 200")
            assert await asker.ask(stored(maxReplicas=201)) == too_many
            assert await asker.ask(stored(maxReplicas=201), stored()) == too_many
            late = stored(path="/here", created="2026-11-26T14:00:00Z")
            assert await asker.ask(late) == (False, "/here belongs to the older Lobby taken")

    asyncio.run(scenario())


def test_a_standby_answers_and_writes_nothing() -> None:
    async def scenario() -> None:
        async with asking() as asker:
            await until(asker.answers)
            made = secret_of(asker)
            asker.holds = False
            begun = len(asker.server.asked)
            await until(lambda: len(asker.server.asked) > begun + 3)  # what it did as the holder is done
            del asker.server.objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"]
            asked = len(asker.server.asked)
            await until(lambda: len(asker.server.asked) > asked + 3)
            assert [each.method for each in asker.server.asked[asked:] if each.method != "GET"] == []
            asker.server.objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(
                made.ca if made is not None else b""
            ).decode()
            assert await asker.answers()

    asyncio.run(scenario())


def test_a_standby_waits_for_the_certificate_of_the_holder() -> None:
    async def scenario() -> None:
        async with asking() as asker:
            asker.holds = False
            await until(lambda: sum(each.path == SECRET for each in asker.server.asked) > 2)
            made = issue(NAMES, datetime.now(UTC), 90)
            asker.server.put(SECRET, {**asker.server.objects[SECRET], "data": made.data()})
            webhook = asker.server.objects[CONFIGURATION]["webhooks"][0]
            webhook["clientConfig"]["caBundle"] = base64.b64encode(made.ca).decode()
            await until(asker.answers)

    asyncio.run(scenario())


@pytest.mark.parametrize("left", [29.0, None], ids=["soon-invalid", "damaged"])
def test_a_certificate_is_renewed_without_a_moment_in_which_none_is_trusted(left: float | None) -> None:
    async def scenario() -> None:
        async with asking() as asker:
            await until(asker.answers)
            old = issue(NAMES, datetime.now(UTC), 90 if left is None else left)
            if left is None:
                old = replace(old, key=b"nonsense")
            asker.server.put(SECRET, {**asker.server.objects[SECRET], "data": old.data()})
            await until(lambda: secret_of(asker) not in (None, old))
            made = secret_of(asker)
            assert made is not None
            assert made.valid_until(NAMES, datetime.now(UTC)) is not None
            assert asker.bundle == made.ca.decode()
            assert made.ca.endswith(old.ca)  # replicas that have not read the new one yet
            writes = [each.path for each in asker.server.asked if each.method == "PATCH"]
            assert writes[-2:] == [CONFIGURATION, SECRET]
            await until(asker.answers)

    asyncio.run(scenario())


def test_the_ca_is_written_again_when_someone_removed_it() -> None:
    async def scenario() -> None:
        async with asking() as asker:
            await until(asker.answers)
            bundle = asker.bundle
            webhook = {"name": "lobbies.lobby-gateway.io", "clientConfig": {"service": {"name": "admission"}}}
            asker.server.put(CONFIGURATION, {"metadata": {"name": "checks"}, "webhooks": [webhook]})
            await until(lambda: asker.bundle == bundle)

    asyncio.run(scenario())


def test_with_cert_manager_nothing_is_written() -> None:
    async def scenario() -> None:
        async with asking(configuration="") as asker:
            await until(lambda: sum(each.path == SECRET for each in asker.server.asked) > 2)
            made = issue(NAMES, datetime.now(UTC), 10)  # cert-manager renews it, whenever it wants
            asker.server.put(SECRET, {**asker.server.objects[SECRET], "data": made.data()})
            webhook = asker.server.objects[CONFIGURATION]["webhooks"][0]
            webhook["clientConfig"]["caBundle"] = base64.b64encode(made.ca).decode()
            await until(asker.answers)
            assert not [each for each in asker.server.asked if each.method != "GET"]

    asyncio.run(scenario())


def test_the_problem_is_named_while_the_certificate_can_not_be_kept() -> None:
    async def scenario() -> None:
        async with asking() as asker:
            await until(asker.answers)
            there = asker.server.objects.pop(CONFIGURATION)
            await until(lambda: asker.admission.problem)
            assert "validatingwebhookconfigurations checks" in asker.admission.problem
            asker.server.put(CONFIGURATION, there)
            await until(lambda: not asker.admission.problem)
            assert await asker.answers()

    asyncio.run(scenario())


def test_a_secret_of_cert_manager_without_a_ca_is_named() -> None:
    async def scenario() -> None:
        async with asking(configuration="") as asker:
            incomplete = {**issue(NAMES, datetime.now(UTC), 10).data(), "ca.crt": ""}
            asker.server.put(SECRET, {**asker.server.objects[SECRET], "data": incomplete})
            await until(lambda: "ca.crt" in asker.admission.problem)

    asyncio.run(scenario())


def test_a_taken_port_is_logged_once_and_used_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lives: list[AdmissionThread] = []

    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("", 0))
            taken.listen()
            async with asking(port=taken.getsockname()[1]) as asker:
                await until(lambda: len(lives) > 5)
                taken.close()
                await until(asker.answers)

    start = AdmissionThread.start

    def counted(life: AdmissionThread) -> None:
        lives.append(life)
        start(life)

    monkeypatch.setattr(AdmissionThread, "start", counted)
    asyncio.run(scenario())
    ends = [each for each in caplog.records if each.message == "kopf ended; starting it again"]
    assert len(ends) == 1


@pytest.mark.parametrize("error", [KeyError("name"), None], ids=["bug", "no-answer"])
def test_what_fails_refuses_nothing(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with asking(answer_seconds=0.2) as asker:
            await until(asker.answers)
            bad = stored(maxReplicas=201)
            assert (await asker.ask(bad))[0] is False

            async def fails(*_: object) -> str:
                if error is not None:
                    raise error
                await asyncio.Event().wait()
                return ""

            monkeypatch.setattr(AdmissionThread, "_refusal", fails)
            assert await asker.ask(bad) == (True, "")

    asyncio.run(scenario())
