"""Setup for unit tests: TLS contexts without the system's certificates, whose parsing takes 40 ms each time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_system_certificates() -> Iterator[None]:
    """Trusts only the certificates that a test makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        patch.setenv("SSL_CERT_DIR", os.devnull)
        yield
