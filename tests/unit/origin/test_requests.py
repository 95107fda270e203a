from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.expressions import ALWAYS, ExpressionError
from lobby_gateway.origin.requests import HTTP, WEBSOCKET, RequestTemplate, header_problem, url_problem
from lobby_gateway.origin.templates import Template

SECRETS = {"KEY": "hunter2hunter2"}


def template(source: str) -> Template:
    return Template(source, SECRETS, ALWAYS)


def known(**saved: object) -> Known:
    captured = Captured()
    captured.values.update(saved)
    return Known({**SECRETS, "saved": captured.values, "now": 1, "nowMillis": 1000}, captured)


def test_constants_are_the_request() -> None:
    made = RequestTemplate(url="wss://a.example/?x=1", headers=[("X-A", "a")], query=[("k", "a b"), ("empty", "")])
    assert made.request(known()).url == "wss://a.example/?x=1&k=a%20b&empty="
    assert made.request(known()).headers == (("X-A", "a"),)


def test_expressions_are_evaluated_for_each_request() -> None:
    made = RequestTemplate(
        url=template("$(saved.url)?v=$(saved.v)"),
        headers=[("Authorization", template("Bearer $(saved.token)"))],
        query=[("token", template("$(saved.token)/$(KEY)"))],
    )
    first = made.request(known(url="wss://one.example", v=1, token="t1"))
    assert first.url == "wss://one.example?v=1&token=t1%2Fhunter2hunter2"
    second = made.request(known(url="ws://two.example/a", v=2, token="t2"))
    assert (second.url, second.headers) == (
        "ws://two.example/a?v=2&token=t2%2Fhunter2hunter2",
        (("Authorization", "Bearer t2"),),
    )


def test_an_expression_that_gives_nothing_leaves_the_parameter_out_and_a_header_empty() -> None:
    made = RequestTemplate(
        url="wss://a.example", headers=[("X-A", template("$(saved.a)"))], query=[("a", template("$(saved.a)"))]
    )
    assert made.request(known(a="")).url == "wss://a.example"
    assert made.request(known(a="")).headers == (("X-A", ""),)


def test_computed_values_of_headers_and_query_are_hidden() -> None:
    made = RequestTemplate(
        url="wss://a.example", headers=[("X-A", template("$(KEY)-$(now)"))], query=[("b", template("beta-$(now)"))]
    )
    given = known()
    made.request(given)
    assert given.captured.hidden.hide("hunter2hunter2-1, beta-1") == "***, ***"


def test_a_repr_shows_no_value() -> None:
    made = RequestTemplate(url="wss://a.example/s3cr3t", headers=[("X-A", "s3cr3t")])
    assert "s3cr3t" not in repr(made.request(known()))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"url": "$(saved.none)"}, "url: there is no field 'none'"),
        ({"url": "$(saved.http)"}, "url: it does not begin with ws:// or wss://; accepted: "),
        ({"url": "wss://$(saved.breaks)"}, "url: it has a space, '#', a control character"),
        ({"url": "wss://$(saved.user)"}, "url: it has user:password@"),
        ({"url": "wss://$(saved.fragment)"}, "url: it has a space, '#'"),
        ({"url": "wss://$(saved.nothing)"}, "url: it has no host"),
        ({"url": "wss://a.example:$(saved.number)"}, "url: its port is not a number"),
        ({"headers": "$(saved.breaks)"}, "headers[0].value: the value of X-A has a line break"),
        ({"headers": "$(saved.none)"}, "headers[0].value: there is no field 'none'"),
        ({"query": "$(saved.none)"}, "query[0].value: there is no field 'none'"),
    ],
)
def test_a_value_that_is_not_allowed_there_is_an_error_with_its_field_and_without_the_value(
    fields: dict[str, str], error: str
) -> None:
    saved: dict[str, Any] = {
        "http": "https://s3cr3t.example/",
        "breaks": "a.example/s3cr3t\r\nX-B: s3cr3t",
        "user": "user:s3cr3t@a.example",
        "fragment": "a.example/#s3cr3t",
        "nothing": "/s3cr3t",
        "number": 123456,
    }
    made = RequestTemplate(
        url=template(fields.get("url", "wss://a.example")),
        headers=[("X-A", template(fields["headers"]))] if "headers" in fields else (),
        query=[("a", template(fields["query"]))] if "query" in fields else (),
    )
    with pytest.raises(ExpressionError) as raised:
        made.request(known(**saved))
    assert str(raised.value).startswith(error)
    assert "s3cr3t" not in str(raised.value)


def test_errors_name_the_call_that_a_request_is_for() -> None:
    made = RequestTemplate(path="beforeConnect[1].http.", schemes=HTTP, url=template("$(saved.url)"))
    with pytest.raises(ExpressionError, match=r"^beforeConnect\[1\]\.http\.url: it does not begin with http://"):
        made.request(known(url="wss://a.example"))


@given(st.text(max_size=30))
def test_no_url_that_is_accepted_can_break_the_request(rest: str) -> None:
    for schemes in (WEBSOCKET, HTTP):
        url = schemes[0] + rest
        if not url_problem(url, schemes):
            assert url.isascii()
            assert url.isprintable()
            assert not {" ", "#"} & set(url)
            assert "@" not in rest.partition("/")[0].partition("?")[0]


@given(st.text(alphabet=st.characters(max_codepoint=300), max_size=10))
def test_no_header_value_that_is_accepted_has_a_line_break(value: str) -> None:
    if not header_problem("X-A", value):
        assert not {"\r", "\n", "\0"} & set(value)
        value.encode("latin-1")
