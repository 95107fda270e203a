"""The certificate of admission: what a TLS client accepts, and when it is renewed."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lobby_operator.kube.certificates import Certificate, issue

NAMES = ("admission.system.svc", "admission.system.svc.cluster.local")
NOW = datetime(2026, 11, 28, tzinfo=UTC)
TODAY = datetime.now(UTC)


def handshake(server: Certificate, ca: bytes, folder: Path, name: str = NAMES[0]) -> None:
    """A TLS handshake in memory, as strict as OpenSSL can be."""
    file = folder / "tls.pem"
    file.write_bytes(server.key + server.certificate)
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=ca.decode())
    ours.load_cert_chain(file)
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [theirs.wrap_bio(down, up, server_hostname=name), ours.wrap_bio(up, down, server_side=True)]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass


def test_a_client_that_trusts_the_ca_accepts_the_certificate(tmp_path: Path) -> None:
    made = issue(NAMES, TODAY, 90)
    for name in NAMES:
        handshake(made, made.ca, tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(made, made.ca, tmp_path, "other.system.svc")


def test_after_a_renewal_the_old_certificate_is_still_trusted(tmp_path: Path) -> None:
    old = issue(NAMES, TODAY, 90)
    new = issue(NAMES, TODAY, 90, before=old)
    handshake(new, new.ca, tmp_path)
    handshake(old, new.ca, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(new, old.ca, tmp_path)
    newest = issue(NAMES, TODAY, 90, before=new)
    handshake(new, newest.ca, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(old, newest.ca, tmp_path)  # CAs don't pile up


def test_it_is_valid_for_its_days_under_its_names() -> None:
    made = issue(NAMES, NOW, 90)
    assert made.valid_until(NAMES, NOW) == NOW + timedelta(days=90)
    assert made.valid_until(NAMES, NOW - timedelta(minutes=59)) is not None  # clocks differ
    assert made.valid_until(NAMES, NOW - timedelta(days=1)) is None
    assert made.valid_until(("other.system.svc",), NOW) is None


def test_a_certificate_that_does_not_fit_can_not_be_used() -> None:
    made, other = issue(NAMES, NOW, 90), issue(NAMES, NOW, 90)
    for broken in (
        replace(made, ca=other.ca),
        replace(made, key=other.key),
        replace(made, certificate=other.certificate),
        replace(made, certificate=b"nonsense"),
        replace(made, key=b"nonsense"),
        replace(made, ca=b""),
    ):
        assert broken.valid_until(NAMES, NOW) is None
        assert issue(NAMES, NOW, 90, before=broken).valid_until(NAMES, NOW) is not None


def test_it_is_read_from_a_secret_as_it_was_written() -> None:
    made = issue(NAMES, NOW, 90)
    assert Certificate.of({"data": made.data()}) == made
    secrets: tuple[dict[str, Any], ...] = (
        {},
        {"data": None},
        {"data": {}},
        {"data": {**made.data(), "tls.key": ""}},
        {"data": {"ca.crt": "%"}},
    )
    assert [Certificate.of(secret) for secret in secrets] == [None] * len(secrets)
