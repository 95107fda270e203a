from __future__ import annotations

import contextlib
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.utils import accept_key

from lobby_gateway.errors import UserError
from lobby_gateway.websocket.client_handshake import (
    ClientHandshake,
    ConnectFailedError,
    HandshakeRefusedError,
    retry_after_seconds,
)

NOW = 1_700_000_000.0


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    pairs = [line.split(": ", 1) for line in lines[1:-2]]
    names = [name.lower() for name, _ in pairs]
    assert len(names) == len(set(names))
    return dict(zip(names, (value for _, value in pairs), strict=True))


def accepted(handshake: ClientHandshake, extra: str = "", *, key: str | None = None) -> bytes:
    key = accept_key(headers_of(handshake.request)["sec-websocket-key"]) if key is None else key
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return f"{head}Sec-WebSocket-Accept: {key}\r\n{extra}\r\n".encode()


def answer(response: bytes) -> None:
    ClientHandshake("ws://origin.example/").receive(response, NOW)


# The request


def test_request_has_the_host_and_target_of_the_url() -> None:
    handshake = ClientHandshake("wss://origin.example:8443/stream/a?x=1&key=%20")
    assert (handshake.host, handshake.port, handshake.secure) == ("origin.example", 8443, True)
    assert handshake.request.startswith(b"GET /stream/a?x=1&key=%20 HTTP/1.1\r\n")
    headers = headers_of(handshake.request)
    assert headers["host"] == "origin.example:8443"
    assert headers["sec-websocket-version"] == "13"
    assert headers["user-agent"].startswith("lobby-gateway/")


def test_request_offers_no_extension_so_frames_can_be_passed_on() -> None:
    assert "sec-websocket-extensions" not in headers_of(ClientHandshake("ws://origin.example").request)


def test_request_has_the_given_headers_and_subprotocols() -> None:
    handshake = ClientHandshake(
        "ws://origin.example",
        headers=[("Authorization", "Bearer x"), ("Origin", "https://site.example"), ("X-Name", " caf\xe9 ")],
        subprotocols=["v2", "v1"],
    )
    headers = headers_of(handshake.request)
    assert headers["authorization"] == "Bearer x"
    assert headers["origin"] == "https://site.example"
    assert headers["x-name"] == "caf\xe9"
    assert headers["sec-websocket-protocol"] == "v2, v1"


def test_given_user_agent_replaces_ours() -> None:
    request = ClientHandshake("ws://origin.example", headers=[("user-agent", "mine")]).request
    assert headers_of(request)["user-agent"] == "mine"


def test_every_handshake_has_its_own_key() -> None:
    keys = {headers_of(ClientHandshake("ws://origin.example").request)["sec-websocket-key"] for _ in range(10)}
    assert len(keys) == 10


@pytest.mark.parametrize(
    "url",
    ["", "http://origin.example", "ws://", "ws://origin.example:99999/", "ws://origin.example/#secret", "ws://[::1/"],
)
def test_bad_url_is_a_user_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(UserError, match=r"^url: .*accepted: ws://") as caught:
        ClientHandshake(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["hunter22\r\nX-Evil: 1", "hunter22\n", "hunter22\x00", "hunter22\u20ac"])
def test_bad_header_value_is_a_user_error_that_does_not_repeat_it(value: str) -> None:
    with pytest.raises(UserError, match=r"^header X-Key: ") as caught:
        ClientHandshake("ws://origin.example", headers=[("X-Key", value)])
    assert "hunter22" not in str(caught.value)


def test_bad_header_name_is_a_user_error() -> None:
    with pytest.raises(UserError, match="not a header name"):
        ClientHandshake("ws://origin.example", headers=[("X Key", "value")])


def test_header_overrides_credentials_in_the_url() -> None:
    url = "ws://user:pw@origin.example"
    assert headers_of(ClientHandshake(url).request)["authorization"] == "Basic dXNlcjpwdw=="
    request = ClientHandshake(url, headers=[("Authorization", "Bearer x")]).request
    assert headers_of(request)["authorization"] == "Bearer x"


# The answer


def test_response_in_one_piece_is_accepted() -> None:
    handshake = ClientHandshake("ws://origin.example")
    assert handshake.receive(accepted(handshake), NOW)
    assert (handshake.leftover, handshake.subprotocol) == (b"", None)


def test_response_is_accepted_byte_by_byte_with_bytes_behind_it() -> None:
    handshake = ClientHandshake("ws://origin.example", subprotocols=["v2", "v1"])
    response = accepted(handshake, "Sec-WebSocket-Protocol: v1\r\n")
    for index in range(len(response) - 1):
        assert not handshake.receive(response[index : index + 1], NOW)
    assert handshake.receive(response[-1:] + b"\x81\x02hi", NOW)
    assert (handshake.leftover, handshake.subprotocol) == (b"\x81\x02hi", "v1")


def test_interim_responses_are_skipped() -> None:
    handshake = ClientHandshake("ws://origin.example")
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    assert handshake.receive(early + early + accepted(handshake) + b"rest", NOW)
    assert handshake.leftover == b"rest"


def response(*lines: str, end: str = "\r\n", phrase: str = " Switching Protocols") -> tuple[ClientHandshake, bytes]:
    """A handshake, and a 101 with these header lines in which `KEY` is the right Sec-WebSocket-Accept."""
    handshake = ClientHandshake("ws://origin.example")
    key = accept_key(headers_of(handshake.request)["sec-websocket-key"])
    head = end.join([f"HTTP/1.1 101{phrase}", *lines, "", ""]).replace("KEY", key)
    return handshake, head.encode("latin-1")


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: KEY")


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ((*UPGRADE, f"X-Policy: {'x' * 9000}"), {}),
        ((*UPGRADE, *(f"X-{number}: 1" for number in range(300))), {}),
        ((*UPGRADE, f"X-Policy: {'x' * 65350}"), {}),  # 64 KiB in all, less a few bytes
        (UPGRADE, {"phrase": ""}),  # RFC 9112 §4
        (UPGRADE, {"phrase": " "}),
        (UPGRADE, {"phrase": "\t  caf\xe9 \x01"}),
        (UPGRADE, {"end": "\n"}),  # §2.2
        ((*UPGRADE, "X-Value: \x01\xff\r \x00."), {}),  # §2.2, RFC 9110 §5.5
        (("Upgrade : websocket", "Connection \t: Upgrade", "Sec-WebSocket-Accept:KEY \t"), {}),  # §5.1
        (
            ("Upgrade:", " websocket", "Connection: keep-alive,", "\tUpgrade", "Sec-WebSocket-Accept:", "  KEY"),
            {},
        ),  # §5.2
        (("  X-Ignored: no", "\tUpgrade: h2c", *UPGRADE), {}),  # §2.2
        ((*UPGRADE, "Content-Length: 5", "Transfer-Encoding: chunked"), {}),  # §6.3: a 1xx has no body
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "bytes"])
def test_unusual_101_is_accepted_as_http_allows(lines: tuple[str, ...], options: dict[str, str], pieces: str) -> None:
    handshake, head = response(*lines, **options)
    assert len(head) <= 65536
    if pieces == "bytes":
        for at in range(len(head)):
            assert handshake.receive(head[at : at + 1], NOW) is (at == len(head) - 1)
        assert handshake.leftover == b""
    else:
        assert handshake.receive(head + b"\x81\x02\n\n", NOW)
        assert handshake.leftover == b"\x81\x02\n\n"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.2"])
def test_minor_version_of_the_response_does_not_matter(version: str) -> None:
    handshake, head = response(*UPGRADE)
    assert handshake.receive(head.replace(b"HTTP/1.1", version.encode()), NOW)


@pytest.mark.parametrize("early", [0, 1000])
def test_head_of_more_than_64_kib_in_all_is_an_error(early: int) -> None:
    handshake, head = response(*UPGRADE, f"X-Policy: {'x' * (65536 - early)}")
    interim = f"HTTP/1.1 103 Early Hints\r\nX: {'x' * early}\r\n\r\n".encode() if early else b""
    with pytest.raises(ConnectFailedError, match=r"^the response's headers are longer than 65536 bytes$"):
        handshake.receive(interim + head, NOW)


def test_endless_interim_responses_are_an_error() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    handshake = ClientHandshake("ws://origin.example")
    for _ in range(65536 // len(early)):
        assert not handshake.receive(early, NOW)
    with pytest.raises(ConnectFailedError, match="longer than"):
        handshake.receive(early, NOW)


def test_unusual_refusal_has_its_reason() -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        answer(b"HTTP/1.1 429\nRetry-After :\n 17\n\n")
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("HTTP 429 Too Many Requests", 17)


@pytest.mark.parametrize(
    ("extra", "key", "said"),
    [
        ("", "wrong", "Sec-WebSocket-Accept"),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", None, "extensions"),
        ("Sec-WebSocket-Protocol: v3\r\n", None, "subprotocols"),
        ("no header\r\n", None, "a header line has no name"),
        (": no name\r\n", None, "a header line has no name"),
        ("no name: x\r\n", None, "a header line has no name"),
        ("Sec-WebSocket-Accept: x\r\n", None, "Sec-WebSocket-Accept"),
        ("Upgrade: h2c\r\n", None, "Upgrade"),
    ],
)
def test_invalid_101_is_an_error(extra: str, key: str | None, said: str) -> None:
    handshake = ClientHandshake("ws://origin.example")
    with pytest.raises(ConnectFailedError, match=f"not a WebSocket handshake.*{said}"):
        handshake.receive(accepted(handshake, extra, key=key), NOW)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("HTTP/1.1 404 Not Found", "HTTP 404 Not Found"),
        ("HTTP/1.1 404 Nope", "HTTP 404 Not Found"),
        ("HTTP/1.0 503 Service Unavailable", "HTTP 503 Service Unavailable"),
        ("HTTP/1.1 401", "HTTP 401 Unauthorized"),
        ("HTTP/1.1 520 Web server\xe9", "HTTP 520 Web server\xe9"),
        ("HTTP/1.1 200 OK", "HTTP 200 OK"),
    ],
)
def test_other_status_is_a_refusal_whatever_its_body(line: str, reason: str) -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        answer(f"{line}\r\nContent-Length: 99999999999\r\n\r\n".encode("latin-1"))
    assert caught.value.reason == reason
    assert caught.value.status == int(reason.split()[1])
    assert caught.value.retry_after_seconds is None


def test_refusal_has_the_retry_after() -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        answer(b"HTTP/1.1 429 Too Many Requests\r\nretry-AFTER:  17 \r\n\r\n")
    assert caught.value.retry_after_seconds == 17


def test_redirect_is_refused_and_names_its_target_without_the_query() -> None:
    with pytest.raises(HandshakeRefusedError) as caught:
        answer(b"HTTP/1.1 302 Found\r\nLocation: wss://user:pw@other.example/path?token=hunter22#x\r\n\r\n")
    assert caught.value.reason == (
        "HTTP 302 Found: redirects are not followed; this one points to wss://other.example/path"
    )


def test_redirect_to_nowhere_is_refused_too() -> None:
    with pytest.raises(HandshakeRefusedError, match="points to an invalid URL"):
        answer(b"HTTP/1.1 302 Found\r\nLocation: wss://[hunter22/\r\n\r\n")


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH_9", b"\x15\x03\x01\x00\x02\x02\x46", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 x\r\n\r\n"]
)
def test_data_that_is_not_http_is_an_error_at_once(data: bytes) -> None:
    with pytest.raises(ConnectFailedError, match=r"^the response is not HTTP/1.1$"):
        answer(data)


def test_endless_headers_are_an_error() -> None:
    with pytest.raises(ConnectFailedError, match="longer than"):
        answer(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Fill: x\r\n" * (65536 // 10))


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"HTTP/1.1 101\n", b"HTTP/1.1 101 \r\n", b"HTTP/1.1 301 \r\nlocation:"]),
)
def test_any_bytes_are_accepted_refused_or_incomplete(data: bytes, prefix: bytes) -> None:
    # Nothing that an origin sends raises anything else, and none of these opens the connection.
    with contextlib.suppress(HandshakeRefusedError, ConnectFailedError):
        assert not ClientHandshake("ws://origin.example").receive(prefix + data + b"\r\n\r\n", NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0), ("120", 120), (" 7 ", 7), ("-5", None), ("1.5", None), ("soon", None), ("", None), ("\u0663", None),
        ("9" * 5000, float("9" * 12)), (formatdate(NOW + 90, usegmt=True), 90), (formatdate(NOW - 90, usegmt=True), 0),
        ("Tue, 14 Nov 2023 22:14:20", 60),
        ("Mon, 01 Jan 2020 00:00:00 +99999999999999999999", None), ("99999999999999999999 Jan 2020 00.00.00 +", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds


DATE_PIECES = "Mon Mon, 01 Jan 2020 00:00:00 GMT +0000 -99999 , - . 1-Jan-20 00.00.00 99999999999999999999 + AM x"


@given(st.lists(st.sampled_from(DATE_PIECES.split()), max_size=7).map(" ".join) | st.text(max_size=40))
def test_unreadable_retry_after_is_ignored(value: str) -> None:
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or 0 <= seconds < float("inf")
