from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.errors import MissingSecretError, UserError
from lobby_gateway.origin.captured import Known
from lobby_gateway.origin.requests import Request
from lobby_gateway.origin.script import Expectation
from lobby_gateway.origin.secrets import (
    ResolvedOrigin,
    problems,
    resolve,
    secret_references,
    secret_variable,
)
from lobby_gateway.resource import schema
from lobby_gateway.resource.spec import OriginSpec, lobby_from_resource

URL = "wss://feed.example.com/stream"


def origin(url: str = URL, **fields: Any) -> OriginSpec:
    return lobby_from_resource(schema.default_lobby("prices", url, spec={"origin": fields})).spec.origin


def request(made: ResolvedOrigin) -> Request:
    assert made.dialogue.handshake is not None
    return made.dialogue.handshake.request(Known(made.dialogue.secrets))


def unchecked(**fields: Any) -> OriginSpec:
    """An origin whose texts the schema would refuse."""
    resource = schema.default_lobby("prices", URL)
    resource["spec"]["origin"] |= fields
    return lobby_from_resource(resource).spec.origin


def ref(key: str, name: str = "feed") -> dict[str, str]:
    return {"name": name, "key": key}


def secret_value(name: str, key: str = "k") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": ref(key)}}


API_KEY = {"name": "API_KEY", "secretKeyRef": ref("api-key")}


@pytest.mark.parametrize(
    ("name", "key", "variable"),
    [
        ("feed", "api-key", "LOBBY_SECRET_FEED_API_KEY"),
        ("feed", "ca.crt", "LOBBY_SECRET_FEED_CA_CRT"),
        ("my.feed-2", "Token_x", "LOBBY_SECRET_MY_FEED_2_TOKEN_X"),
    ],
)
def test_a_variable_is_named_after_secret_and_key(name: str, key: str, variable: str) -> None:
    assert secret_variable(name, key) == variable


def test_every_reference_is_listed_with_its_field() -> None:
    spec = origin(
        headers=[{"name": "X-A", "value": "a"}, secret_value("X-B", "b")],
        query=[secret_value("c", "c")],
        secrets=[API_KEY],
        tls={"caSecretRef": {"name": "ca"}, "clientCertSecretRef": {"name": "us"}},
    )
    assert [(each.field, each.name, each.key) for each in secret_references(spec)] == [
        ("spec.origin.headers[1].valueFrom.secretKeyRef", "feed", "b"),
        ("spec.origin.query[0].valueFrom.secretKeyRef", "feed", "c"),
        ("spec.origin.secrets[0].secretKeyRef", "feed", "api-key"),
        ("spec.origin.tls.caSecretRef", "ca", "ca.crt"),
        ("spec.origin.tls.clientCertSecretRef", "us", "tls.crt"),
        ("spec.origin.tls.clientCertSecretRef", "us", "tls.key"),
    ]
    assert secret_references(spec)[0].variable == "LOBBY_SECRET_FEED_B"


def test_an_origin_without_secrets_needs_none() -> None:
    made = resolve(origin(headers=[{"name": "X-A", "value": "a b"}], onConnect=[{"send": "hello"}]), {})
    assert (request(made).url, request(made).headers, made.dialogue.steps) == (URL, (("X-A", "a b"),), ("hello",))
    assert (made.ca_pem, made.client_certificate_pem, made.client_key_pem) == (None, None, None)


def test_values_are_put_in_where_they_belong() -> None:
    spec = origin(
        headers=[secret_value("Authorization", "auth"), {"name": "X-A", "value": ""}],
        query=[secret_value("key", "key"), {"name": "a b", "value": "c&d"}],
        secrets=[API_KEY],
        onConnect=[{"send": '{"key":"$(API_KEY)"}'}, {"expect": {"json": {"/ok": True}}}],
        tls={"caSecretRef": {"name": "ca"}, "clientCertSecretRef": {"name": "us"}},
    )
    environment = {
        "LOBBY_SECRET_FEED_AUTH": "Bearer x",
        "LOBBY_SECRET_FEED_KEY": "a+b/ä=",
        "LOBBY_SECRET_FEED_API_KEY": "k$(API_KEY)",
        "LOBBY_SECRET_CA_CA_CRT": "the CA\n",
        "LOBBY_SECRET_US_TLS_CRT": "our certificate\n",
        "LOBBY_SECRET_US_TLS_KEY": "our key\n",
    }
    made = resolve(spec, environment)
    environment = {name: value.removesuffix("\n") for name, value in environment.items()}
    assert request(made).headers == (("Authorization", "Bearer x"), ("X-A", ""))
    assert request(made).url == f"{URL}?key=a%2Bb%2F%C3%A4%3D&a%20b=c%26d"
    assert made.dialogue.steps == ('{"key":"k$(API_KEY)"}', Expectation(json={"/ok": True}, timeout_seconds=5))
    assert (made.ca_pem, made.client_certificate_pem, made.client_key_pem) == ("the CA", "our certificate", "our key")
    assert made.secrets == {*environment.values(), "c&d"} - {made.ca_pem, made.client_certificate_pem}


def test_a_repr_shows_no_value() -> None:
    spec = origin(headers=[secret_value("X-Key")], query=[secret_value("key")], onConnect=[{"send": "hunter2"}])
    text = repr(resolve(spec, {"LOBBY_SECRET_FEED_K": "hunter2"}))
    assert text == "<ResolvedOrigin with 1 steps and 1 secrets>"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_one_line_end_behind_a_secret_is_left_out_everywhere(line_end: str) -> None:
    spec = origin(
        headers=[secret_value("X-Key")],
        query=[secret_value("key")],
        secrets=[{"name": "KEY", "secretKeyRef": ref("k")}],
        onConnect=[{"send": '{"key": "$(KEY)"}'}],
    )
    made = resolve(spec, {"LOBBY_SECRET_FEED_K": f"hunter2{line_end}"})
    assert request(made).headers == (("X-Key", "hunter2"),)
    assert request(made).url == f"{URL}?key=hunter2"
    assert made.dialogue.steps == ('{"key": "hunter2"}',)
    assert made.secrets == {"hunter2"}
    again = resolve(origin(query=[secret_value("key")]), {"LOBBY_SECRET_FEED_K": f"hunter2{line_end * 2}"})
    assert request(again).url == f"{URL}?key=hunter2{quote(line_end)}"


@given(st.text(min_size=1, max_size=20).filter(lambda text: not text.endswith(("\n", "\r"))))
def test_any_secret_fits_into_a_json_string(secret: str) -> None:
    spec = origin(
        secrets=[{"name": "KEY", "secretKeyRef": ref("k")}], onConnect=[{"send": '{"auth": "Bearer $(json:KEY)"}'}]
    )
    (text,) = resolve(spec, {"LOBBY_SECRET_FEED_K": secret}).dialogue.steps
    assert isinstance(text, str)
    assert json.loads(text) == {"auth": f"Bearer {secret}"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LOBBY_SECRET_FEED_A": "", "LOBBY_SECRET_FEED_B": ""},
        {"LOBBY_SECRET_FEED_A": "\n", "LOBBY_SECRET_FEED_B": "\r\n"},
    ],
)
def test_every_missing_secret_is_named_with_its_field_and_variable(environment: dict[str, str]) -> None:
    spec = origin(headers=[secret_value("X-A", "a"), secret_value("X-B", "b")])
    with pytest.raises(MissingSecretError) as caught:
        resolve(spec, environment)
    where = "spec.origin.headers[{}].valueFrom.secretKeyRef"
    accepted = "accepted: a value in the environment variable LOBBY_SECRET_FEED"
    assert str(caught.value).splitlines() == [
        f"{where.format(0)}: key a of Secret feed is missing; {accepted}_A",
        f"{where.format(1)}: key b of Secret feed is missing; {accepted}_B",
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": [secret_value("X-Key")]},
        {"query": [secret_value("key")]},
        {"secrets": [{"name": "KEY", "secretKeyRef": ref("k")}], "onConnect": [{"send": "$(KEY)"}]},
        {"tls": {"caSecretRef": ref("k")}},
    ],
)
def test_a_secret_that_is_not_utf_8_is_refused_without_showing_it(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r": key k of Secret feed is not UTF-8; accepted: UTF-8 text$") as caught:
        resolve(origin(**fields), {"LOBBY_SECRET_FEED_K": b"hunter2\xff".decode(errors="surrogateescape")})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["hunter2\n\n", "hunter2\r\nHost: x", " hunter2", "hunter2\x00", "hunter2€"])
def test_a_secret_that_no_header_can_carry_is_refused_without_showing_it(value: str) -> None:
    spec = origin(headers=[{"name": "X-A", "value": "a"}, secret_value("X-Key")])
    with pytest.raises(UserError, match=r"^spec\.origin\.headers\[1\]: the value of X-Key has a line break") as caught:
        resolve(spec, {"LOBBY_SECRET_FEED_K": value})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("send", "sent"),
    [
        ("$(API_KEY)", "K"),
        ("$(API_KEY)$(API_KEY)", "KK"),
        ("$(json:API_KEY)", "K"),
        ("$$(json:API_KEY)", "$(json:API_KEY)"),
        ("$$(API_KEY)", "$(API_KEY)"),
        ("$$$(API_KEY)", "$$(API_KEY)"),
        ("$API_KEY $ $$ (API_KEY) ${API_KEY}", "$API_KEY $ $$ (API_KEY) ${API_KEY}"),
        ("$$(", "$("),
    ],
)
def test_names_in_texts_are_replaced_and_can_be_escaped(send: str, sent: str) -> None:
    spec = origin(secrets=[API_KEY], onConnect=[{"send": send}])
    assert resolve(spec, {"LOBBY_SECRET_FEED_API_KEY": "K"}).dialogue.steps == (sent,)


@pytest.mark.parametrize(
    ("send", "what"),
    [
        ("$(APIKEY)", "$(APIKEY) is unknown"),
        ("$(json:APIKEY)", "$(json:APIKEY) is unknown"),
        ("$(json:API_KEY", "$( without an expression and ')'"),
        ("$(", "$( without an expression and ')'"),
        ("$(API_KEY", "$( without an expression and ')'"),
        ("$(A$(B", "$( without an expression and ')'"),
    ],
)
def test_an_unknown_name_is_refused_with_its_field(send: str, what: str) -> None:
    spec = unchecked(secrets=[API_KEY], onConnect=[{"send": "fine"}, {"send": send}])
    field, text = problems(spec)[0]
    assert field == "spec.origin.onConnect[1].send"
    accepted = (
        "the names of spec.origin.secrets (API_KEY), expressions with last, now, nowMillis, saved, or $$( for $( itself"
    )
    assert text == f"{what}; accepted: {accepted}"
    with pytest.raises(UserError, match=r"^spec\.origin\.onConnect\[1\]\.send: \$"):
        resolve(spec, {"LOBBY_SECRET_FEED_API_KEY": "K"})


@pytest.mark.parametrize(
    "name", ["msg", "text", "data", "http", "saved", "now", "nowMillis", "last", "list", "true", "in"]
)
def test_a_secret_cannot_be_named_like_what_expressions_already_know(name: str) -> None:
    secret = {"name": name, "secretKeyRef": ref("k")}
    spec = unchecked(secrets=[API_KEY, secret], onMessage=[{"when": "text == 'a'", "forward": False, "renew": False}])
    ((field, line),) = problems(spec)
    assert field == "spec.origin.secrets[1].name"
    assert line.startswith(f"'{name}' has a meaning in expressions; accepted: a name other than bool, bytes, data, ")


def test_two_keys_with_the_same_variable_are_refused() -> None:
    spec = unchecked(
        secrets=[
            {"name": "A", "secretKeyRef": ref("api-key")},
            {"name": "B", "secretKeyRef": ref("api-key")},  # the very same: fine
            {"name": "C", "secretKeyRef": ref("api_key")},
        ]
    )
    ((field, text),) = problems(spec)
    assert field == "spec.origin.secrets[2].secretKeyRef"
    assert text == (
        "feed/api_key maps to the same variable, LOBBY_SECRET_FEED_API_KEY, as feed/api-key of "
        "spec.origin.secrets[0].secretKeyRef; accepted: names that differ in letters or digits"
    )


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("wss://a.example", "wss://a.example?k=v"),
        ("wss://a.example/?", "wss://a.example/?k=v"),
        ("wss://a.example/?a=b", "wss://a.example/?a=b&k=v"),
        ("wss://a.example/?a=b&", "wss://a.example/?a=b&k=v"),
    ],
)
def test_parameters_are_added_to_those_of_the_url(url: str, made: str) -> None:
    spec = origin(url, query=[{"name": "k", "value": "v"}])
    assert request(resolve(spec, {})).url == made


@given(st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)), min_size=1, max_size=4))
def test_any_parameter_arrives_as_it_is(pairs: list[tuple[str, str]]) -> None:
    query = [{"name": name, "value": value.replace("$(", "$$(")} for name, value in pairs]
    url = request(resolve(unchecked(query=query), {})).url
    assert parse_qsl(urlsplit(url).query, strict_parsing=True) == pairs
    assert url.isascii()


names = st.sampled_from(["A", "B"])
pieces = st.one_of(
    names.map(lambda name: (f"$({name})", f"<{name}>")),
    st.just(("$$(", "$(")),
    st.text(alphabet="a(){}\"'\n", max_size=5).map(lambda text: (text, text)),
)


@given(st.lists(pieces, min_size=1, max_size=8))
def test_a_text_is_put_together_of_its_pieces(parts: list[tuple[str, str]]) -> None:
    spec = unchecked(
        secrets=[{"name": name, "secretKeyRef": ref(name)} for name in ("A", "B")],
        onConnect=[{"send": "".join(piece for piece, _ in parts)}],
    )
    environment = {"LOBBY_SECRET_FEED_A": "<A>", "LOBBY_SECRET_FEED_B": "<B>"}
    assert resolve(spec, environment).dialogue.steps == ("".join(made for _, made in parts),)
