from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.origin.captured import Captured, Known
from lobby_gateway.origin.expressions import ALWAYS, OF_ANSWER, Expression, ExpressionError
from lobby_gateway.origin.http_calls import CallEnd, CallFailure, HttpAnswer, HttpCall, HttpRequest
from lobby_gateway.origin.requests import HTTP, Request, RequestTemplate
from lobby_gateway.origin.templates import Template

URL = "https://api.example/v1/token?key=s3cr3t"
REQUEST = HttpRequest(
    what="POST https://api.example/v1/token", method="POST", request=Request(URL), body=None, timeout_seconds=10
)


def expression(source: str) -> Expression:
    return Expression(source, OF_ANSWER)


def call(**fields: Any) -> HttpCall:
    defaults: dict[str, Any] = {
        "field": "beforeConnect[0].http",
        "method": "POST",
        "template": RequestTemplate(path="beforeConnect[0].http.", schemes=HTTP, url=URL),
        "body": None,
        "status": frozenset({200}),
        "timeout_seconds": 10,
        "save": {},
        "end": None,
    }
    return HttpCall(**{**defaults, **fields})


def known(**saved: object) -> Known:
    captured = Captured()
    captured.values.update(saved)
    return Known({"saved": captured.values, "now": 1, "nowMillis": 1000}, captured)


def answer(status: int = 200, body: object = None, **fields: Any) -> HttpAnswer:
    return HttpAnswer(status=status, body=b"" if body is None else json.dumps(body).encode(), **fields)


def test_the_request_is_made_of_expressions_and_named_without_its_query() -> None:
    made = call(body=Template("nonce=$(nowMillis)", (), ALWAYS)).request(known())
    assert (made.what, made.body, made.request.url) == (
        "POST https://api.example/v1/token",
        "nonce=1000",
        URL,
    )
    assert "s3cr3t" not in repr(made)


def test_an_expression_of_the_body_without_a_value_names_its_field() -> None:
    with pytest.raises(ExpressionError, match=r"^beforeConnect\[0\]\.http\.body: there is no field 'none'$"):
        call(body=Template("$(saved.none)", (), ALWAYS)).request(known())


def test_values_of_the_answer_are_saved_and_hidden() -> None:
    given = known()
    save = {"token": expression("http.json.data[0].token"), "status": expression("http.status")}
    assert call(save=save).judge(REQUEST, answer(200, {"data": [{"token": "cap7ured"}]}), given) is None
    assert given.captured.values == {"token": "cap7ured", "status": 200}
    assert given.captured.hidden.hide("cap7ured HTTP 200") == "*** HTTP 200"


@pytest.mark.parametrize(
    ("status", "refused", "reason"),
    [
        (401, True, "HTTP 401 Unauthorized"),
        (403, True, "HTTP 403 Forbidden"),
        (404, False, "HTTP 404 Not Found"),
        (201, False, "HTTP 201 Created"),
        (599, False, "HTTP 599"),
    ],
)
def test_another_status_is_a_failure_and_only_401_and_403_are_a_refusal(
    status: int, refused: bool, reason: str
) -> None:
    reason = f"beforeConnect[0].http: POST https://api.example/v1/token: {reason}"
    assert call().judge(REQUEST, answer(status, {"secret": "s3cr3t"}), known()) == CallFailure(reason, refused)


def test_a_status_of_the_list_is_a_success() -> None:
    assert call(status=frozenset({202, 409})).judge(REQUEST, answer(409), known()) is None


def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    failure = call().judge(REQUEST, answer(302, location="https://other.example/"), known())
    assert failure is not None
    assert failure.reason.endswith(
        "HTTP 302 Found: redirects are not followed; this one points to https://other.example/"
    )


def test_retry_after_of_any_failure_is_told() -> None:
    failure = call().judge(REQUEST, answer(429, retry_after_seconds=7.0), known())
    assert failure is not None
    assert (failure.refused, failure.retry_after_seconds) == (False, 7.0)


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_means_a_failure_ends_the_attempt_with_its_own_words(status: int) -> None:
    end = CallEnd(expression("!http.json.ok"), expression("http.json.error"), refused=True)
    failed = call(end=end).judge(REQUEST, answer(status, {"ok": False, "error": "invalid_auth"}), known())
    assert failed == CallFailure("beforeConnect[0].http: invalid_auth", refused=True)
    assert call(end=end).judge(REQUEST, answer(200, {"ok": True}), known()) is None
    assert call(end=end).judge(REQUEST, answer(200, "another form"), known()) is None


def test_a_reason_that_is_no_text_is_json() -> None:
    end = CallEnd(expression("!http.json.ok"), expression("http.json"), refused=False)
    failed = call(end=end).judge(REQUEST, answer(200, {"ok": False}), known())
    assert failed == CallFailure('beforeConnect[0].http: {"ok":false}')


def test_without_a_reason_the_status_is_the_reason() -> None:
    for reason in (None, expression("http.json.error")):
        end = CallEnd(expression("http.json.ok == false"), reason, refused=False)
        failed = call(end=end).judge(REQUEST, answer(200, {"ok": False}), known())
        assert failed == CallFailure("beforeConnect[0].http: HTTP 200 OK")


def test_401_is_a_refusal_whatever_the_rule_says() -> None:
    end = CallEnd(expression("true"), expression("'no'"), refused=False)
    assert call(end=end).judge(REQUEST, answer(401), known()) == CallFailure("beforeConnect[0].http: no", refused=True)


def test_a_value_that_is_missing_or_too_large_is_a_failure_that_quotes_nothing() -> None:
    save = {"token": expression("http.json.token")}
    for body, reason in (
        ({"key": "s3cr3t"}, "beforeConnect[0].http.save.token: there is no field 'token'"),
        ([], "beforeConnect[0].http.save.token: "),
        (
            {"token": "x" * 70_000},
            "beforeConnect[0].http.save.token: all saved values have 70013 bytes; accepted: 65536",
        ),
    ):
        given = known()
        failed = call(save=save).judge(REQUEST, answer(200, body), given)
        assert failed is not None
        assert failed.reason.startswith(reason)
        assert "s3cr3t" not in failed.reason
        assert given.captured.values == {}


@pytest.mark.parametrize(
    ("body", "media", "problem"),
    [
        (b"<html>s3cr3t</html>", "text/html", "the answer is not JSON (text/html)"),
        (b"\x1f\x8b\x08s3cr3t", "application/json, gzip", "the answer is not JSON (application/json, gzip)"),
        (b"{", "", "the answer is not JSON"),
        (b"", "text/plain", "the answer is empty"),
    ],
)
def test_an_answer_that_is_not_json_is_called_so_with_its_status_and_type(
    body: bytes, media: str, problem: str
) -> None:
    made = HttpAnswer(status=200, body=body, media=media)
    failed = call(save={"token": expression("http.json.token")}).judge(REQUEST, made, known())
    where = "beforeConnect[0].http.save.token: POST https://api.example/v1/token"
    assert failed == CallFailure(f"{where}: HTTP 200 OK, but {problem}")
    failed = call(save={"status": expression("[http.status][1]")}).judge(REQUEST, made, known())
    assert failed == CallFailure("beforeConnect[0].http.save.status: index out of bounds: 1")


@given(st.integers(100, 999), st.binary(max_size=50), st.sampled_from([None, 0.0, 5.0]))
def test_any_answer_is_judged(status: int, body: bytes, retry_after: float | None) -> None:
    save = {"token": expression("http.json.token")}
    end = CallEnd(expression("http.json.error != ''"), expression("http.json.error"), refused=False)
    made = HttpAnswer(status=status, body=body, retry_after_seconds=retry_after)
    failed = call(save=save, end=end).judge(REQUEST, made, known())
    if status in {401, 403}:
        assert failed is not None
        assert failed.refused
    elif status != 200:
        assert failed is not None
        assert failed.retry_after_seconds == (retry_after or 0.0)
