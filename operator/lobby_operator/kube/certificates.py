"""The certificate with which the operator answers the API server, from a CA that signs it and nothing else. Pure, but random.

The key of the CA is forgotten at once. A renewal makes a new CA; the API server trusts the old one, too, for as long as a
replica may still have the old certificate.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_ENTRY, CERTIFICATE_ENTRY, KEY_ENTRY = "ca.crt", "tls.crt", "tls.key"
"""Entries of the Secret, as cert-manager names them."""

_SKEW = timedelta(hours=1)
"""How far clocks of the cluster may differ."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as PEM.

    Attributes:
        ca: the certificates of the CAs that the API server should trust; the first one signed this certificate.
        certificate: the certificate.
        key: its key.
    """

    ca: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def of(cls, secret: Mapping[str, object]) -> Certificate | None:
        """Reads a Secret; None: it contains none."""
        data = secret.get("data")
        try:
            read = [base64.b64decode(data[entry]) for entry in (CA_ENTRY, CERTIFICATE_ENTRY, KEY_ENTRY)]  # type: ignore[index]
        except (KeyError, TypeError, binascii.Error):
            return None
        return cls(*read) if all(read) else None

    def data(self) -> dict[str, str]:
        """The `data` of a Secret."""
        entries = {CA_ENTRY: self.ca, CERTIFICATE_ENTRY: self.certificate, KEY_ENTRY: self.key}
        return {name: base64.b64encode(value).decode() for name, value in entries.items()}

    def valid_until(self, names: Sequence[str], now: datetime) -> datetime | None:
        """How long it can be used under these names; None: it can't, now or ever."""
        try:
            ca = x509.load_pem_x509_certificates(self.ca)[0]
            leaf = x509.load_pem_x509_certificate(self.certificate)
            key = serialization.load_pem_private_key(self.key, None)
            leaf.verify_directly_issued_by(ca)
            has = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, IndexError, x509.ExtensionNotFound, InvalidSignature):
            return None
        starts = max(leaf.not_valid_before_utc, ca.not_valid_before_utc)
        if key.public_key() != leaf.public_key() or not set(names) <= set(has.get_values_for_type(x509.DNSName)):
            return None
        return min(leaf.not_valid_after_utc, ca.not_valid_after_utc) if starts <= now else None


def issue(names: Sequence[str], now: datetime, days: float, before: Certificate | None = None) -> Certificate:
    """A new certificate.

    Args:
        names: names of the server; the first is its subject.
        now: the time.
        days: how long it is valid.
        before: the one that it replaces, which is trusted for a while yet.
    """
    starts, ends = now - _SKEW, now + timedelta(days=days)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lobby-operator admission")])
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = (
        x509.CertificateBuilder(ca_name, ca_name, ca_key.public_key(), x509.random_serial_number(), starts, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    leaf = (
        x509.CertificateBuilder(ca_name, subject, key.public_key(), x509.random_serial_number(), starts, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(ca.public_bytes(pem) + _first_ca(before), leaf.public_bytes(pem), private)


def _first_ca(before: Certificate | None) -> bytes:
    if before is None:
        return b""
    try:
        return x509.load_pem_x509_certificates(before.ca)[0].public_bytes(serialization.Encoding.PEM)
    except (ValueError, IndexError):
        return b""


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
