"""Bytes to messages: frames, limits, UTF-8 (RFC 6455 §5 to §8).

Both sides share one class. As a client of an origin (`masked=False`) it is the hot path: a read may bring a thousand small
frames, and all clients get those very bytes. So whole frames are only measured, never split, and their UTF-8 is validated all
at once. As the server of our clients (`masked=True`) it is nearly always idle, so it keeps almost no state.

The text of a fragmented message is validated when the message is complete; RFC 6455 §8.1 allows an endpoint to fail earlier,
but does not require it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from lobby_gateway.websocket.deflate import InflateError, Inflater
from lobby_gateway.websocket.frames import FIN, MASKED, RSV1, Batch, Opcode, apply_mask, frame, header_size

# Plain integers: attributes of an enumeration cost more than everything else that is done with them.
_CONT, _TEXT, _BINARY = int(Opcode.CONT), int(Opcode.TEXT), int(Opcode.BINARY)
_CLOSE, _PING, _PONG = int(Opcode.CLOSE), int(Opcode.PING), int(Opcode.PONG)
_TEXT_FRAME, _BINARY_FRAME = FIN | _TEXT, FIN | _BINARY
_OPCODES = frozenset({_CONT, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_RSV2_RSV3 = 0x30
_LENGTH = 0x7F
_SEPARATOR = 0x0A  # any ASCII byte would do
_OVER = -1

# Allowed in a close frame: RFC 6455 §7.4.1 and IANA's registry; also 3000 to 4999 (§7.4.2).
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message of a client, unmasked and inflated.

    Attributes:
        opcode: `Opcode.TEXT` or `Opcode.BINARY`.
        payload: bytes of the message.
        grown: bytes that inflating added.
    """

    opcode: int
    payload: bytes
    grown: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, to be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, solicited or not."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's close frame, the last event. `code` is 1005 if the frame has none (RFC 6455 §7.1.5)."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol; the last event. The connection must be closed with this code and reason."""

    code: int
    reason: str


Event: TypeAlias = Batch | Message | Ping | Pong | Close | Violation
_Run: TypeAlias = tuple[bytes, list[int]]  # whole frames, and the end of each


class _ViolationError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Fragments:
    """A message whose last fragment has not arrived."""

    __slots__ = ("data", "deflated", "opcode")

    def __init__(self, opcode: int, deflated: bool) -> None:
        self.opcode = opcode
        self.deflated = deflated
        self.data = bytearray()


class FrameParser:
    """Turns the bytes of one connection into events, as they arrive.

    Data messages become `Batch` (unmasked) or `Message` (masked). All messages of one `receive` between control frames are one
    batch, which contains frames that arrived whole byte for byte.

    Args:
        masked: True on the server's side, where frames must be masked; False on the client's, where they must not be (§5.1).
        max_message_bytes: largest payload of a message, the sum of its fragments, before and after inflating. Enforced when a
            header announces more, before the payload is kept.
        deflate: set if permessage-deflate was negotiated. It is stateless, so connections may share it.

    Attributes:
        frames: how many frames the latest `receive` completed or began, fragments included.
    """

    __slots__ = ("_buffer", "_deflate", "_fragments", "_limit", "_masked", "_need", "frames")

    def __init__(self, *, masked: bool, max_message_bytes: int, deflate: Inflater | None = None) -> None:
        self._masked = masked
        self._limit = max_message_bytes
        self._deflate = deflate
        self._buffer: bytearray | None = None  # an incomplete frame
        self._need = 0  # its bytes at which to look again; `_OVER` after a close frame or a violation
        self._fragments: _Fragments | None = None
        self.frames = 0

    @property
    def idle(self) -> bool:
        """It keeps neither part of a frame nor fragments of a message, and the connection is not over."""
        return not self._need and self._fragments is None

    @property
    def incomplete(self) -> int:
        """Bytes kept of a message of which more is to come; 0 between messages."""
        buffer = self._buffer
        frame = len(buffer) if buffer and buffer[0] & 0x0F < _CLOSE else 0
        return frame + (len(self._fragments.data) if self._fragments is not None else 0)

    def receive(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order. There are none after a `Close` or a `Violation`."""
        if not self._need and not self._masked and self._fragments is None and _is_one_message(data, self._limit):
            self.frames = 1
            return [Batch(data, [len(data)])]
        self.frames = 0
        if self._need:
            if self._buffer is None:
                return []
            if len(self._buffer) + len(data) < self._need:
                self._buffer += data
                return []
            data = b"".join((self._buffer, data))
            self._buffer = None
            self._need = 0
        events: list[Event] = []
        try:
            at = self._read(data, events)
        except _ViolationError as violation:
            events.append(Violation(violation.code, violation.reason))
            self._need = _OVER
        if self._need > 0:
            self._buffer = bytearray(memoryview(data)[at:])
        elif self._need == _OVER:
            self._fragments = None
        return events

    def _read(self, data: bytes, events: list[Event]) -> int:
        """Reads frames up to an incomplete one; returns where that one starts."""
        runs: list[_Run] = []
        at, frames, size = 0, 0, len(data)
        try:
            while at < size and not self._need:
                frames += 1
                if not self._masked and self._fragments is None:
                    at, before = self._read_run(data, at, runs), at
                    if at > before:
                        continue
                at = self._read_frame(data, at, events, runs)
        finally:
            self.frames = frames
            _flush(runs, events)
        return at

    def _read_run(self, data: bytes, at: int, runs: list[_Run]) -> int:
        """Takes the whole, plain data frames from `at` on as they are; returns where they end, `at` if there are none."""
        ends, wide, binaries = _scan(data, at, self._limit)
        if not ends:
            return at
        run = data[at : ends[-1]]  # not a copy if it is all of the data
        if at:
            ends = [end - at for end in ends]
            wide = [start - at for start in wide]
        if len(binaries) < len(ends) and not _texts_are_utf8(run, ends, wide, binaries):
            good = _count_valid(run, ends)
            if good:
                runs.append((run[: ends[good - 1]], ends[:good]))
            raise _ViolationError(1007, "text is not UTF-8")
        runs.append((run, ends))
        return at + len(run)

    def _read_frame(self, data: bytes, at: int, events: list[Event], runs: list[_Run]) -> int:
        """Reads the frame at `at`, of any kind; returns where it ends, `at` if it is incomplete."""
        available = len(data) - at
        if available < 2:
            self._need = 2
            return at
        first, second = data[at], data[at + 1]
        opcode = first & 0x0F
        self._check_header(first, second)
        length = second & _LENGTH
        start = at + 2
        if length > 125:
            size = 2 if length == 126 else 8
            if available < 2 + size:
                self._need = 2 + size
                return at
            length = int.from_bytes(data[start : start + size], "big")
            start += size
            if length >> 63 or length < (126 if size == 2 else 1 << 16):
                raise _ViolationError(1002, "length is not encoded in its shortest form")
        kept = len(self._fragments.data) if self._fragments is not None else 0
        if opcode < _CLOSE and kept + length > self._limit:
            raise _ViolationError(1009, f"message of more than {self._limit} bytes")
        if self._masked:
            start += 4
        end = start + length
        if end > len(data):
            self._need = end - at
            return at
        payload = data[start:end]
        if self._masked:
            payload = apply_mask(payload, data[start - 4 : start])
        if opcode < _CLOSE:
            self._data_frame(first, payload, events, runs)
        else:
            _flush(runs, events)
            events.append(self._control_frame(opcode, payload))
        return end

    def _check_header(self, first: int, second: int) -> None:
        """Validates the first two bytes of a frame (RFC 6455 §5.2 to §5.5)."""
        opcode = first & 0x0F
        if opcode not in _OPCODES:
            raise _ViolationError(1002, "reserved opcode")
        if bool(second & MASKED) != self._masked:
            raise _ViolationError(1002, "unmasked frame" if self._masked else "masked frame")
        # RSV1 marks the first frame of a deflated message and no other (RFC 7692 §6).
        if first & _RSV2_RSV3 or (first & RSV1 and (self._deflate is None or opcode not in (_TEXT, _BINARY))):
            raise _ViolationError(1002, "reserved bit")
        if opcode >= _CLOSE:
            if not first & FIN:
                raise _ViolationError(1002, "fragmented control frame")
            if second & _LENGTH > 125:
                raise _ViolationError(1002, "control frame of more than 125 bytes")
        elif opcode == _CONT:
            if self._fragments is None:
                raise _ViolationError(1002, "continuation frame without a message")
        elif self._fragments is not None:
            raise _ViolationError(1002, "data frame inside a fragmented message")

    def _data_frame(self, first: int, payload: bytes, events: list[Event], runs: list[_Run]) -> None:
        opcode = first & 0x0F
        deflated = bool(first & RSV1)
        fragments = self._fragments
        if fragments is not None:
            fragments.data += payload
            if not first & FIN:
                return
            self._fragments = None
            opcode, deflated, payload = fragments.opcode, fragments.deflated, bytes(fragments.data)
        elif not first & FIN:
            self._fragments = _Fragments(opcode, deflated)
            self._fragments.data += payload
            return
        size = len(payload)
        if deflated:
            assert self._deflate is not None  # noqa: S101  # otherwise its header was refused
            try:
                payload = self._deflate.inflate(payload)
            except InflateError as error:
                raise _ViolationError(error.code, str(error)) from error
            if len(payload) > self._limit:
                raise _ViolationError(1009, f"message of more than {self._limit} bytes")
        if opcode == _TEXT and not _is_utf8(payload):
            raise _ViolationError(1007, "text is not UTF-8")
        if self._masked:
            events.append(Message(opcode, payload, max(0, len(payload) - size)))
        else:
            framed = frame(opcode, payload)
            runs.append((framed, [len(framed)]))

    def _control_frame(self, opcode: int, payload: bytes) -> Event:
        if opcode != _CLOSE:
            return Ping(payload) if opcode == _PING else Pong(payload)
        self._need = _OVER
        return _parse_close(payload)


def _is_one_message(data: bytes, limit: int) -> bool:
    """Whether the data is one whole, plain data frame of less than 64 KiB and valid, as most reads of a slow stream are.

    Everything else, and a text that is not ASCII, takes the way of a read that brings a thousand frames, which costs as much
    as all else that is done with a single message.
    """
    size = len(data)
    if size < 2:
        return False
    first, length, start = data[0], data[1], 2
    if length == 126 and size > 129:
        length, start = data[2] << 8 | data[3], 4
    elif length > 125:
        return False
    if length + start != size or length > limit:
        return False
    return first == _BINARY_FRAME or (first == _TEXT_FRAME and data[start:].isascii())


def _scan(data: bytes, begin: int, limit: int) -> tuple[list[int], list[int], list[int]]:
    """Measures the whole, plain data frames from `begin` on, up to the first byte that is anything else.

    This is the tight loop, whose cost counts for each message of a burst. Whatever it leaves is handled by
    `FrameParser._read_frame`.

    Returns:
        The end of each frame; the start of each one with an extended length; the indices of binary ones.
    """
    ends: list[int] = []
    wide: list[int] = []
    binaries: list[int] = []
    append = ends.append
    at = begin
    size = len(data)
    short = min(126, limit + 1)
    try:
        while at < size:
            first = data[at]
            if first != _TEXT_FRAME:
                if first != _BINARY_FRAME:
                    break
                binaries.append(len(ends))
            length = data[at + 1]
            if length < short:
                at += 2 + length
            elif length == 126:
                length = data[at + 2] << 8 | data[at + 3]
                if not 126 <= length <= limit:
                    break
                wide.append(at)
                at += 4 + length
            elif length == 127:
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                if not 1 << 16 <= length <= limit:
                    break
                wide.append(at)
                at += 10 + length
            else:
                break
            append(at)
    except IndexError:  # a header is cut off
        pass
    if at > size:
        ends.pop()
    # The last of each may belong to an incomplete frame.
    if wide and wide[-1] == (ends[-1] if ends else begin):
        wide.pop()
    if binaries and binaries[-1] == len(ends):
        binaries.pop()
    return ends, wide, binaries


def _texts_are_utf8(run: bytes, ends: list[int], wide: list[int], binaries: list[int]) -> bool:
    """Whether each text of a run of frames is UTF-8, validated all at once.

    Headers are overwritten with ASCII. ASCII bytes neither begin nor end a multi-byte character, so the whole is UTF-8 if and
    only if each text is (a character that is split by the end of a frame is invalid in the whole, too).
    """
    if len(ends) == 1:
        return _is_utf8(run[header_size(run, 0) :])
    plain = bytearray(run)
    plain[0] = _SEPARATOR  # the length that follows is below 128, so it is ASCII
    for end in ends[:-1]:
        plain[end] = _SEPARATOR
    for start in wide:
        if plain[start + 1] == 126:
            plain[start + 2] = plain[start + 3] = _SEPARATOR  # takes half the time of a slice
        else:
            plain[start + 2 : start + 10] = bytes(8)
    for index in binaries:
        start = ends[index - 1] if index else 0
        plain[start : ends[index]] = bytes(ends[index] - start)
    return _is_utf8(plain)


def _count_valid(run: bytes, ends: list[int]) -> int:
    """How many messages of a run precede the first text that is not UTF-8."""
    return next(
        index
        for index, (start, end) in enumerate(pairwise((0, *ends)))
        if run[start] == _TEXT_FRAME and not _is_utf8(run[start + header_size(run, start) : end])
    )


def _is_utf8(text: bytes | bytearray) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _flush(runs: list[_Run], events: list[Event]) -> None:
    """Makes one batch of the messages since the last one."""
    if runs:
        events.append(Batch.join([Batch(*run) for run in runs]))
    runs.clear()


def _parse_close(payload: bytes) -> Close:
    """Parses the payload of a close frame (RFC 6455 §5.5.1)."""
    if not payload:
        return Close(1005, "")
    if len(payload) == 1:
        raise _ViolationError(1002, "close frame with half a status code")
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError as error:
        raise _ViolationError(1007, "reason of a close frame is not UTF-8") from error
    code = int.from_bytes(payload[:2], "big")
    if code not in _CLOSE_CODES and not 3000 <= code < 5000:
        raise _ViolationError(1002, "reserved close code")
    return Close(code, reason)
