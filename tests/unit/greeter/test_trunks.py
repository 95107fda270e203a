from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.sockets import run
from tests.unit.greeter.lobbies import KEY, Lobby, until

from lobby_gateway.clients.backlog import QueueLimits
from lobby_gateway.clients.message_bus import BusStats
from lobby_gateway.clients.tokens import NamespaceKeys, TokenKeys
from lobby_gateway.greeter.seat_queue import ClaimRefusal, LobbyId
from lobby_gateway.greeter.trunks import Group, Recent, Trunk
from lobby_gateway.process.background import BackgroundTasks
from lobby_gateway.trunk.position import NO_EPOCH, Position
from lobby_gateway.websocket.frames import Batch, Opcode, frame


def batch(*texts: str) -> Batch:
    return Batch.of([frame(Opcode.TEXT, text.encode()) for text in texts])


def payloads(batches: object) -> list[str]:
    assert isinstance(batches, list)
    return [str(each.payload(index), "utf-8") for each in batches for index in range(len(each))]


def test_the_latest_messages_are_kept_and_no_more() -> None:
    recent = Recent(3)
    assert payloads(recent.latest()) == []
    recent.append(batch("a", "b"))
    assert payloads(recent.latest()) == ["a", "b"]
    recent.append(batch("c", "d"))
    assert payloads(recent.latest()) == ["b", "c", "d"]
    recent.append(batch("e", "f", "g", "h"))
    assert payloads(recent.latest()) == ["f", "g", "h"]


def test_no_message_is_kept_without_replay() -> None:
    recent = Recent(0)
    recent.append(batch("a"))
    assert payloads(recent.latest()) == []


def test_a_lower_number_applies_at_once_and_a_higher_one_from_now_on() -> None:
    recent = Recent(4)
    for text in "abcd":
        recent.append(batch(text))
    recent.keep(2)
    assert payloads(recent.latest()) == ["c", "d"]
    recent.keep(4)
    assert payloads(recent.latest()) == ["c", "d"]
    recent.append(batch("e"))
    assert payloads(recent.latest()) == ["c", "d", "e"]


def test_stale_messages_are_dropped() -> None:
    recent = Recent(2)
    recent.append(batch("1", "2", "3"))
    recent.clear()
    assert payloads(recent.latest()) == []
    recent.append(batch("4"))
    assert payloads(recent.latest()) == ["4"]


def test_messages_from_a_time_without_replay_leave_no_gap_later() -> None:
    recent = Recent(4)
    recent.append(batch("a", "b"))
    recent.keep(0)
    assert payloads(recent.latest()) == []
    recent.append(batch("c"))
    recent.keep(4)
    assert payloads(recent.latest()) == []
    recent.append(batch("d"))
    assert payloads(recent.latest()) == ["d"]


def test_kept_messages_are_bounded_in_bytes_except_the_newest() -> None:
    recent = Recent(1000)
    for _ in range(3):
        recent.append(batch("x" * (5 << 20)))
    assert len(recent.latest()) == 1


class Owner:
    def __init__(self) -> None:
        self.granted: list[tuple[int, ClaimRefusal | None]] = []
        self.observed: list[tuple[int, int]] = []
        self.joined: list[Group] = []
        self.moving: list[float] = []
        self.missed = 0
        self.blamed: list[tuple[int, int]] = []
        self.subprotocols: list[str | None] = []
        self.lost: list[tuple[str, bool]] = []

    def trunk_granted(self, trunk: Trunk, seats: int, refusal: ClaimRefusal | None) -> None:
        assert trunk.seats >= seats
        self.granted.append((seats, refusal))

    def trunk_observed(self, trunk: Trunk, seats: int, free: int) -> None:
        assert not trunk.lost
        self.observed.append((seats, free))

    def trunk_moving(self, trunk: Trunk, within_seconds: float) -> None:
        assert trunk.moving
        self.moving.append(within_seconds)

    def trunk_joined(self, trunk: Trunk, group: Group) -> None:
        assert group not in trunk.groups
        self.joined.append(group)

    def trunk_origin(self, trunk: Trunk) -> None:
        self.subprotocols.append(trunk.subprotocol)

    def trunk_blamed(self, client: int, code: int) -> None:
        self.blamed.append((client, code))

    def trunk_missed(self, count: int) -> None:
        self.missed += count

    def trunk_lost(self, trunk: Trunk, problem: str, *, come_back: bool) -> None:
        assert trunk.lost
        self.lost.append((problem, come_back))


def trunk_to(
    lobby: LobbyId,
    owner: Owner,
    *,
    replay: int = 0,
    keys: TokenKeys | None = None,
    tasks: BackgroundTasks | None = None,
) -> Trunk:
    keys = keys or TokenKeys([KEY])
    return Trunk(
        lobby,
        owner,
        greeter="test",
        token_keys=NamespaceKeys(keys, ""),
        replay=replay,
        stats=BusStats(),
        limits=QueueLimits(),
        spawn=(tasks or BackgroundTasks()).spawn,
    )


def test_claims_made_before_the_trunk_is_open_are_sent_then() -> None:
    async def main() -> None:
        lobby, owner = Lobby(seats=5), Owner()
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(3)
        trunk.claim(4)
        assert list(trunk.ledger.claims.values()) == [3, 4]
        assert trunk.position() == Position(NO_EPOCH, 0)
        await until(lambda: len(owner.granted) == 2)
        assert owner.granted == [(3, None), (2, ClaimRefusal.FULL)]
        assert owner.observed[-1] == (5, 0)
        assert (trunk.ledger.claims, trunk.seats) == ({}, 5)
        trunk.release(1)
        trunk.release(2)
        assert trunk.seats == 2
        await until(lambda: lobby.seat_count.taken == 2)
        trunk.close()
        await trunk.wait_closed()
        await until(lambda: lobby.seat_count.taken == 0)
        assert owner.lost == []
        lobby.close()

    run(main())


def test_a_draining_lobby_asks_for_its_seats() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(1)
        await until(lambda: owner.granted)
        lobby.drain(2.5)
        lobby.drain(1.25)
        trunk.claim(1)
        await until(lambda: len(owner.granted) == 2)
        assert owner.granted[1] == (0, ClaimRefusal.DRAINING)
        assert owner.moving == [2.5, 1.25]
        lobby.break_trunks()
        await until(lambda: owner.lost)
        assert owner.lost[0][1] is False, "nobody comes back to a lobby that drains"
        lobby.close()

    run(main())


def test_a_trunk_that_breaks_may_be_opened_again_at_once() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(1)
        await until(lambda: owner.granted)
        lobby.break_trunks()
        await until(lambda: owner.lost)
        assert owner.lost[0][1] is True
        lobby.close()

    run(main())


NEW, OTHER = b"n" * 32, b"o" * 32


@pytest.mark.parametrize("known", [KEY, NEW])
def test_during_a_key_rotation_a_lobby_that_knows_only_one_key_is_reached(known: bytes) -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        lobby.keys = [known]
        keys = TokenKeys([KEY])
        keys.replace([NEW], time.monotonic())
        trunk = trunk_to(lobby.id, owner, keys=keys)
        trunk.claim(1)
        await until(lambda: owner.granted)
        assert not owner.lost
        trunk.close()
        await trunk.wait_closed()
        lobby.close()

    run(main())


def test_a_lobby_that_knows_none_of_the_keys_is_given_up() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        trunk = trunk_to(lobby.id, owner, keys=TokenKeys([NEW, OTHER]))
        trunk.claim(1)
        await until(lambda: owner.lost)
        assert "401" in owner.lost[0][0]
        lobby.close()

    run(main())


@pytest.mark.parametrize("how", ["refused", "nobody listens"])
def test_a_trunk_that_cannot_be_opened_is_lost_at_once(how: str) -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        lobby.refusing = True
        if how == "nobody listens":
            lobby.close()
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(1)
        await until(lambda: owner.lost)
        assert owner.lost[0][1] is False
        assert len(owner.lost) == 1
        assert not trunk.forward(1, Opcode.TEXT, b"x")
        lobby.close()

    run(main())


def test_a_trunk_is_lost_if_opening_it_raises_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise LookupError("a bug: hunter22")

    monkeypatch.setattr("lobby_gateway.greeter.trunks.connect_trunk", broken)

    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        trunk_to(lobby.id, owner).claim(1)
        await until(lambda: owner.lost)
        ((problem, come_back),) = owner.lost
        assert problem.startswith("internal error: LookupError in test_trunks.py:")
        assert come_back is False
        lobby.close()

    run(main())


def test_a_bug_in_taking_that_a_trunk_is_lost_is_the_greeters() -> None:
    """Its clients would wait for another lobby for ever."""

    class Buggy(Owner):
        def trunk_lost(self, trunk: Trunk, problem: str, *, come_back: bool) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        lobby, tasks = Lobby(), BackgroundTasks()
        lobby.close()
        trunk_to(lobby.id, Buggy(), tasks=tasks)
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(10):
                await tasks.wait_failed()

    run(main())


def test_a_trunk_can_be_closed_while_it_opens() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        trunk = trunk_to(lobby.id, owner)
        trunk.close()
        await trunk.wait_closed()
        assert owner.lost == []
        lobby.close()

    run(main())


def test_a_group_gets_what_it_missed_before_it_joins() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        lobby.publish("1", "2")
        lobby.publish("3")
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(2)
        await until(lambda: owner.granted)
        known, unknown = Group(trunk, Position(1, 1)), Group(trunk, Position(77, 1))
        trunk.resume(known)
        trunk.resume(unknown)
        assert set(trunk.groups) == {known, unknown}
        await until(lambda: len(owner.joined) == 2)
        assert owner.joined == [known, unknown]
        assert (known.exact, payloads(known.replay)) == (True, ["2", "3"])
        assert (unknown.exact, unknown.reason, unknown.replay) == (False, "unknown", [])
        assert (trunk.position().epoch, trunk.position().offset) == (1, 3)
        trunk.close()
        await trunk.wait_closed()
        lobby.close()

    run(main())


def test_no_group_joins_a_trunk_that_is_not_open() -> None:
    async def main() -> None:
        lobby = Lobby()
        trunk = trunk_to(lobby.id, Owner())
        with pytest.raises(ValueError, match="the trunk is not open"):
            trunk.resume(Group(trunk, Position(1, 1)))
        trunk.close()
        await trunk.wait_closed()
        lobby.close()

    run(main())


def test_a_greeter_that_was_suspended_learns_what_it_missed() -> None:
    async def main() -> None:
        lobby, owner = Lobby(), Owner()
        lobby.ring.max_bytes = 1 << 20
        trunk = trunk_to(lobby.id, owner)
        trunk.claim(1)
        await until(lambda: owner.granted)
        for _ in range(400):  # much more than all buffers between them hold, while the loop does not come to reading
            lobby.publish("x" * 65536)
        await until(lambda: owner.missed)
        await until(lambda: trunk.position().offset == 400)
        assert trunk.bus.stats.messages + owner.missed == 400
        trunk.close()
        await trunk.wait_closed()
        lobby.close()

    run(main())


def test_the_loop_is_not_blocked_while_a_trunk_opens() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        owner = Owner()
        trunk = trunk_to(LobbyId("deaf", address), owner)
        assert owner.lost == []  # whoever had waited, while the loop stood still, would have given up by now
        trunk.close()
        await trunk.wait_closed()
        assert owner.lost == []
        server.close()

    run(main())
