"""The Lease has at most one holder, whatever clocks and network do, and soon another one when the holder ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_operator.kube.election import Election, ObservedLease
from lobby_operator.settings import LeaseSettings

WALL = "2026-11-25T14:00:00.000000Z"
LATER = "2026-11-25T14:00:02.000000Z"


class Server:
    """A Lease with compare-and-swap."""

    def __init__(self) -> None:
        self.spec: dict[str, Any] | None = None
        self.version = 0

    def read(self) -> ObservedLease | None:
        if self.spec is None:
            return None
        return ObservedLease.of({"metadata": {"resourceVersion": str(self.version)}, "spec": self.spec})

    def write(self, spec: dict[str, Any], version: str) -> ObservedLease | None:
        if version != (str(self.version) if self.spec is not None else ""):
            return None
        self.spec = spec
        self.version += 1
        return self.read()


def step(candidate: Election, server: Server, now: float, answered: float | None = None) -> None:
    """Reads the Lease, then writes it if the candidate wants to; `answered` is when the answer to the write came."""
    candidate.observe(server.read(), now)
    spec = candidate.spec_to_write(now, WALL)
    if spec is None:
        return
    written = server.write(spec, candidate.observed.version if candidate.observed is not None else "")
    if written is not None:
        candidate.written(written, now, now if answered is None else answered)


def test_the_first_candidate_acquires_the_lease_and_the_second_waits() -> None:
    server, one, two = Server(), Election("one"), Election("two")
    step(one, server, 100.0)
    step(two, server, 100.5)
    assert one.holds(100.5)
    assert not two.holds(100.5)
    assert not two.lost(100.5)
    assert server.spec is not None
    assert server.spec["holderIdentity"] == "one"
    assert server.spec["leaseTransitions"] == 0


def test_a_renewal_keeps_the_acquire_time() -> None:
    server, one = Server(), Election("one")
    step(one, server, 100.0)
    one.observe(server.read(), 102.0)
    spec = one.spec_to_write(102.0, LATER)
    assert spec is not None
    assert (spec["acquireTime"], spec["renewTime"], spec["leaseTransitions"]) == (WALL, LATER, 0)


def test_an_unchanged_lease_can_be_acquired_after_its_duration() -> None:
    server, one, two = Server(), Election("one"), Election("two")
    step(one, server, 100.0)
    step(two, server, 101.0)
    step(two, server, 115.9)
    assert not two.holds(115.9)
    step(two, server, 116.0)
    assert two.holds(116.0)
    assert server.spec is not None
    assert server.spec["leaseTransitions"] == 1
    assert not one.holds(116.0)


def test_an_observed_renewal_restarts_the_wait() -> None:
    server, one, two = Server(), Election("one"), Election("two")
    step(one, server, 100.0)
    step(two, server, 101.0)
    step(one, server, 110.0)
    step(two, server, 112.0)
    step(two, server, 126.9)
    assert not two.holds(126.9)


def test_the_holder_stops_by_its_own_clock_before_another_starts() -> None:
    server, one = Server(), Election("one")
    step(one, server, 100.0)
    assert one.holds(109.9)
    assert not one.lost(109.9)
    assert not one.holds(110.0)
    assert one.lost(110.0)


def test_a_late_answer_counts_from_the_start_of_the_call() -> None:
    server, one = Server(), Election("one")
    step(one, server, 100.0, answered=108.0)
    assert one.holds(109.0)
    assert not one.holds(110.0)


def test_a_holder_that_observes_another_has_lost_the_lease() -> None:
    server, one = Server(), Election("one")
    step(one, server, 100.0)
    server.write({"holderIdentity": "two", "leaseDurationSeconds": 15}, str(server.version))
    one.observe(server.read(), 101.0)
    assert not one.holds(101.0)
    assert one.lost(101.0)
    assert one.spec_to_write(101.0, WALL) is None


def test_a_released_lease_can_be_acquired_at_once() -> None:
    server, one, two = Server(), Election("one"), Election("two")
    step(one, server, 100.0)
    step(two, server, 100.0)
    given_up = one.spec_to_release(LATER)
    assert given_up is not None
    server.write(given_up, str(server.version))
    step(two, server, 102.0)
    assert two.holds(102.0)
    assert two.spec_to_release(LATER) is not None


def test_only_the_holder_can_release_the_lease() -> None:
    server, one, two = Server(), Election("one"), Election("two")
    assert one.spec_to_release(WALL) is None
    step(one, server, 100.0)
    step(two, server, 100.0)
    assert two.spec_to_release(WALL) is None


def test_a_restarted_candidate_resumes_at_once() -> None:
    server = Server()
    step(Election("one"), server, 100.0)
    again = Election("one")
    step(again, server, 101.0)
    assert again.holds(101.0)
    assert server.spec is not None
    assert server.spec["leaseTransitions"] == 0


@pytest.mark.parametrize("spec", [{}, {"holderIdentity": None, "leaseDurationSeconds": None, "acquireTime": None}])
def test_an_empty_lease_is_free(spec: dict[str, Any]) -> None:
    one = Election("one")
    one.observe(ObservedLease.of({"metadata": {"resourceVersion": "1"}, "spec": spec}), 100.0)
    assert one.spec_to_write(100.0, WALL) is not None


@given(st.data())
def test_two_candidates_never_hold_the_lease_at_once(data: st.DataObject) -> None:
    """Whatever the delays of candidates and of their writes, and however far apart their clocks are."""
    server = Server()
    offsets = {"one": 0.0, "two": data.draw(st.floats(-1e6, 1e6)), "three": 500.0}
    candidates = {name: Election(name, LeaseSettings()) for name in offsets}
    now = 1000.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.sampled_from([0.1, 2.0, 4.0, 9.0, 11.0, 16.0]))
        name = data.draw(st.sampled_from(sorted(candidates)))
        candidate = candidates[name]
        started = now
        candidate.observe(server.read(), started + offsets[name])
        spec = candidate.spec_to_write(started + offsets[name], WALL)
        if spec is not None:
            now += data.draw(
                st.sampled_from([0.0, 1.0, 4.0])
            )  # duration of the call; the server executes it at the end
            written = server.write(spec, candidate.observed.version if candidate.observed is not None else "")
            if written is not None:
                candidate.written(written, started + offsets[name], now + offsets[name])
        holders = [each for each, other in candidates.items() if other.holds(now + offsets[each])]
        assert len(holders) <= 1, holders
