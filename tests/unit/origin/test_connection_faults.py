"""Origins with faults: what each leads to."""

from __future__ import annotations

import pytest
from tests.support.origins import INVALID_UTF8, FakeOrigin, Refuse, authority, server_frame, ticking
from tests.support.sockets import run
from tests.support.waiting import stays, until
from tests.unit.origin.test_connection import running

from lobby_gateway.origin.states import Failure
from lobby_gateway.process.seat_reports import OriginState


def test_origin_that_restarts_is_found_again_by_itself() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby, ticking(origin, interval=0.001):
            await lobby.until(lambda: len(lobby.messages) >= 10)
            await origin.stop()
            await lobby.until_failure(Failure.UNREACHABLE)
            assert lobby.origin.report().reason == "connection refused"
            await origin.start_again_on_same_port()
            await lobby.until(lambda: len(lobby.epochs) == 2 and len(lobby.epochs[1]) >= 10)
            assert lobby.origin.report().reason == ""
            assert origin.most_open == 1

    run(main())


@pytest.mark.parametrize("how", ["kill_connections", "end_connections"])
def test_lost_connection_is_made_anew(how: str) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            for count in range(1, 4):
                await origin.until_connected(count)
                await lobby.until(lambda count=count: len(lobby.epochs) == count)  # type: ignore[misc]
                getattr(origin, how)()
            await origin.until_connected(4)
            assert origin.most_open == 1
            assert lobby.origin.failures == {Failure.LOST: 3}

    run(main())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
def test_origin_that_closes_is_answered_and_tried_again(code: int) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url) as lobby:
            first = await origin.until_open()
            await origin.close_connections(code)
            assert first.server.protocol.close_rcvd is not None
            assert first.server.protocol.close_rcvd.code == code
            await origin.until_connected(2)
            assert lobby.origin.failures == {Failure.CLOSED: 1}

    run(main())


def test_origin_that_goes_silent_is_noticed_by_pings() -> None:
    async def main() -> None:
        pings = {"pingSeconds": 1, "timeoutSeconds": 1}
        async with FakeOrigin() as origin, running(origin.url, keepalive=pings) as lobby:
            first = await origin.until_open()
            await origin.until(lambda: first.pings == 1)
            origin.go_silent()
            await origin.until_connected(2)
            assert lobby.origin.failures == {Failure.PING_TIMEOUT: 1}

    run(main())


def test_stream_that_dries_up_is_noticed() -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, staleSeconds=1) as lobby:
            first = await origin.until_open()
            await origin.until_connected(2)
            assert lobby.origin.failures == {Failure.STALE: 1}
            assert (first.close_code, first.close_reason) == (1000, "no message for 1 s")

    run(main())


@pytest.mark.parametrize("status", [401, 403])
def test_origin_that_forbids_is_asked_once_and_the_state_says_so(status: int) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(status)) as origin, running(origin.url) as lobby:
            await lobby.until_state(OriginState.REFUSED)
            report = lobby.origin.report()
            assert report.reason.startswith(f"HTTP {status} ")
            assert report.retry_in_seconds > 59
            for _ in range(20):  # clients that come and go change nothing
                lobby.origin.set_needed(False)
                lobby.origin.set_needed(True)
            await stays(lambda: len(origin.attempts) == 1, seconds=0.3)

    run(main())


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(status: int) -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(status, (("Retry-After", "1"),))) as origin, running(origin.url) as lobby:
            await lobby.until_state(OriginState.WAITING)
            assert 0 <= lobby.origin.report().retry_in_seconds <= 1.1
            origin.refuse = None
            await origin.until_open()
            assert origin.shortest_wait() >= 1

    run(main())


def test_unreadable_retry_after_is_ignored() -> None:
    async def main() -> None:
        unreadable = (("Retry-After", "Mon, 01 Jan 2020 00:00:00 +99999999999999999999"),)
        async with FakeOrigin(refuse=Refuse(503, unreadable)) as origin, running(origin.url) as lobby:
            await lobby.until_failure(Failure.TURNED_AWAY)
            assert lobby.origin.report().reason == "HTTP 503 Service Unavailable"
            origin.refuse = None
            await origin.until_open()

    run(main())


def test_name_that_dns_does_not_allow_is_a_failed_attempt() -> None:
    async def main() -> None:
        async with running("ws://feed..example.com/") as lobby:
            await until(lambda: lobby.origin.failures.get(Failure.UNREACHABLE, 0) >= 2)
            assert lobby.origin.report().reason.startswith("DNS: no address for feed..example.com (")

    run(main())


def test_long_retry_after_is_shown() -> None:
    async def main() -> None:
        async with FakeOrigin(refuse=Refuse(429, (("Retry-After", "600"),))) as origin, running(origin.url) as lobby:
            await lobby.until_state(OriginState.WAITING)
            report = lobby.origin.report()
            assert report.reason == "HTTP 429 Too Many Requests"
            assert 590 < report.retry_in_seconds <= 601

    run(main())


def test_untrusted_certificate_is_shown_and_tried_again() -> None:
    async def main() -> None:
        async with FakeOrigin(tls=authority().server) as origin, running(origin.url) as lobby:
            await until(lambda: lobby.origin.failures.get(Failure.UNREACHABLE, 0) >= 2)
            assert lobby.origin.report().reason.startswith("TLS: certificate is not trusted (")
            assert origin.attempts == []

    run(main())


def test_own_authority_and_server_name() -> None:
    async def main() -> None:
        theirs = authority("feed.example")
        async with FakeOrigin(tls=theirs.server) as origin:
            tls = {
                "caSecretRef": {"name": "ca", "key": "crt"},
                "serverName": "feed.example",
                "insecureSkipVerify": False,
            }
            async with running(origin.url, environment={"LOBBY_SECRET_CA_CRT": theirs.ca_pem}, tls=tls) as lobby:
                await origin.until_open()
                await origin.send("hello")
                await lobby.until(lambda: lobby.messages == [b"hello"])

    run(main())


@pytest.mark.parametrize(
    ("bad", "code", "failure"),
    [
        (INVALID_UTF8, 1007, Failure.INVALID_DATA),
        (server_frame(1, b"x" * 1025), 1009, Failure.TOO_BIG),
        (server_frame(3, b""), 1002, Failure.PROTOCOL_ERROR),
    ],
)
def test_bad_message_closes_with_its_code_and_the_stream_goes_on(bad: bytes, code: int, failure: Failure) -> None:
    async def main() -> None:
        async with FakeOrigin() as origin, running(origin.url, maxMessageBytes=1024) as lobby:
            first = await origin.until_open()
            await lobby.until_state(OriginState.CONNECTED)
            origin.send_raw(server_frame(1, b"x" * 1024) + bad)
            await origin.until_closed(first)
            assert first.close_code == code
            await origin.until_connected(2)
            await origin.send("on it goes")
            await lobby.until(lambda: len(lobby.messages) == 2)
            assert lobby.epochs == [[b"x" * 1024], [b"on it goes"]]
            assert lobby.origin.failures == {failure: 1}

    run(main())


def test_origin_that_accepts_and_drops_is_tried_less_and_less_often() -> None:
    async def drop(origin: FakeOrigin, _: object) -> None:
        origin.end_connections()

    async def main() -> None:
        async with FakeOrigin(on_open=drop) as origin:
            reconnect = {"minMilliseconds": 20, "maxMilliseconds": 60_000}
            async with running(origin.url, reconnect=reconnect, fraction=lambda: 1.0) as lobby:
                await origin.until_attempts(5)
                waits = [b - a for a, b in zip(origin.attempts, origin.attempts[1:], strict=False)]
                assert [wait >= least for wait, least in zip(waits, (0.02, 0.04, 0.08, 0.16), strict=True)] == [
                    True
                ] * 4
                assert origin.most_open == 1
                await until(lambda: lobby.origin.report().retry_in_seconds > 0.25)

    run(main())
