from __future__ import annotations

from lobby_gateway.clients.held_messages import HeldMessages
from lobby_gateway.settings import ForwardSettings

TEXT = 1


def held(**settings: float) -> HeldMessages[str]:
    return HeldMessages(ForwardSettings(**settings))  # type: ignore[arg-type]


def texts(messages: HeldMessages[str]) -> list[bytes]:
    return [message.payload for message in iter(messages.pop, None)]


def test_messages_come_out_in_order() -> None:
    messages = held()
    assert messages.pop() is None
    assert all(messages.put(sender, TEXT, text, 0) for sender, text in (("a", b"1"), ("b", b"2"), ("a", b"3")))
    assert len(messages) == 3
    first = messages.pop()
    assert first is not None
    assert (first.sender, first.opcode, first.payload) == ("a", TEXT, b"1")
    assert texts(messages) == [b"2", b"3"]
    assert not messages


def test_one_client_has_its_share_and_always_one_message() -> None:
    messages = held(held_bytes_per_client=1000)
    assert messages.put("a", TEXT, bytes(5000), 0)
    assert not messages.put("a", TEXT, b"", 0)
    assert messages.put("b", TEXT, bytes(400), 0)
    assert messages.put("b", TEXT, bytes(400), 0)
    assert not messages.put("b", TEXT, bytes(400), 0)
    assert messages.put("c", TEXT, b"", 0)
    messages.pop()
    assert messages.put("a", TEXT, b"", 0)


def test_all_together_are_bounded_even_if_they_are_empty() -> None:
    messages = held(held_bytes=6400, held_bytes_per_client=6400)
    taken = 0
    while messages.put("a", TEXT, b"", 0):
        taken += 1
    assert taken == 100
    assert not messages.put("b", TEXT, b"", 0)
    messages.pop()
    assert messages.put("b", TEXT, b"", 0)


def test_a_refused_sender_leaves_no_trace() -> None:
    messages = held(held_bytes=10)
    for number in range(1000):
        assert not messages.put(str(number), TEXT, b"", 0)
    assert not messages._by_sender


def test_messages_are_dropped_after_their_time() -> None:
    messages = held(hold_seconds=30)
    messages.put("a", TEXT, b"1", 100)
    messages.put("a", TEXT, b"2", 110)
    assert messages.expire(129) == 0
    assert messages.expire(130) == 1
    assert texts(messages) == [b"2"]


def test_messages_of_some_senders_can_be_taken() -> None:
    messages = held()
    for sender, text in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        messages.put(sender, TEXT, text, 0)
    assert [message.payload for message in messages.pop_all(lambda sender: sender == "a")] == [b"1", b"3"]
    assert [message.payload for message in messages.pop_all(lambda sender: sender == "c")] == []
    assert texts(messages) == [b"2"]
    assert not messages._by_sender
    assert messages._bytes == 0
