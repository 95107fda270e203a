"""Sessions that tell of each message (`lobby check`): when it was judged, before what follows from it."""

from __future__ import annotations

import gzip

from tests.support.specs import http_step
from tests.unit.origin.sessions import PING_RULE, Shell, json_batch

from lobby_gateway.origin.http_calls import HttpAnswer
from lobby_gateway.origin.states import BeginEpoch, Command, Judged, Publish, Send
from lobby_gateway.websocket.frames import Batch, Opcode, frame

SUBSCRIBE = http_step(url="https://api.example/subscribe")
WELCOME = {"expect": {"json": {"/type": "welcome"}, "save": {"session": "msg.session"}, "timeoutSeconds": 5}}
SESSION = '{"type": "welcome", "session": "s3ss10n"}'


def texts(commands: list[Command]) -> list[str]:
    """What a person sees of these: messages, and where the stream begins."""
    told: list[str] = []
    for each in commands:
        match each:
            case Judged(message):
                assert len(message) == 1
                told.append(f"received {bytes(message.payload(0)).decode()}")
            case Publish(batch):
                told += [f"published {bytes(batch.payload(index)).decode()}" for index in range(len(batch))]
            case Send(message):
                told.append(f"sent {message!r}")
            case BeginEpoch():
                told.append("begins")
    return told


def test_each_message_of_a_read_is_told_before_what_follows_from_it() -> None:
    shell = Shell(traced=True, onConnect=[WELCOME], onMessage=[PING_RULE])
    shell.wanted()
    shell.opened()
    assert texts(shell.receive(json_batch(SESSION, '{"ping":1}', "first"))) == [
        f"received {SESSION}",
        "begins",
        'received {"ping":1}',
        "sent '{\"pong\":1}'",
        "received first",
        "published first",
    ]


def test_messages_during_a_call_are_told_behind_it_when_their_secrets_are_hidden() -> None:
    shell = Shell(traced=True, onConnect=[SUBSCRIBE, WELCOME])
    shell.wanted()
    shell.opened()
    assert texts(shell.receive(json_batch(SESSION, "first"))) == []
    assert texts(shell.receive(json_batch("second"))) == []
    shell.session.answered(HttpAnswer(status=200), shell.now)
    assert texts(shell.took()) == []
    told = texts(shell.later(0))
    assert told == [
        f"received {SESSION}",
        "begins",
        "received first",
        "published first",
        "received second",
        "published second",
    ]
    assert shell.session.redacted(told[0]) == 'received {"type": "welcome", "session": "***"}'


def test_messages_behind_one_that_starts_a_call_are_told_behind_it() -> None:
    shell = Shell(traced=True, onConnect=[WELCOME, SUBSCRIBE])
    shell.wanted()
    shell.opened()
    assert texts(shell.receive(json_batch(SESSION, "first"))) == [f"received {SESSION}"]
    shell.session.answered(HttpAnswer(status=200), shell.now)
    assert texts(shell.took() + shell.later(0)) == ["begins", "received first", "published first"]


def test_messages_are_told_decompressed_and_split() -> None:
    shell = Shell(traced=True, decode="Gzip", split="\n").streaming()
    compressed = Batch.of([frame(Opcode.BINARY, gzip.compress(b"a\nb"))])
    assert texts(shell.receive(compressed)) == ["received a", "published a", "received b", "published b"]


def test_the_message_that_ends_the_connection_is_told_and_none_behind_it() -> None:
    shell = Shell(traced=True, onMessage=[{"contains": "wrong", "end": {}}]).streaming()
    assert texts(shell.receive(json_batch("wrong key", "more"))) == ["received wrong key", "published wrong key"]


def test_sessions_that_are_not_traced_tell_of_no_message() -> None:
    shell = Shell().streaming()
    assert texts(shell.receive(json_batch("a", "b"))) == ["published a", "published b"]
