"""JSON Web Tokens (RFC 7519), which some origins want for a login: HS256, ES256 (RFC 7518 §3.2, §3.4), EdDSA (RFC 8037).

Only the last two need a library, cryptography, which is imported when an expression names one of them. No error contains
anything of a key.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final


def signed(algorithm: str, key: bytes, claims: object, headers: Mapping[str, object]) -> str:
    """A token in compact form (RFC 7515 §7.1).

    Args:
        algorithm: HS256, ES256 or EdDSA.
        key: for HS256 any bytes. For the others a private key as PEM, whose line ends may be written as backslash and n, as in
            key files that are JSON; for EdDSA also the 32 bytes of a key, or 64 with the public one, as base64.
        claims: the payload; an object.
        headers: header parameters beside `typ` and `alg`.

    Raises:
        ValueError: the algorithm is unknown, the key is none for it, or the claims are no object.
    """
    if algorithm not in _SIGN:
        raise ValueError(f"jwt: {algorithm[:20]} is not an algorithm; accepted: {', '.join(_SIGN)}")
    if not isinstance(claims, Mapping):
        raise ValueError("jwt: the claims are not a map")  # noqa: TRY004  as any problem of an expression
    content = b".".join(
        _encoded(json.dumps(part).encode()) for part in ({**headers, "typ": "JWT", "alg": algorithm}, dict(claims))
    )
    return b".".join((content, _encoded(_SIGN[algorithm](key, content)))).decode()


def prepare() -> None:
    """Imports the library, which takes some 100 ms."""
    _library()


@cache
def _library() -> Any:  # noqa: ANN401  modules
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  only where a Lobby needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils  # noqa: PLC0415

    class Library:
        """What is needed of it."""

        unsupported = UnsupportedAlgorithm
        pem = staticmethod(serialization.load_pem_private_key)
        p256_key = ec.EllipticCurvePrivateKey
        ed25519_key = ed25519.Ed25519PrivateKey
        ecdsa = ec.ECDSA(hashes.SHA256())
        numbers = staticmethod(utils.decode_dss_signature)

    return Library


def _hs256(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _es256(key: bytes, content: bytes) -> bytes:
    library = _library()
    private = _from_pem(key)
    if not isinstance(private, library.p256_key) or private.curve.name != "secp256r1":
        raise ValueError("jwt: the key is not one of ES256; accepted: a private key of the curve P-256 as PEM")
    r, s = library.numbers(private.sign(content, library.ecdsa))
    return bytes(r.to_bytes(32, "big") + s.to_bytes(32, "big"))  # RFC 7518 §3.4


def _eddsa(key: bytes, content: bytes) -> bytes:
    library = _library()
    if b"-----BEGIN" in key:
        private = _from_pem(key)
    else:
        try:
            raw = b64decode(key, validate=True)
        except binascii.Error:
            raw = b""
        private = library.ed25519_key.from_private_bytes(raw[:32]) if len(raw) in {32, 64} else None
    if not isinstance(private, library.ed25519_key):
        accepted = "a private key of Ed25519 as PEM, or its bytes as base64"
        raise ValueError(f"jwt: the key is not one of EdDSA; accepted: {accepted}")  # noqa: TRY004  as any problem
    return bytes(private.sign(content))


def _from_pem(key: bytes) -> Any:  # noqa: ANN401  a key
    library = _library()
    try:
        return library.pem(key.replace(rb"\n", b"\n"), password=None)
    except (ValueError, TypeError, library.unsupported):  # not PEM; encrypted; of another kind
        raise ValueError("jwt: the key cannot be read; accepted: a private key as PEM, not encrypted") from None


def _encoded(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=")


_SIGN: Final[Mapping[str, Callable[[bytes, bytes], bytes]]] = {"HS256": _hs256, "ES256": _es256, "EdDSA": _eddsa}
ALGORITHMS: Final = tuple(_SIGN)
"""Their names."""
