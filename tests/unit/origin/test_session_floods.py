"""What arrives all at once is decoded and judged in turns, in its order."""

from __future__ import annotations

import gzip

from tests.unit.origin.sessions import FLOOD, HELLO, LOGIN, NO_PINGS, PING_RULE, Shell, json_batch, published

from lobby_gateway.origin.states import (
    BeginClose,
    BeginEpoch,
    Command,
    Connect,
    Failure,
    PauseReading,
    Publish,
    ResumeReading,
    Send,
    State,
)
from lobby_gateway.settings import ORIGIN
from lobby_gateway.websocket.frames import Batch, Opcode, frame
from lobby_gateway.websocket.parser import Close, Ping


def test_a_flood_before_the_awaited_message_is_judged_in_several_turns() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch(*FLOOD, '{"ok": true}', "a"), Ping(b"")) == [PauseReading()]
    assert shell.receive(json_batch("b")) == []
    turns: list[Command] = []
    for _ in range(2):
        assert shell.session.wake_at() == 0.0
        shell.session.wake(shell.now)
        turns += shell.took()
    assert [type(each) for each in turns] == [BeginEpoch, Publish, Publish, ResumeReading]
    assert shell.state is State.STREAMING
    assert [bytes(each.batch.payload(0)) for each in turns if isinstance(each, Publish)] == [b"a", b"b"]


def test_a_flood_that_ends_with_a_close_ends_the_connection_in_its_turn() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD[:700]), Close(1008, "login first"))
    states = [shell.state]
    shell.session.wake(shell.now)
    assert shell.took() == [ResumeReading()]
    states.append(shell.state)
    assert states == [State.SCRIPTING, State.CLOSING]
    shell.lost()
    assert "1008" in shell.report.reason


def test_a_flood_without_the_awaited_message_does_not_keep_the_script_from_timing_out() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    assert shell.receive(json_batch(*FLOOD)) == [PauseReading()]
    shell.now += 6
    shell.session.wake(shell.now)
    assert [type(each) for each in shell.took()] == [ResumeReading, BeginClose]
    assert shell.session.failures == {Failure.SCRIPT: 1}


def test_a_flood_ends_with_its_connection() -> None:
    shell = Shell(onConnect=LOGIN, keepalive=NO_PINGS)
    shell.wanted()
    shell.opened()
    shell.receive(json_batch(*FLOOD))
    shell.lost()
    assert shell.later(1) == [Connect()]
    shell.opened()
    assert shell.receive(json_batch('{"ok": true}')) == [BeginEpoch()]


def test_a_flood_that_concerns_a_rule_is_judged_in_turns_and_in_order() -> None:
    shell = Shell(onMessage=[PING_RULE]).streaming()
    flood = json_batch(*(f'{{"n":{n}}}' if n % 2 else f'{{"ping":{n}}}' for n in range(1200)))
    commands = shell.receive(flood, HELLO)
    assert PauseReading() in commands
    assert len(published(commands)) == ORIGIN.judged_per_turn / 2
    assert shell.session.wake_at() == 0
    commands += shell.later(0)
    assert published(commands) == [f'{{"n":{n}}}' for n in range(1, 1200, 2)] + ["hello"]
    assert commands.count(PauseReading()) == commands.count(ResumeReading()) == 1
    assert sum(isinstance(each, Send) for each in commands) == 600


def bombs(count: int) -> Batch:
    """Messages of which three fit a turn."""
    size = ORIGIN.decoded_per_turn // 3
    payloads = [gzip.compress(b"%d" % number + b" " * size, mtime=0) for number in range(count)]
    return Batch.of([frame(Opcode.BINARY, each) for each in payloads])


def numbers_of(commands: list[Command]) -> list[int]:
    return [int(each) for each in published(commands)]


def test_a_read_of_many_bombs_is_decoded_in_turns_and_in_order() -> None:
    shell = Shell(decode="Gzip", maxMessageBytes=ORIGIN.decoded_per_turn).streaming()
    commands = shell.receive(bombs(8))
    assert numbers_of(commands) == [0, 1, 2]
    assert PauseReading() in commands
    assert shell.receive(Batch.of([frame(Opcode.TEXT, b"8")])) == []  # the rest of a read that was under way
    assert shell.session.wake_at() == 0
    shell.session.wake(shell.now)
    commands = shell.took()
    assert numbers_of(commands) == [3, 4, 5]
    assert ResumeReading() not in commands
    assert numbers_of(shell.later(0)) == [6, 7, 8]
    assert shell.session.wake_at() != 0


def test_what_is_left_to_decode_of_a_lost_connection_is_published_in_turns() -> None:
    shell = Shell(decode="Gzip", maxMessageBytes=ORIGIN.decoded_per_turn).streaming()
    shell.receive(bombs(8))
    shell.lost()
    shell.session.wake(shell.now)
    assert numbers_of(shell.took()) == [3, 4, 5]
    assert shell.session.failures == {}
    assert numbers_of(shell.later(0)) == [6, 7]
    assert shell.state is State.WAITING


def test_messages_that_are_decoded_in_turns_are_judged_in_turns() -> None:
    parts = "\n".join(f'{{"ping":{n}}}' if n % 2 else f'{{"n":{n}}}' for n in range(30_000))
    shell = Shell(onMessage=[PING_RULE], split="\n").streaming()
    commands = shell.receive(Batch.of([frame(Opcode.TEXT, parts.encode())]))
    while shell.session.wake_at() == 0:
        commands += shell.later(0)
    assert published(commands) == [f'{{"n":{n}}}' for n in range(0, 30_000, 2)]
    assert sum(isinstance(each, Send) for each in commands) == 15_000
    assert commands.count(PauseReading()) == commands.count(ResumeReading())


def test_the_rest_of_a_flood_behind_the_script_is_judged_in_turns() -> None:
    shell = Shell(onConnect=LOGIN, onMessage=[PING_RULE])
    shell.wanted()
    shell.opened()
    ticks = [f'{{"n":{n}}}' for n in range(1200)]
    commands = shell.receive(json_batch('{"ok":true}', *ticks, '{"ping":1}'))
    commands += shell.later(0)
    assert published(commands) == ticks
    assert Send('{"pong":1}') in commands


def test_compressed_messages_are_judged_and_published_as_texts() -> None:
    shell = Shell(decode="Gzip", split="|", onMessage=[PING_RULE]).streaming()
    batch = Batch.of(
        [frame(Opcode.BINARY, gzip.compress(b'{"ping":1}|{"n":1}')), frame(Opcode.BINARY, gzip.compress(b"{}"))]
    )
    commands = shell.receive(batch)
    assert published(commands) == ['{"n":1}', "{}"]
    assert Send('{"pong":1}') in commands


def test_what_can_not_be_decoded_ends_the_connection_with_a_reason() -> None:
    shell = Shell(decode="Gzip").streaming()
    commands = shell.receive(Batch.of([frame(Opcode.BINARY, b"no")]), HELLO)
    assert commands == [BeginClose(1007, "a binary message is not Gzip")]
    shell.lost()
    assert shell.session.failures == {Failure.INVALID_DATA: 1}
    assert shell.report.reason == "a binary message is not Gzip"
