from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import Admission


def test_grants_up_to_the_last_seat_and_no_more() -> None:
    admission = Admission(512)
    assert admission.claim(500) == 500
    assert admission.claim(20) == 12
    assert admission.claim() == 0
    assert admission.refusal is close_codes.LOBBY_FULL


def test_a_released_seat_is_granted_again() -> None:
    admission = Admission(1)
    assert admission.claim() == 1
    admission.release()
    assert admission.claim() == 1


def test_grants_nothing_while_draining() -> None:
    admission = Admission(4)
    admission.draining = True
    assert admission.free == 0
    assert admission.claim() == 0
    assert admission.refusal is close_codes.LOBBY_DRAINING


def test_fewer_seats_than_taken_closes_nobody_and_grants_none() -> None:
    admission = Admission(10)
    admission.claim(8)
    admission.seats = 5
    assert admission.taken == 8
    assert admission.claim() == 0
    admission.release(4)
    assert admission.claim(3) == 1


def test_refuses_to_take_back_more_than_were_taken() -> None:
    admission = Admission(4)
    admission.claim(2)
    with pytest.raises(ValueError, match="3 seats can't be given back"):
        admission.release(3)


def test_refuses_nonsense_numbers() -> None:
    with pytest.raises(ValueError, match="seats: 0"):
        Admission(0)
    with pytest.raises(ValueError, match="count: -1"):
        Admission(1).claim(-1)


class AdmissionLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(8)
        self.mine = 0

    @rule(count=st.integers(0, 20))
    def claim(self, count: int) -> None:
        free = self.admission.free
        granted = self.admission.claim(count)
        assert granted == min(count, free)
        self.mine += granted

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.mine))
        self.admission.release(count)
        self.mine -= count

    @rule(seats=st.integers(1, 16))
    def resize(self, seats: int) -> None:
        self.admission.seats = seats

    @rule(draining=st.booleans())
    def drain(self, *, draining: bool) -> None:
        self.admission.draining = draining

    @invariant()
    def taken_is_what_was_granted_and_not_given_back(self) -> None:
        assert self.admission.taken == self.mine

    @invariant()
    def free_never_goes_below_zero(self) -> None:
        assert self.admission.free >= 0


TestAdmissionLaws = AdmissionLaws.TestCase
