"""Strategies for streams of frames and request heads: valid, damaged and nonsense."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from tests.support.wire import BINARY, CLOSE, CONT, FIN, PING, PONG, RSV1, TEXT, raw_frame

# Around the sizes where the encoding of a length changes; Hypothesis finds the small ones by itself.
_LENGTHS = st.one_of(st.integers(0, 20), st.sampled_from([124, 125, 126, 127, 128, 200, 255, 256, 300, 65535, 65536]))
masks = st.binary(min_size=4, max_size=4)
cuts = st.lists(st.integers(0, 1 << 20), max_size=8)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """UTF-8, mostly short, sometimes long, with characters of one to four bytes."""
    text = draw(st.text(max_size=12)).encode()
    length = draw(_LENGTHS)
    return text + b"x" * (length - len(text)) if draw(st.booleans()) else text


@st.composite
def binaries(draw: st.DrawFn) -> bytes:
    """Any bytes, mostly few."""
    data = draw(st.binary(max_size=12))
    length = draw(_LENGTHS)
    return data + b"\x81" * (length - len(data)) if draw(st.booleans()) else data


@dataclass(frozen=True, slots=True)
class Sent:
    """What one side sends: a message in fragments (with control frames between them), or a control frame.

    Attributes:
        opcode: opcode of the message or control frame.
        payload: the whole payload.
        cuts: offsets where a message is split into fragments.
        between: pings sent after each fragment except the last.
    """

    opcode: int
    payload: bytes
    cuts: tuple[int, ...] = ()
    between: tuple[bytes, ...] = ()

    def encoded(self, mask: bytes | None) -> bytes:
        """Its frames."""
        if not self.cuts:
            return raw_frame(FIN | self.opcode, self.payload, mask=mask)
        at = [0, *sorted(cut % (len(self.payload) + 1) for cut in self.cuts), len(self.payload)]
        frames = []
        for index in range(len(at) - 1):
            last = index == len(at) - 2
            first = (self.opcode if index == 0 else CONT) | (FIN if last else 0)
            frames.append(raw_frame(first, self.payload[at[index] : at[index + 1]], mask=mask))
            if not last:
                frames += [raw_frame(FIN | PING, ping, mask=mask) for ping in self.between]
        return b"".join(frames)


fragment_cuts = st.one_of(st.just(()), st.lists(st.integers(0, 300), min_size=1, max_size=3).map(tuple))
pings = st.lists(st.binary(max_size=8), max_size=2).map(tuple)
text_messages = st.builds(Sent, st.just(TEXT), texts(), fragment_cuts, pings)
binary_messages = st.builds(Sent, st.just(BINARY), binaries(), fragment_cuts, pings)
controls = st.builds(Sent, st.sampled_from([PING, PONG]), st.binary(max_size=125))
close_codes = st.sampled_from([1000, 1001, 1008, 1011, 1014, 3000, 4999])
closes = st.builds(
    lambda code, reason: Sent(CLOSE, code.to_bytes(2, "big") + reason.encode()[:120].decode(errors="ignore").encode()),
    close_codes,
    st.text(max_size=40),
)
conversations = st.lists(st.one_of(text_messages, binary_messages, controls), max_size=8)
endings = st.one_of(st.none(), closes, st.just(Sent(CLOSE, b"")))


@st.composite
def damaged(draw: st.DrawFn, streams: st.SearchStrategy[bytes], noise: st.SearchStrategy[bytes]) -> bytes:
    """A stream with a few bytes changed, removed or inserted."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "flip", "cut", "insert", "truncate"])):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(noise)
            case "truncate":
                del data[at:]
            case _:  # nothing to change
                pass
    return bytes(data)


@st.composite
def streams(draw: st.DrawFn, *, masked: bool) -> bytes:
    """What a peer that conforms to RFC 6455 sends."""
    mask = draw(masks) if masked else None
    sent = draw(conversations)
    ending = draw(endings)
    return b"".join(each.encoded(mask) for each in (*sent, *([ending] if ending else [])))


# Valid and invalid frame headers, for streams that no peer would send
headers = st.builds(
    lambda first, second, extended: bytes((first, second)) + extended,
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 5, 125, 126, 127, 128, 129, 133, 253, 254, 255]),
    st.sampled_from(
        [b"", b"\x00\x7e", b"\x00\x80", b"\xff\xff", bytes(5) + b"\x01\x00\x00", b"\x80" + bytes(7), b"\xff" * 8]
    ),
)
nonsense = st.lists(
    st.one_of(headers, st.binary(max_size=16), st.just(b"\x81\x00"), st.just(b"\x81\x80\0\0\0\0")), max_size=12
).map(b"".join)


_ODD_FIRST = st.one_of(
    st.sampled_from([FIN | TEXT, FIN | TEXT, FIN | BINARY]),
    st.sampled_from([TEXT, CONT, FIN | CONT, FIN | CONT, FIN | RSV1 | TEXT, RSV1 | BINARY, FIN | CLOSE]),
    st.integers(0, 255),
)
# Partial characters, which must not be joined across messages; deflated texts; half a close code.
_ODD_PAYLOADS = st.one_of(
    st.sampled_from(
        [b"", b"\xc3", b"\xa9", b"\xe2\x82", b"\xff", b"x" * 125, b"x" * 126, b"\xc3\xa9" * 64, b"x" * 300]
    ),
    st.sampled_from([bytes.fromhex("f248cdc9c90700"), bytes.fromhex("f348cdc9c9070000"), b"\x03", b"\x03\xe8\xff"]),
    st.binary(max_size=8),
)


def odd_frames(*, masked: bool) -> st.SearchStrategy[bytes]:
    """Frames in an order that no peer would send."""
    frames = st.builds(
        lambda first, payload, mask, size: raw_frame(first, payload, mask=mask, size=size),
        _ODD_FIRST,
        _ODD_PAYLOADS,
        masks if masked else st.none(),
        st.sampled_from([None] * 9 + [2, 8]),
    )
    return st.lists(frames, max_size=10).map(b"".join)


def any_streams(*, masked: bool) -> st.SearchStrategy[bytes]:
    """Streams of all kinds."""
    good = streams(masked=masked)
    return st.one_of(good, damaged(good, headers | st.binary(max_size=8)), odd_frames(masked=masked), nonsense)


# Heads of requests

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
tokens = st.text(TOKEN_CHARACTERS, min_size=1, max_size=10)
field_values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
_HEADER_LINES = st.sampled_from(
    [
        "Host: lobby.example", "Host: [::1]:80", "Host:", "Host: a b", "Upgrade: websocket", "Upgrade: h2c, WebSocket",
        "Upgrade: h2c", "Connection: Upgrade", "Connection: keep-alive, upgrade", "Connection: close",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Version: 8", "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: a b", "Origin: https://a.b",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Content-Length: 0", "Content-Length: 5",
        "Transfer-Encoding: chunked", "Cookie: a=b", "X-Forwarded-For: 10.0.0.1", " folded", "X : y", "no colon", "",
    ]
)  # fmt: skip
_REQUEST_LINES = st.sampled_from(
    [
        "GET / HTTP/1.1", "GET /prices?resume=1 HTTP/1.1", "GET / HTTP/1.0", "POST / HTTP/1.1", "GET * HTTP/1.1",
        "GET http://a/ HTTP/1.1", "GET ws://a?b HTTP/1.1", r"GET /?\ HTTP/1.1",
        "GET /a b HTTP/1.1", "PRI * HTTP/2.0", "OPTIONS * HTTP/1.1", "", "GET", "GET /%00 HTTP/1.1",
    ]
)  # fmt: skip
_GOOD = (
    "GET /prices HTTP/1.1", "Host: lobby.example", "Upgrade: websocket", "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
)  # fmt: skip
GOOD_HEAD = "\r\n".join((*_GOOD, "", "")).encode()


def _join(line: str, lines: list[str], end: str) -> bytes:
    return end.join((line, *lines, "", "")).encode()


good_heads = st.lists(st.one_of(_HEADER_LINES, st.builds("{}: {}".format, tokens, field_values)), max_size=4).flatmap(
    lambda more: st.permutations([*_GOOD[1:], *more]).map(lambda lines: _join(_GOOD[0], lines, "\r\n"))
)
odd_heads = st.builds(
    _join, _REQUEST_LINES, st.lists(_HEADER_LINES, max_size=8), st.sampled_from(["\r\n", "\r\n", "\n", "\r", "\r\n "])
)
head_noise = st.one_of(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b" ", b"\t", b"\x00", b"\x16\x03\x01", b"\xff", b"Host: b\r\n"]
    ),
    st.binary(max_size=6),
)
any_heads = st.one_of(
    good_heads,
    odd_heads,
    damaged(good_heads, head_noise),
    damaged(st.just(GOOD_HEAD), head_noise),
    st.binary(max_size=64),
)
