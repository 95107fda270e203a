"""What must not be shown of a conversation with an origin: which values, and how many are remembered."""

from __future__ import annotations

import json
import threading

import pytest

from lobby_gateway.origin.captured import Captured
from lobby_gateway.origin.expressions import OF_MESSAGE, Expression
from lobby_gateway.origin.hidden import Hidden, Latest, Moment
from lobby_gateway.settings import ORIGIN


def capturing(value: object) -> Hidden:
    hidden = Hidden()
    hidden.add_captured(json.dumps(value))
    return hidden


@pytest.mark.parametrize(
    ("value", "said", "shown"),
    [
        (8675309123, "bad pin 8675309123", "bad pin ***"),
        (8675309123, "bad pin -8675309123.", "bad pin -***."),
        (8675309123, 'id":8675309123.0,', 'id":***.0,'),
        (8675309123, "bad pin 8.675309123e+09", "bad pin ***e+09"),
        (8675309123.0, "bad pin 8675309123", "bad pin ***"),
        (8675309123, "bad pin 8,675,309,123", "bad pin ***"),
        (-8675309123, "bad pin 8675309123", "bad pin ***"),
        (12345.678, "at 12345.678!", "at ***!"),
        (100000, "100000 is taken", "*** is taken"),
        (2**63 - 1, f"no id {2**63 - 1}", "no id ***"),
        (2**63 - 1, f"no id {str(2**63)[:12]}", "no id ***"),  # it was cut
        (8675309123, "https://a.example/?pin=%38675309123", "https://a.example/?pin=***"),
        (8675309123, "pin \\u0038675309123", "pin ***"),
        ([[8675309123], {"a": [{"b": "hunter22"}]}], "8675309123 hunter22", "*** ***"),
    ],
)
def test_a_captured_number_is_hidden_however_it_is_written(value: object, said: str, shown: str) -> None:
    assert capturing(value).line(said) == shown


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1, "HTTP 401 at 1"),
        (0, "0.0"),
        (4005, "4005 (bad pin)"),
        (41250, "the port is 41250"),  # an interval, as Discord's
        (99999, "99999"),
        (0.25, "0.25"),
        (0.000001, "1e-06"),
        (True, "true True 1"),
        (False, "false False 0"),
        (None, "null None"),
        ("true", "true"),
        ("None", "None"),
        ("abc", "abc"),
        ("", "empty"),
        (123456, "1234567 and 0123456"),  # other numbers
        (float("nan"), "NaN nan"),
        ({"token": {"interval": 5}, "subscription_id": 1, "v2": 1}, "token interval subscription_id v2"),
        ({"12345": 1}, "12345"),
    ],
)
def test_what_is_too_short_or_too_common_stays(value: object, said: str) -> None:
    assert capturing(value).line(said) == said


@pytest.mark.parametrize("value", ["abcd", "1234", 100000, 123456.0, 1234.56])
def test_the_shortest_that_are_hidden(value: object) -> None:
    assert capturing(value).line(f"a {value} b").startswith("a ***")


@pytest.mark.parametrize("key", ["8675309", "a1b2c3d4", "s3ss10n-id", "bGV0dGVycyBhbG9uZSwgbG9uZw", "x" * 21])
def test_a_key_that_looks_random_is_hidden(key: str) -> None:
    assert capturing({"sessions": {key: {}}}).line(f"no {key} in sessions") == "no *** in sessions"


def test_what_is_saved_now_is_hidden_however_many_values_were_captured_later() -> None:
    captured = Captured()
    save = {"pin": Expression("msg.pin", OF_MESSAGE), "token": Expression("msg.token", OF_MESSAGE)}
    captured.save(save, {"msg": {"pin": 8675309123, "token": "cap7ured"}}, "onMessage[0]")
    again = {"cur": Expression("msg.cur", OF_MESSAGE)}
    for number in range(2 * ORIGIN.hidden_texts):
        captured.save(again, {"msg": {"cur": f"cursor-{number}"}}, "onMessage[1]")
    assert captured.hidden.line(f"8675309123 cap7ured cursor-{number} cursor-{number - 100}") == "*** *** *** ***"
    assert captured.hidden.line("cursor-0") == "cursor-0"  # see `OriginSettings.hidden_texts`


def test_the_latest_texts_are_bounded_in_number_and_characters() -> None:
    latest = Latest(3, 10)
    for text in ("a", "b", "c", "a", "d"):
        latest.add(text)
    assert latest.texts() == ("c", "a", "d")
    latest.add("12345678")
    assert latest.texts() == ("a", "d", "12345678")
    latest.add("longer than all of them may be")
    assert latest.texts() == ("longer than all of them may be",)
    latest.add("e")
    assert latest.texts() == ("e",)


def test_computed_texts_of_one_moment_do_not_push_out_those_of_another() -> None:
    hidden = Hidden()
    hidden.add_computed("signature-of-a-timer", Moment.TIMER)
    for number in range(2 * ORIGIN.hidden_texts):
        hidden.add_computed(f"signature-of-message-{number}", Moment.MESSAGE)
    assert hidden.line("signature-of-a-timer") == "***"


def test_replaced_secrets_stay_hidden_for_some_versions() -> None:
    hidden = Hidden(["hunter20"])
    hidden.add_secrets(["hunter21"])
    hidden.add_secrets(["hunter22"])
    assert hidden.line("hunter20 hunter21 hunter22") == "*** *** ***"
    assert hidden.secrets == {"hunter22"}
    for number in range(23, 90):
        hidden.add_secrets([f"hunter{number}"])
    assert hidden.line("hunter20 hunter89") == "hunter20 ***"


def test_nothing_is_prepared_until_something_is_shown() -> None:
    hidden = Hidden()
    made = hidden.redactor()
    assert hidden.redactor() is made
    hidden.add_captured('"cap7ured"')
    hidden.add_captured('"cap8ured"')
    assert hidden._made is made
    assert hidden.line("cap7ured cap8ured") == "*** ***"
    assert hidden._made is hidden.redactor() is not made


def test_a_source_that_is_gone_is_not_asked_any_more() -> None:
    hidden = Hidden()
    captured = Captured(hidden)
    captured.hide("of the handshake", Moment.HANDSHAKE)
    assert hidden.line("of the handshake") == "***"
    del captured
    other = Captured(hidden)
    assert hidden.line("of the handshake") == "of the handshake"
    assert len(hidden._sources) == 1
    del other


def test_logs_of_other_threads_are_hidden_while_values_are_captured() -> None:
    hidden = Hidden(["hunter22"])
    captured = Captured(hidden)
    save = {f"v{number}": Expression("msg.cur", OF_MESSAGE) for number in range(4)}
    failed: list[BaseException] = []
    stop = threading.Event()

    def log() -> None:
        try:
            while not stop.is_set():
                assert hidden.line("hunter22") == "***"
        except BaseException as error:  # noqa: BLE001  reported below
            failed.append(error)

    threads = [threading.Thread(target=log) for _ in range(2)]
    for each in threads:
        each.start()
    for number in range(1000):
        captured.save(save, {"msg": {"cur": f"cursor-{number}"}}, "onMessage[0]")
        captured.hide(f"signature-{number}", Moment.HANDSHAKE)
    stop.set()
    for each in threads:
        each.join()
    assert failed == []


def test_no_repr_shows_anything() -> None:
    hidden = Hidden(["hunter22"])
    hidden.add_captured('"cap7ured"')
    assert repr(hidden) == "<Hidden: <Redactor: 2 secrets>>"
