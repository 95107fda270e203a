from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from tests.support.origins import Authority, FakeOrigin, authority
from tests.support.sockets import run
from tests.support.specs import origin_spec, resolved

from lobby_gateway.errors import UserError
from lobby_gateway.origin.tls import origin_context
from lobby_gateway.websocket.client import WebSocketClient, open_websocket
from lobby_gateway.websocket.client_handshake import ConnectFailedError
from lobby_gateway.websocket.parser import Event


class Nobody:
    def received(self, events: list[Event]) -> None:
        raise AssertionError(events)

    def lost(self, error: Exception | None) -> None:
        pass


def context(
    *, ca: str | None = None, certificate: str | None = None, key: str | None = None, **tls: Any
) -> ssl.SSLContext | None:
    """The context of an origin whose Secrets hold these texts."""
    environment = {"LOBBY_SECRET_CA_CA_CRT": ca, "LOBBY_SECRET_ME_TLS_CRT": certificate, "LOBBY_SECRET_ME_TLS_KEY": key}
    settings: dict[str, Any] = {"insecureSkipVerify": False, **tls}
    if ca is not None:
        settings["caSecretRef"] = {"name": "ca", "key": "ca.crt"}
    if certificate is not None:
        settings["clientCertSecretRef"] = {"name": "me"}
    spec = origin_spec("wss://localhost/", tls=settings)
    return origin_context(spec, resolved(spec, {k: v for k, v in environment.items() if v is not None}))


async def connect(origin: FakeOrigin, with_context: ssl.SSLContext | None) -> WebSocketClient:
    return await open_websocket(origin.url, receiver=Nobody(), ssl=with_context)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_plain_origin_has_none() -> None:
    spec = origin_spec("ws://origin.example/")
    assert origin_context(spec, resolved(spec)) is None


def test_system_certificates_are_the_default_and_names_are_checked() -> None:
    made = context()
    assert made is not None
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_private_authority_need_not_have_every_extension() -> None:
    made = context(ca=authority().ca_pem)
    assert made is not None
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT  # which Python sets by itself since 3.13


def test_own_authority_is_trusted_and_no_other() -> None:
    async def main() -> None:
        ours, theirs = authority(), authority()
        trusting = context(ca=ours.ca_pem)
        assert trusting is not None
        assert len(trusting.get_ca_certs()) == 1
        async with FakeOrigin(tls=ours.server) as origin:
            await (await connect(origin, trusting)).close()
        async with FakeOrigin(tls=theirs.server) as origin:
            with pytest.raises(ConnectFailedError, match="certificate is not trusted"):
                await connect(origin, trusting)

    run(main())


def test_comments_of_a_ca_bundle_may_be_in_any_language() -> None:
    made = context(ca=f"# Autoridad de Certificación\n{authority().ca_pem}")
    assert made is not None
    assert len(made.get_ca_certs()) == 1


def test_any_certificate_is_taken_if_so_wanted() -> None:
    async def main() -> None:
        async with FakeOrigin(tls=authority("other.example").server) as origin:
            await (await connect(origin, context(insecureSkipVerify=True))).close()

    run(main())


def test_client_certificate_is_shown_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ours = authority(ask_client=True)
    before = descriptors()
    made = context(ca=ours.ca_pem, certificate=ours.certificate_pem, key=ours.key_pem)
    assert descriptors() == before
    assert not list(tmp_path.iterdir())

    async def main() -> None:
        async with FakeOrigin(tls=ours.server) as origin:
            client = await connect(origin, made)
            seen = await origin.until_open()
            shown = seen.server.transport.get_extra_info("peercert")
            assert ("email", "lobby@example.com") in shown["subjectAltName"]
            await client.close()

    run(main())


OURS = authority()
OTHER = authority()
ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIIBvTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHA==
-----END ENCRYPTED PRIVATE KEY-----"""
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nhunter22\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("pem", ["hunter22", NO_CERTIFICATE, NO_CERTIFICATE.replace("22", "é"), OURS.key_pem])
def test_bad_authority_is_a_user_error_that_names_the_field(pem: str) -> None:
    with pytest.raises(UserError, match=r"^spec\.origin\.tls\.caSecretRef: unusable.*; accepted: ") as caught:
        context(ca=pem)
    assert "hunter22" not in str(caught.value)
    assert "\n" not in str(caught.value)


def pairs(ours: Authority, other: Authority) -> list[tuple[str, str]]:
    return [
        ("hunter22", "hunter22"),
        (ours.certificate_pem, "hunter22"),
        (ours.certificate_pem, other.key_pem),
        (ours.certificate_pem, ENCRYPTED),
        (ours.key_pem, ours.key_pem),
    ]


@pytest.mark.parametrize(("certificate", "key"), pairs(OURS, OTHER))
def test_bad_client_certificate_is_a_user_error_that_names_the_field(certificate: str, key: str) -> None:
    before = descriptors()
    with pytest.raises(UserError, match=r"^spec\.origin\.tls\.clientCertSecretRef: unusable.*; accepted: ") as caught:
        context(certificate=certificate, key=key)
    assert "hunter22" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert descriptors() == before


def test_context_can_be_made_on_an_event_loop() -> None:
    async def main() -> None:
        assert context(ca=OURS.ca_pem, certificate=OURS.certificate_pem, key=OURS.key_pem) is not None

    run(main())
