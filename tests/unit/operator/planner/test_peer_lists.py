from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.unit.operator.lobbies import SPEC, lobby_state, observed

from lobby_gateway.process.peer_list import Peer, PeerList, Version
from lobby_gateway.process.seat_reports import OriginReport, OriginState
from lobby_operator.planner.connect_permits import EarlierConnects
from lobby_operator.planner.peer_lists import PeerLists
from lobby_operator.planner.spec import ConnectLimit, PlannerSpec
from lobby_operator.planner.state import LobbyState, Phase, StreamState
from lobby_operator.settings import PeerListSettings

START = Version(3, 100)
FREE, BUDGET = SPEC, replace(SPEC, connections=1)
NEW = StreamState(permit=False)


class Host:
    """A lobby host whose requests are answered at once.

    Attributes:
        recorded: see `PeerLists.update`.
        waited: seconds since the first pass.
    """

    def __init__(self, spec: PlannerSpec, settings: PeerListSettings | None = None) -> None:
        self.spec = spec
        self.recorded: set[str] | None = None
        self.lists = PeerLists(START, settings)
        self.waited = 0.0

    def tell(self, *lobbies: LobbyState) -> tuple[dict[str, PeerList], list[LobbyState]]:
        """One pass: what is sent, and the lobbies after that."""
        seen = observed(*lobbies)
        due = self.lists.update(self.spec, replace(seen, at=seen.at + self.waited), recorded=self.recorded)
        after = []
        for lobby in lobbies:
            told, stream = due.get(lobby.name), lobby.stream
            if told is not None and stream is not None:
                self.lists.answered(lobby.name, told)
                version = (told.version.term, told.version.number)
                after.append(replace(lobby, stream=replace(stream, told=version, permit=told.connect)))
            else:
                after.append(lobby)
        return due, after


def test_without_a_limit_all_may_connect_and_know_each_other() -> None:
    due, _ = Host(FREE).tell(*(lobby_state(index, stream=StreamState()) for index in (1, 2, 3)))
    assert all(each.connect for each in due.values())
    assert [peer.name for peer in due["prices-2"].peers] == ["prices-3", "prices-1"]
    assert due["prices-2"].peers[0].address == "10.0.0.3:8000"


def test_nothing_is_sent_twice() -> None:
    host = Host(FREE)
    _, lobbies = host.tell(lobby_state(1, stream=StreamState()), lobby_state(2, stream=StreamState()))
    assert host.tell(*lobbies)[0] == {}


def test_one_of_several_new_lobbies_gets_the_only_permit_once_the_others_have_answered() -> None:
    host = Host(BUDGET)
    due, lobbies = host.tell(*(lobby_state(index, stream=NEW) for index in (1, 2)))
    assert not any(each.connect for each in due.values())
    due, lobbies = host.tell(*lobbies)
    assert {name for name, each in due.items() if each.connect} == {"prices-1"}
    assert host.lists.holders == {"prices-1"}
    assert host.tell(*lobbies)[0] == {}


def test_the_permit_of_a_lobby_that_is_gone_goes_to_the_fullest() -> None:
    host = Host(BUDGET)
    lobbies = [lobby_state(index, index, stream=NEW) for index in (1, 2, 3)]
    for _ in range(3):
        _, lobbies = host.tell(*lobbies)
    assert host.lists.holders == {"prices-3"}
    host.tell(*lobbies[:2])
    assert host.lists.holders == {"prices-2"}


def test_a_holder_that_does_not_answer_keeps_its_permit() -> None:
    host = Host(BUDGET)
    lobbies = [lobby_state(index, stream=NEW) for index in (1, 2)]
    for _ in range(3):
        _, lobbies = host.tell(*lobbies)
    due, _ = host.tell(replace(lobbies[0], phase=Phase.UNRESPONSIVE), lobbies[1])
    assert host.lists.holders == {"prices-1"}
    assert not any(each.connect for each in due.values())


def test_a_draining_holder_lets_go_before_another_connects() -> None:
    host = Host(BUDGET)
    lobbies = [lobby_state(index, stream=NEW) for index in (1, 2)]
    for _ in range(3):
        _, lobbies = host.tell(*lobbies)
    draining = replace(lobbies[0], phase=Phase.DRAINING)
    due = host.lists.update(BUDGET, observed(draining, lobbies[1]))
    assert not due["prices-1"].connect
    assert host.lists.holders == frozenset()
    host.lists.answered("prices-1", due["prices-1"])
    told = (due["prices-1"].version.term, due["prices-1"].version.number)
    host.lists.update(BUDGET, observed(replace(draining, stream=StreamState(permit=True, told=told)), lobbies[1]))
    assert host.lists.holders == frozenset()  # it is still closing its connection
    host.lists.update(BUDGET, observed(replace(draining, stream=StreamState(permit=False, told=told)), lobbies[1]))
    assert host.lists.holders == {"prices-2"}


def test_a_new_lobby_host_finds_the_holder_by_its_report() -> None:
    host = Host(BUDGET)
    holder = lobby_state(2, stream=StreamState(permit=True, told=(2, 7)))
    due, _ = host.tell(lobby_state(1, 9, stream=StreamState(permit=False, told=(2, 8))), holder)
    assert {name for name, each in due.items() if each.connect} == {"prices-2"}


def test_versions_begin_after_those_of_an_earlier_lobby_host_with_a_greater_term() -> None:
    """Someone deleted the Lease, or the release was installed again while lobbies ran."""
    host = Host(BUDGET)
    holder = lobby_state(1, 9, stream=StreamState(permit=True, told=(7, 500)))
    others = [lobby_state(2, stream=StreamState(permit=False, told=(2, 8))), lobby_state(3)]
    due, (holder, *others) = host.tell(holder, *others)
    assert {name for name, each in due.items() if each.connect} == {"prices-1"}
    assert min(each.version for each in due.values()) > Version(7, 500)
    late = replace(others[-1], stream=StreamState(permit=False, told=(7, 501)))  # polled for the first time
    due, lobbies = host.tell(holder, others[0], late)
    assert due["prices-3"].version > Version(7, 501)
    assert host.tell(*lobbies)[0] == {}
    host.tell(*lobbies[1:])
    assert host.lists.holders == {"prices-2"}


def test_versions_begin_after_a_late_request_of_an_earlier_lobby_host_with_a_greater_term() -> None:
    host = Host(BUDGET)
    _, lobbies = host.tell(lobby_state(1, 9, stream=NEW), lobby_state(2, stream=NEW))
    late = [replace(each, stream=StreamState(permit=False, told=(7, 500))) for each in lobbies]
    due, lobbies = host.tell(*late)
    assert min(each.version for each in due.values()) > Version(7, 500)
    host.tell(*lobbies)
    assert host.lists.holders == {"prices-1"}


def test_a_lobby_of_another_origin_is_no_peer() -> None:
    due, _ = Host(FREE).tell(
        lobby_state(1, stream=StreamState(origin_id="a")),
        lobby_state(2, stream=StreamState(origin_id="b")),
        lobby_state(3, stream=StreamState(origin_id="a")),
    )
    assert [peer.name for peer in due["prices-1"].peers] == ["prices-3"]
    assert due["prices-2"].peers == ()


def test_of_very_many_peers_those_with_a_stream_and_room_are_told() -> None:
    settings = PeerListSettings(max_peers=3, full_relays=2)
    lobbies = [lobby_state(index, stream=StreamState(permit=False)) for index in range(1, 9)]
    lobbies[5] = lobby_state(6, stream=StreamState(flowing=True, via=("prices-8",), relays=1, permit=False))
    lobbies[6] = lobby_state(7, stream=StreamState(flowing=True, via=("prices-8",), relays=2, permit=False))
    lobbies[7] = lobby_state(8, stream=StreamState(flowing=True, permit=True))
    due, _ = Host(BUDGET, settings).tell(*lobbies)
    assert [peer.name for peer in due["prices-1"].peers] == ["prices-8", "prices-6", "prices-2"]


def test_lists_stay_as_they_are_while_new_lobbies_start() -> None:
    settings = PeerListSettings(max_peers=3)
    host = Host(FREE, settings)
    flowing = StreamState(flowing=True)
    _, lobbies = host.tell(*(lobby_state(index, stream=flowing) for index in range(1, 9)))
    due, lobbies = host.tell(*lobbies, lobby_state(9, stream=flowing))
    assert due.keys() == {"prices-9"}
    lost = [replace(lobbies[1], phase=Phase.ENDING), *lobbies[2:]]
    due, _ = host.tell(lobbies[0], *lost)
    assert due.keys() == {"prices-1", "prices-7", "prices-8", "prices-9"}


def test_a_peer_that_gets_worse_or_moves_is_replaced_also_after_passes_in_which_nothing_changed() -> None:
    host = Host(FREE, PeerListSettings(max_peers=3))
    lobbies = [lobby_state(index, stream=StreamState(flowing=True)) for index in range(1, 9)]
    for _ in range(4):
        due, lobbies = host.tell(*lobbies)
    assert due == {}
    _, lobbies = host.tell(lobbies[0], replace(lobbies[1], stream=StreamState(flowing=False)), *lobbies[2:])
    moved = replace(lobbies[4], address="10.0.1.5:8000")
    due, lobbies = host.tell(*lobbies[:4], moved, *lobbies[5:])
    assert due.keys() == {"prices-1", "prices-2", "prices-3", "prices-4"}
    assert all(Peer(name="prices-5", address="10.0.1.5:8000") in each.peers for each in due.values())
    due, _ = host.tell(*lobbies[:4], *lobbies[5:])
    assert due.keys() == {"prices-1", "prices-2", "prices-3", "prices-4"}
    assert not any(peer.name == "prices-5" for each in due.values() for peer in each.peers)


def test_the_lists_of_thousands_of_lobbies_cost_no_step_per_pair_of_them() -> None:
    def seconds(count: int) -> float:
        lobbies = observed(*(lobby_state(index, stream=StreamState(flowing=True)) for index in range(1, count + 1)))
        took = []
        for _ in range(3):
            lists, begun = PeerLists(START), time.process_time()
            lists.update(FREE, lobbies)
            took.append(time.process_time() - begun)
        return min(took)

    assert seconds(4000) < 24 * seconds(500)  # 8 times if each costs the same, 64 times with a step per pair


# Attempts to connect (`origin.limits.connects`, and while the origin refuses)

CONNECTED = OriginReport(state=OriginState.CONNECTED)
REFUSED = OriginReport(state=OriginState.REFUSED, reason="no such key")


def test_without_a_limit_any_number_of_attempts_is_allowed() -> None:
    due, _ = Host(FREE).tell(lobby_state(1, stream=StreamState()))
    assert due["prices-1"].connects is None


def allowed_after(host: Host, *lobbies: LobbyState) -> dict[str, int | None]:
    """The attempts that each lobby is allowed once all know the latest lists, of which the first takes permits back."""
    allowed: dict[str, int | None] = {}
    after = list(lobbies)
    for _ in range(4):
        due, after = host.tell(*after)
        allowed |= {name: told.connects for name, told in due.items()}
    return allowed


def test_permits_for_attempts_go_to_lobbies_that_want_them_then_to_others_while_most_are_free() -> None:
    wanting = StreamState(wants_connect=True)
    lobbies = [lobby_state(1, stream=StreamState()), *(lobby_state(index, stream=wanting) for index in (2, 3))]
    assert allowed_after(Host(replace(SPEC, connects=ConnectLimit(4, 10))), *lobbies) == {
        "prices-1": 0,
        "prices-2": 1,
        "prices-3": 1,
    }
    assert allowed_after(Host(replace(SPEC, connects=ConnectLimit(9, 10))), *lobbies)["prices-1"] == 1


def test_a_lobby_that_no_later_lobby_host_would_know_of_gets_no_permit() -> None:
    host = Host(replace(SPEC, connects=ConnectLimit(9, 10)))
    lobbies = [lobby_state(index, stream=StreamState(wants_connect=True)) for index in (1, 2)]
    host.recorded = {"prices-1"}
    assert allowed_after(host, *lobbies) == {"prices-1": 1, "prices-2": 0}
    host.recorded = {"prices-1", "prices-2"}
    assert allowed_after(host, *lobbies)["prices-2"] == 1


def test_while_the_origin_refuses_one_lobby_all_together_try_once_in_half_a_minute() -> None:
    refused = lobby_state(1, origin=REFUSED, stream=StreamState(connects=3))
    new = [lobby_state(index, stream=StreamState(wants_connect=True)) for index in (2, 3)]
    assert allowed_after(Host(FREE), refused, *new) == {"prices-1": 3, "prices-2": 1, "prices-3": 0}


def test_the_limit_of_a_refusal_outlives_the_lobby_that_was_refused() -> None:
    refused = lobby_state(1, origin=REFUSED, stream=StreamState(connects=3))
    waiting = lobby_state(2, stream=StreamState(wants_connect=True))
    host = Host(FREE)
    assert allowed_after(host, refused, waiting)["prices-2"] == 1  # those before the first pass do not count
    used = lobby_state(2, origin=REFUSED, stream=StreamState(connects=1))
    third = lobby_state(3, stream=StreamState(wants_connect=True))
    assert allowed_after(host, used, third)["prices-3"] == 0
    host.waited = 20.0
    assert allowed_after(host, third)["prices-3"] == 0  # although nobody is left whom it has refused
    host.waited = 31.0
    assert allowed_after(host, third)["prices-3"] is None


@pytest.mark.parametrize("end", ["accepted", "other spec"])
def test_the_limit_of_a_refusal_ends_with_its_cause(end: str) -> None:
    refused = lobby_state(1, origin=REFUSED, stream=StreamState(connects=3))
    third = lobby_state(3, stream=StreamState(wants_connect=True))
    host = Host(FREE)
    allowed_after(host, refused, third)
    if end == "accepted":
        refused = replace(refused, origin=CONNECTED)
    else:
        host.spec = replace(host.spec, revision="another")
        refused = replace(refused, outdated=True)
    assert allowed_after(host, refused, third)["prices-3"] is None


def test_a_lobby_host_that_starts_goes_on_with_the_limit_of_a_refusal() -> None:
    third = lobby_state(3, stream=StreamState(wants_connect=True))
    host = Host(FREE)
    host.lists = PeerLists(START, earlier=EarlierConnects(frozenset({"prices-3"}), until=observed().at + 20))
    assert allowed_after(host, third)["prices-3"] == 0
    host.waited = 21.0
    assert allowed_after(host, third)["prices-3"] is None


def test_a_limit_holds_for_the_origin_although_an_attempt_may_reach_it_late() -> None:
    """The origin counts from then: with the next attempt on time, it would see two within the limit's seconds."""
    host = Host(replace(SPEC, connects=ConnectLimit(1, 10)))
    used, waiting = (lobby_state(index, stream=StreamState(wants_connect=True)) for index in (1, 2))
    assert allowed_after(host, used, waiting) == {"prices-1": 1, "prices-2": 0}
    used = replace(used, stream=StreamState(connects=1))
    host.waited = 5.0
    assert allowed_after(host, used, waiting).get("prices-2", 0) == 0
    host.waited = 15.9
    assert allowed_after(host, used, waiting).get("prices-2", 0) == 0
    host.waited = 16.0
    assert allowed_after(host, used, waiting)["prices-2"] == 1


def test_a_lobby_of_an_older_revision_that_is_refused_limits_nobody() -> None:
    refused = lobby_state(1, origin=REFUSED, outdated=True, stream=StreamState())
    due, _ = Host(FREE).tell(refused, lobby_state(2, stream=StreamState(wants_connect=True)))
    assert due["prices-2"].connects is None
