"""Every way in which a lobby ends: its clients notice nothing but a short silence.

`make continuity` takes 2,000 clients (CONTINUITY_CLIENTS) and 500 random sequences of faults (CONTINUITY_SEQUENCES), of which
CONTINUITY_FIRST is the first.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.continuity import continuity
from tests.support.sockets import run

CLIENTS = int(os.environ.get("CONTINUITY_CLIENTS", "60"))
SEQUENCES = int(os.environ.get("CONTINUITY_SEQUENCES", "8"))
FIRST = int(os.environ.get("CONTINUITY_FIRST", "1"))
LOBBIES = 5
SEATS = max(4, CLIENTS * 512 // 2000)  # 2,000 clients nearly fill four lobbies of 512 seats; the fifth is empty
DRAIN: dict[str, Any] = {} if CLIENTS >= 1000 else {"drainSeconds": 8}
"""Few clients don't need the ten seconds over which a drain moves them by default; at most half of this is taken."""
ORDERLY, LOST = 2.0, 5.0  # seconds of silence on a busy machine; docs/continuity.md has those of an idle one


@pytest.mark.timeout(240)
def test_clients_of_a_draining_lobby_notice_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS, **DRAIN) as running:
            await running.drain(await running.busiest())
            await running.steady()
            await running.check("drain", silence=ORDERLY)

    run(main(), deadline=230)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_clients_of_a_lobby_that_ends_notice_only_a_silence(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS) as running:
            pid = running.signal(await running.busiest(), number)
            await running.up.until_gone(pid, deadline=60)
            await running.steady()
            await running.check(number.name, silence=ORDERLY if number is signal.SIGTERM else LOST)

    run(main(), deadline=230)


@pytest.mark.timeout(240)
def test_clients_of_a_killed_lobby_continue_in_one_that_was_not_connected(tmp_path: Path) -> None:
    """It gets what they missed from another lobby that was."""

    async def main() -> None:
        async with continuity(
            tmp_path, clients=0, deflated=0, lobbies=3, seats=SEATS, origin_connect="OnDemand"
        ) as running:
            for _ in range(2 * SEATS):  # one by one: two greeters that claim seats at once may need a third lobby
                await running.connect(1)
            await running.steady()
            running.mark()
            empty = [name for name, report in (await running.reports()).items() if not report["clients"]]
            assert len(empty) == 1, running.summary()
            running.signal(await running.busiest(), signal.SIGKILL)
            await running.up.until_clients(2 * SEATS)
            assert (await running.up.seats(empty[0]))["clients"] == SEATS
            await running.check("SIGKILL, the other lobby not connected", silence=LOST)

    run(main(), deadline=230)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("identity", ["/seq", '"message " + string(msg.seq)'], ids=["pointer", "expression"])
def test_messages_that_differ_per_connection_are_the_same_by_their_identity(identity: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(
            tmp_path,
            clients=20,
            deflated=0,
            lobbies=3,
            seats=16,
            per_connection=True,
            origin_identity=identity,
            **DRAIN,
        ) as running:
            await running.drain(await running.busiest())
            await running.steady()
            running.signal(await running.busiest(), signal.SIGKILL)
            await running.steady()
            await running.check("drain and SIGKILL with an id of the connection in each message")

    run(main(), deadline=230)


@pytest.mark.timeout(300)
def test_clients_notice_nothing_while_each_lobby_is_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS, **DRAIN) as running:
            for lobby in running.lobbies():
                if lobby in running.lobbies():  # an empty one may have gone by itself
                    await running.drain(lobby)
                    await running.steady()
            await running.check("rolling replacement", silence=ORDERLY)

    run(main(), deadline=290)


@pytest.mark.timeout(300)
def test_clients_notice_nothing_while_sparse_lobbies_are_emptied_into_one(tmp_path: Path) -> None:
    lobbies, each = (20, 25) if CLIENTS >= 1000 else (4, 5)
    seats = lobbies * each if CLIENTS < 1000 else 2 * each

    async def main() -> None:
        async with continuity(
            tmp_path, clients=0, deflated=0, lobbies=1, seats=seats,
            maxReplicas=lobbies, spareSeats=0, waitSeconds=60, emptySeconds=1, compaction={"stabilizationSeconds": 2},
            **DRAIN,
        ) as running:  # fmt: skip
            staying = []
            for number in range(1, lobbies + 1):  # one lobby's worth at a time, so that it is known which has which
                clients = await running.connect(seats)
                await running.up.until_clients(number * seats)
                staying += clients[:each]
            running.mark()
            running.leave([viewer for viewer in running.viewers if viewer not in staying])
            await running.up.until_lobbies(lobbies * each // seats, deadline=120)
            await running.settled()
            await running.check(f"compaction of {lobbies} lobbies of {each} clients", silence=ORDERLY)

    run(main(), deadline=290)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_clients_in_the_middle_of_a_frame_or_with_a_full_mailbox_lose_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=20, lobbies=3, seats=24, rate=100, size=8000) as running:
            slow = await running.connect(10, receive_buffer=16384)  # with 4096 they would hardly catch up
            running.pause(slow)
            before = len(running.stream.ends)
            await running.until_sent(before + 100)  # 800 kB: more than the sockets take
            running.signal(await running.busiest(), number)
            await running.until_sent(before + 300)
            assert all(viewer.last < before + 200 for viewer in slow), "the clients were not slow"
            running.proceed(slow)
            await running.steady()
            await running.check(f"{number.name} with slow clients")

    run(main(), deadline=230)


@pytest.mark.timeout(60 + 60 * SEQUENCES)
def test_clients_notice_nothing_of_random_sequences_of_faults(tmp_path: Path) -> None:
    async def main() -> None:
        async with continuity(tmp_path, clients=CLIENTS, lobbies=LOBBIES, seats=SEATS, **DRAIN) as running:
            for seed in range(FIRST, FIRST + SEQUENCES):
                running.chance.seed(seed)
                running.note(f"sequence {seed}")
                for _ in range(running.chance.randint(1, 3)):
                    await running.strike()
                    await running.steady()
                await running.check(f"sequence {seed}")
                running.mark()

    run(main(), deadline=50 + 60 * SEQUENCES)
