from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from base64 import b64encode, urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.expressions import ALWAYS, Expression, ExpressionError
from lobby_gateway.origin.json_web_tokens import signed

P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
PLAIN = NoEncryption()


def part(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def pem(key: Any, kind: PrivateFormat = PrivateFormat.PKCS8, encryption: Any = PLAIN) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, kind, encryption)
    return made


def test_hs256_is_that_of_the_example_of_rfc_7515() -> None:
    key = part("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    token = signed("HS256", key, {"iss": "joe"}, {})
    content, _, signature = token.rpartition(".")
    assert part(signature) == hmac.digest(key, content.encode(), hashlib.sha256)
    header, claims = (json.loads(part(each)) for each in content.split("."))
    assert (header, claims) == ({"typ": "JWT", "alg": "HS256"}, {"iss": "joe"})
    assert "=" not in token


@pytest.mark.parametrize("kind", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("line_end", [b"\n", rb"\n"])
def test_es256_is_verified_by_the_public_key(kind: PrivateFormat, line_end: bytes) -> None:
    token = signed("ES256", pem(P256, kind).replace(b"\n", line_end), {"sub": "ü"}, {"kid": "k", "alg": "none"})
    content, _, signature = token.rpartition(".")
    raw = part(signature)
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    P256.public_key().verify(der, content.encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(part(content.partition(".")[0])) == {"kid": "k", "alg": "ES256", "typ": "JWT"}


SEED = ED25519.private_bytes(Encoding.Raw, PrivateFormat.Raw, PLAIN)
PUBLIC = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@pytest.mark.parametrize("key", [pem(ED25519), b64encode(SEED), b64encode(SEED + PUBLIC)], ids=["pem", "32", "64"])
def test_eddsa_is_verified_by_the_public_key(key: bytes) -> None:
    content, _, signature = signed("EdDSA", key, {"sub": "a"}, {}).rpartition(".")
    ED25519.public_key().verify(part(signature), content.encode())


WRONG = [
    ("RS256", b"s3cr3t", "RS256 is not an algorithm; accepted: HS256, ES256, EdDSA"),
    ("ES256", b"s3cr3t", "the key cannot be read; accepted: a private key as PEM, not encrypted"),
    ("ES256", pem(P256, encryption=BestAvailableEncryption(b"s3cr3t")), "the key cannot be read; accepted: "),
    ("ES256", pem(ec.generate_private_key(ec.SECP384R1())), "the key is not one of ES256; accepted: "),
    ("ES256", pem(rsa.generate_private_key(65537, 2048)), "the key is not one of ES256; accepted: "),
    ("ES256", pem(ED25519), "the key is not one of ES256; accepted: "),
    ("EdDSA", pem(P256), "the key is not one of EdDSA; accepted: "),
    ("EdDSA", b"s3cr3t", "the key is not one of EdDSA; accepted: "),
    ("EdDSA", b64encode(b"s3cr3t"), "the key is not one of EdDSA; accepted: "),
]


@pytest.mark.parametrize(("algorithm", "key", "problem"), WRONG, ids=range(len(WRONG)))
def test_a_key_that_is_none_is_an_error_without_the_key(algorithm: str, key: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^jwt: ") as raised:
        signed(algorithm, key, {}, {})
    assert str(raised.value).startswith(f"jwt: {problem}")
    assert "s3cr3t" not in str(raised.value)


def test_claims_must_be_a_map() -> None:
    with pytest.raises(ValueError, match=r"^jwt: the claims are not a map$"):
        signed("HS256", b"k", [1], {})


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9) | st.booleans(), max_size=4),
    st.binary(min_size=1),
)
def test_any_claims_arrive(claims: dict[str, Any], key: bytes) -> None:
    assert json.loads(part(signed("HS256", key, claims, {}).split(".")[1])) == claims


def test_an_expression_makes_a_token_that_is_hidden() -> None:
    source = 'jwt("ES256", KEY, {"nbf": now, "exp": now + 120, "aud": ["a", "b"]}, {"kid": "k"})'
    expression = Expression(source, {*ALWAYS, "KEY"})
    assert expression.signs
    token = expression.value({"KEY": pem(P256).decode(), "now": 7})
    assert json.loads(part(token.split(".")[1])) == {"nbf": 7, "exp": 127, "aud": ["a", "b"]}
    assert Expression('jwt("HS256", "k", {"a": 1})', ALWAYS).value({}).count(".") == 2
    with pytest.raises(ExpressionError, match="the key cannot be read"):
        expression.value({"KEY": "s3cr3t", "now": 7})


def test_the_library_is_imported_only_where_an_expression_names_what_it_signs() -> None:
    for source, imported in (
        ('jwt("HS256", "k", {})', False),
        ('hex(hmac("SHA256", "k", "a"))', False),
        ('jwt("ES256", "k", {})', True),
    ):
        code = (
            "import sys; from lobby_gateway.origin.expressions import Expression; "
            f"Expression({source!r}, set()); print('cryptography' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.strip() == str(imported)
