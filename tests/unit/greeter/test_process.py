from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support import web
from tests.support.lobby import greeter_process, new_key
from tests.support.raw_client import RawClient, request
from tests.support.sockets import run
from tests.support.waiting import until as until_true
from tests.unit.greeter.lobbies import SETTINGS, greeter, texts, until
from tests.unit.greeter.support import resource
from websockets.exceptions import InvalidStatus

from lobby_gateway import metrics
from lobby_gateway.errors import UserError
from lobby_gateway.greeter.directory import Directory
from lobby_gateway.greeter.process import Greeter, serve
from lobby_gateway.process.lifecycle import Shutdown
from lobby_gateway.process.seat_reports import GreeterReport
from lobby_gateway.settings import ClientSettings


def test_it_is_ready_once_it_knows_the_lobbies() -> None:
    async def main() -> None:
        made = Greeter(SETTINGS)
        await made.start()
        admin = f"http://127.0.0.1:{made.admin_port}"
        assert (await web.get(f"{admin}/healthz")).status == 200
        assert (await web.get(f"{admin}/readyz")).status == 503
        made.directory.update([])
        assert (await web.get(f"{admin}/readyz")).status == 200
        await made.stop()
        assert made.ready() == "ending"

    run(main())


def test_it_reports_waiting_and_moved_clients() -> None:
    async def main() -> None:
        async with greeter("prices-1", seats=1) as made:
            [client] = await made.clients(1)
            waiting = asyncio.ensure_future(made.connect().__aenter__())
            await until(lambda: made.greeter.report().waiting["prices"])
            answer = await web.get(f"http://127.0.0.1:{made.greeter.admin_port}/waiting")
            assert GreeterReport.from_json(answer.json()) == GreeterReport(
                clients={"prices": 1}, waiting={"prices": 1}, lost={"prices": 0}, dropped={"prices": 0},
                dropped_by={"prices": {"slow": 0, "old": 0, "memory": 0}}, deliveries={"prices": 0},
                moves_exact={"prices": 0}, moves_live={"prices": 0},
            )  # fmt: skip
            await client.close()
            await (await waiting).close()

    run(main())


def test_every_metric_of_the_table_is_exported() -> None:
    async def main() -> None:
        async with greeter("prices-1") as made:
            [client] = await made.clients(1)
            made.lobbies[0].publish("abc", "de")
            await texts(client, 2)
            with pytest.raises(InvalidStatus):
                await made.connect("/nowhere")
            found = await web.metrics(f"http://127.0.0.1:{made.greeter.admin_port}/metrics")
            for definition in metrics.GREETER:
                name = definition.name + ("_count" if definition.kind == "histogram" else "")
                assert any(each == name for each, _ in found.samples), definition.name
            assert found("greeter_clients", lobby="prices") == 1
            assert found("greeter_trunks") == 1
            assert found("greeter_messages_total") == 2
            assert found("greeter_deliveries_total") == 2
            assert found("greeter_message_bytes_total") == len("abcde") + 4
            assert found("greeter_handshakes_total") == 1
            assert found("greeter_refusals_total", reason="no_such_path") == 1
            await client.close()

    run(main())


def test_a_client_that_takes_nothing_for_too_long_is_closed_as_too_slow_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = ClientSettings(not_reading_seconds=0.1, stalled_seconds=0.5, close_timeout_seconds=0.1)
    monkeypatch.setattr(ClientSettings.__new__, "__defaults__", tuple(hasty))
    caplog.set_level(logging.INFO, "lobby_gateway.clients.connection")

    async def main() -> None:
        async with greeter("prices-1") as made:
            stalled = await RawClient.upgraded(made.greeter.port, request("/prices"), receive_buffer=4096)
            await until(lambda: made.greeter.report().clients["prices"] == 1)

            async def closed() -> bool:
                made.lobbies[0].publish(*["x" * 16384] * 8)
                found = await web.metrics(f"http://127.0.0.1:{made.greeter.admin_port}/metrics")
                return found("greeter_closes_total", reason="too_slow") == 1

            await until_true(closed, describe="the stalled client to be closed")
            assert made.greeter.report().clients["prices"] == 0
            stalled.sock.close()

    run(main())
    (record,) = [each for each in caplog.records if each.getMessage() == "client disconnected"]
    fields = vars(record)
    assert (fields["reason"], fields["lobby"], fields["address"]) == ("too_slow", "prices", "127.0.0.1")
    assert fields["dropped"] > 0


def test_counters_outlive_their_lobby() -> None:
    async def main() -> None:
        async with greeter("prices-1", settings=replace(SETTINGS, linger_seconds=0)) as made:
            [client] = await made.clients(1)
            made.lobbies[0].publish("abc")
            await texts(client, 1)
            await client.close()
            made.greeter.directory.update([])
            await until(lambda: made.greeter.report().clients == {})
            found = await web.metrics(f"http://127.0.0.1:{made.greeter.admin_port}/metrics")
            assert found("greeter_deliveries_total") == 1

    run(main())


def test_a_port_in_use_is_reported() -> None:
    async def main() -> None:
        first = Greeter(SETTINGS)
        await first.start()
        second = Greeter(replace(SETTINGS, port=first.port))
        with pytest.raises(UserError, match=f"--port: {first.port} is in use"):
            await second.start()
        third = Greeter(replace(SETTINGS, admin_port=first.admin_port))
        with pytest.raises(UserError, match=f"--admin-port: {first.admin_port}"):
            await third.start()
        for each in (first, second, third):
            await each.stop()

    run(main())


def test_two_greeters_share_a_port() -> None:
    async def main() -> None:
        first = Greeter(replace(SETTINGS, reuse_port=True))
        await first.start()
        second = Greeter(replace(SETTINGS, reuse_port=True, port=first.port))
        await second.start()
        await first.stop()
        await second.stop()

    run(main())


def test_it_closes_clients_in_batches_within_the_time_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.999)  # each batch as late as possible

    async def main() -> None:
        async with greeter("prices-1", settings=replace(SETTINGS, close_seconds=1.0, close_batches=4)) as made:
            clients = await made.clients(40)
            service = made.service()
            left: list[int] = []
            stopping = asyncio.create_task(made.greeter.stop())
            began = asyncio.get_running_loop().time()
            while not stopping.done():
                open_now = sum(not client.closing for client in service.clients)
                if open_now not in left:
                    left.append(open_now)
                    if not open_now:
                        assert asyncio.get_running_loop().time() - began < 1.0 + 10  # ten seconds for a busy machine
                await asyncio.sleep(0.001)
            assert set(left) <= {40, 30, 20, 10, 0}
            assert len(left) >= 3  # a busy machine may be late for one or two of them
            for client in clients:
                await client.wait_closed()

    run(main())


class NoLobbies:
    """A source of an empty directory."""

    async def start(self, directory: Directory, _ended: Callable[[str], None]) -> None:
        directory.update([])

    async def close(self) -> None:
        pass


def test_a_bug_in_a_task_of_its_own_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: metrics.LoopLag) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(metrics.LoopLag, "watch", fail)
    monkeypatch.setattr("lobby_gateway.greeter.process.announce", lambda **_: None)

    async def main() -> None:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with asyncio.timeout(10):
                await serve(SETTINGS, NoLobbies(), Shutdown())

    run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_stops_in_order(number: signal.Signals) -> None:
    async def main() -> None:
        async with greeter_process(key=new_key()) as made:
            made.set_directory(resource("prices"))
            await until_ready(made.admin)
            assert await made.process.stop(number) == 0

    run(main())


def test_the_process_stops_when_its_parent_is_gone() -> None:
    async def main() -> None:
        async with greeter_process(key=new_key()) as made:
            made.process.close_stdin()
            assert await made.process.exited() == 0

    run(main())


async def until_ready(admin: str) -> None:
    async with asyncio.timeout(10):
        while (await web.get(f"{admin}/readyz")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
