"""The `ssl.SSLContext` of an origin, made from PEM texts that are never written to disk."""

from __future__ import annotations

import os
import ssl

from lobby_gateway.errors import UserError
from lobby_gateway.origin.secrets import ResolvedOrigin
from lobby_gateway.resource.spec import OriginSpec

_CA_FIELD = "spec.origin.tls.caSecretRef"
_CLIENT_FIELD = "spec.origin.tls.clientCertSecretRef"


def origin_context(origin: OriginSpec, resolved: ResolvedOrigin) -> ssl.SSLContext | None:
    """The context of an origin and of HTTP calls around it; None: all of that is without TLS.

    Raises:
        UserError: a PEM text is unusable; the error names the field and contains nothing of the text.
    """
    calls = [step.http.url for step in origin.before_connect]
    calls += [step.http.url for step in origin.on_connect if step.http is not None]
    if origin.url.startswith("ws://") and all(url.startswith("http://") for url in calls):
        return None
    # Only ASCII is accepted, but comments between certificates may contain anything; within one, "?" makes it invalid.
    ca_pem = None if resolved.ca_pem is None else resolved.ca_pem.encode("ascii", "replace").decode()
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise UserError(f"{_CA_FIELD}: {_problem(error)}; accepted: certificates as PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # not the default of every Python build (RFC 8996)
    # Python 3.13 requires extensions that private CAs often lack; other clients don't.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if origin.tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if resolved.client_certificate_pem is not None and resolved.client_key_pem is not None:
        _load_client_certificate(context, resolved.client_certificate_pem, resolved.client_key_pem)
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """Loads a certificate and key. `ssl` reads them only from a path; this one is in memory and closed at once."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, f"{certificate_pem}\n{key_pem}\n".encode())
        # Without a password OpenSSL would prompt for that of an encrypted key on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, ValueError) as error:
        accepted = "tls.crt with certificates and tls.key with the unencrypted key of the first one, both as PEM"
        raise UserError(f"{_CLIENT_FIELD}: {_problem(error)}; accepted: {accepted}") from error
    finally:
        os.close(descriptor)


def _problem(error: Exception) -> str:
    """OpenSSL's reason in words; its own text names source files."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return f"unusable ({reason.replace('_', ' ').lower()})" if reason else "unusable: no such PEM block found"
