from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lobby_gateway import close_codes
from lobby_gateway.clients.admission import Admission, Permit, ProcessCapacity, SeatCount, address_key
from lobby_gateway.close_codes import Refusal
from lobby_gateway.resource.spec import LimitsSpec
from lobby_gateway.settings import AdmissionSettings

SETTINGS = AdmissionSettings()
ADDRESS = "192.0.2.1"


# Seats


def test_grants_every_seat_and_no_more() -> None:
    seats = SeatCount(512)
    assert seats.claim(500) == 500
    assert seats.claim(20) == 12
    assert seats.claim() == 0
    assert seats.refusal is close_codes.LOBBY_FULL


def test_grants_a_released_seat_again() -> None:
    seats = SeatCount(1)
    assert seats.claim() == 1
    seats.release()
    assert seats.claim() == 1


def test_grants_nothing_while_draining() -> None:
    seats = SeatCount(4)
    seats.draining = True
    assert seats.free == 0
    assert seats.claim() == 0
    assert seats.refusal is close_codes.LOBBY_DRAINING


def test_fewer_seats_than_taken_closes_no_client_and_grants_none() -> None:
    seats = SeatCount(10)
    seats.claim(8)
    seats.total = 5
    assert seats.taken == 8
    assert seats.claim() == 0
    seats.release(4)
    assert seats.claim(3) == 1


def test_releasing_more_seats_than_taken_is_an_error() -> None:
    seats = SeatCount(4)
    seats.claim(2)
    with pytest.raises(ValueError, match="3 is out of range; accepted: 0 to 2"):
        seats.release(3)


def test_rejects_nonsensical_numbers_of_seats() -> None:
    with pytest.raises(ValueError, match="seats: 0"):
        SeatCount(0)
    with pytest.raises(ValueError, match="count: -1"):
        SeatCount(1).claim(-1)


class SeatCountLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.seats = SeatCount(8)
        self.mine = 0

    @rule(count=st.integers(0, 20))
    def claim(self, count: int) -> None:
        free = self.seats.free
        granted = self.seats.claim(count)
        assert granted == min(count, free)
        self.mine += granted

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.mine))
        self.seats.release(count)
        self.mine -= count

    @rule(total=st.integers(1, 16))
    def resize(self, total: int) -> None:
        self.seats.total = total

    @rule(draining=st.booleans())
    def drain(self, *, draining: bool) -> None:
        self.seats.draining = draining

    @invariant()
    def taken_is_what_was_granted_and_not_released(self) -> None:
        assert self.seats.taken == self.mine

    @invariant()
    def free_is_never_negative(self) -> None:
        assert self.seats.free >= 0


TestSeatCountLaws = SeatCountLaws.TestCase


# The process


def limits(connections: int = 0, connects: int = 0) -> LimitsSpec:
    return LimitsSpec(connections_per_address=connections, connects_per_second=connects)


def process_with(
    clients: int, *, max_clients: int = 0, max_memory: int = 0
) -> tuple[ProcessCapacity, Admission, list[Permit]]:
    capacity = ProcessCapacity(max_clients, max_memory)
    admission = Admission(limits(), capacity)
    return capacity, admission, [admitted(admission) for _ in range(clients)]


def admitted(admission: Admission, address: str = ADDRESS, now: float = 0.0) -> Permit:
    permit = admission.admit(address, now)
    assert isinstance(permit, Permit)
    assert permit.address == address
    return permit


def test_admits_everyone_without_limits() -> None:
    capacity, admission, _ = process_with(100_000)
    capacity.observe_memory(1 << 50)
    assert capacity.refusal() is None
    admitted(admission)


def test_admits_up_to_max_clients() -> None:
    capacity, admission, permits = process_with(2, max_clients=2)
    assert capacity.refusal() is close_codes.GREETER_FULL
    assert admission.admit(ADDRESS, 0.0) is close_codes.GREETER_FULL
    permits.pop().release()
    assert capacity.refusal() is None


def test_the_process_is_checked_before_the_address() -> None:
    capacity = ProcessCapacity(max_clients=1)
    admission = Admission(limits(connections=1), capacity)
    admitted(admission)
    assert admission.admit(ADDRESS, 0.0) is close_codes.GREETER_FULL


def test_a_process_admits_the_clients_of_all_its_lobbies_up_to_one_limit() -> None:
    capacity = ProcessCapacity(max_clients=2)
    prices, heads = Admission(limits(), capacity), Admission(limits(), capacity)
    permits = [admitted(prices), admitted(heads)]
    assert prices.admit(ADDRESS, 0.0) is heads.admit(ADDRESS, 0.0) is close_codes.GREETER_FULL
    permits[1].release()
    admitted(prices)


def test_full_memory_admits_no_one() -> None:
    capacity, admission, _ = process_with(10, max_memory=1000)
    capacity.observe_memory(999)
    assert capacity.refusal() is None
    capacity.observe_memory(1000)
    assert capacity.refusal() is close_codes.NO_MEMORY
    assert admission.admit(ADDRESS, 0.0) is close_codes.NO_MEMORY
    capacity.observe_memory(999)
    assert capacity.refusal() is None


def test_memory_of_clients_that_left_is_reused() -> None:
    capacity, admission, permits = process_with(10, max_memory=1000)
    capacity.observe_memory(1200)
    permits.pop().release()
    assert capacity.refusal() is close_codes.NO_MEMORY  # 9 of 10: not below nine tenths
    permits.pop().release()
    assert capacity.refusal() is None
    capacity.observe_memory(1200)  # not returned to the kernel yet
    admitted(admission)
    assert capacity.refusal() is close_codes.NO_MEMORY


def test_a_process_over_its_memory_limit_without_clients_admits_no_one() -> None:
    capacity = ProcessCapacity(max_memory=1000)
    capacity.observe_memory(1200)
    assert capacity.refusal() is close_codes.NO_MEMORY


def test_a_permit_is_released_once() -> None:
    capacity, admission, _ = process_with(0)
    first, second = admitted(admission), admitted(admission)
    first.release()
    with pytest.raises(ValueError, match=r"the permit of 192\.0\.2\.1 was released before"):
        first.release()
    assert capacity.clients == 1
    second.release()
    assert capacity.clients == 0


@given(st.integers(0, 5), st.integers(0, 5), st.lists(st.integers(0, 9), max_size=60))
def test_a_process_never_exceeds_its_limits(max_clients: int, max_memory: int, steps: list[int]) -> None:
    """Laws: at most `max_clients` are admitted; while memory is full, none beyond those admitted when it became full; without
    limits there are no refusals."""
    capacity, admission, permits = process_with(0, max_clients=max_clients, max_memory=max_memory)
    clients_when_full: int | None = None
    for step in steps:
        if step == 0 and permits:
            permits.pop().release()
        elif step >= 6:
            size = step - 6
            capacity.observe_memory(size)
            full = bool(max_memory) and size >= max_memory
            clients_when_full = None if not full else len(permits) if clients_when_full is None else clients_when_full
        else:
            permit = admission.admit(ADDRESS, 0.0)
            if isinstance(permit, Permit):
                permits.append(permit)
                assert not max_clients or len(permits) <= max_clients
                assert clients_when_full is None or len(permits) <= max(
                    clients_when_full * SETTINGS.refill_ratio + 1, 0
                )
            else:
                assert permit is close_codes.GREETER_FULL or clients_when_full is not None
                assert max_clients or max_memory
        assert capacity.clients == len(permits)


# Addresses


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:2::", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:3::", "2001:0db8:0001:0003::/64"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("::1", "0000:0000:0000:0000::/64"),
    ],
)
def test_an_ipv6_address_counts_by_its_network(address: str, key: str) -> None:
    assert address_key(address) == key


def with_limits(connections: int = 0, connects: int = 0) -> Admission:
    return Admission(limits(connections, connects), ProcessCapacity())


def retry_after(admission: Admission, address: str, now: float = 0.0) -> int | None:
    """Retry-After of the refusal; 0: the client was admitted."""
    refusal = admission.admit(address, now)
    if isinstance(refusal, Permit):
        return 0
    assert (refusal.status, refusal.label) == (429, close_codes.TOO_MANY.label)
    return refusal.retry_after


def test_an_address_has_a_limited_number_of_connections() -> None:
    admission = with_limits(connections=2)
    permit = admitted(admission)
    assert [retry_after(admission, ADDRESS) for _ in range(2)] == [0, 5]
    assert retry_after(admission, "192.0.2.2") == 0
    permit.release()
    assert [retry_after(admission, "::ffff:192.0.2.1") for _ in range(2)] == [0, 5]


def test_an_address_connects_at_a_limited_rate() -> None:
    admission = with_limits(connects=1)
    for _ in range(5):
        admitted(admission).release()
    assert retry_after(admission, ADDRESS, 0.25) == 1
    assert not admission._connections
    assert retry_after(admission, ADDRESS, 1.0) == 0


@pytest.mark.parametrize(("wait", "seconds"), [(0.001, 1), (1.0, 1), (1.2, 2), (5.0, 5)])
def test_retry_after_is_whole_seconds_and_never_too_soon(wait: float, seconds: int) -> None:
    admission = Admission(limits(connections=1), ProcessCapacity(), settings=AdmissionSettings(full_retry_seconds=wait))
    admitted(admission)
    assert retry_after(admission, ADDRESS) == seconds


def test_a_limit_set_later_counts_the_clients_that_are_connected() -> None:
    admission = with_limits()
    assert [retry_after(admission, ADDRESS) for _ in range(3)] == [0] * 3
    admission.update(limits(connections=3))
    assert retry_after(admission, ADDRESS) == 5
    admission.update(limits())
    assert retry_after(admission, ADDRESS) == 0


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])


@given(
    st.integers(0, 3), st.integers(0, 3), st.lists(st.tuples(st.booleans(), ADDRESSES, st.floats(0, 2)), max_size=60)
)
def test_an_address_is_counted_from_admission_to_release(
    connections: int, connects: int, steps: list[tuple[bool, str, float]]
) -> None:
    """Laws: never more connections of an address than its limit; nothing is kept of an address without connections."""
    capacity = ProcessCapacity()
    admission = Admission(limits(connections, connects), capacity)
    permits: dict[str, list[Permit]] = {}
    now = 0.0
    for enters, address, gap in steps:
        now += gap
        there = permits.setdefault(address_key(address), [])
        if enters:
            permit = admission.admit(address, now)
            if not isinstance(permit, Refusal):
                there.append(permit)
            elif not connects:
                assert len(there) == connections
        elif there:
            there.pop().release()
        assert admission._connections == Counter({key: len(each) for key, each in permits.items() if each})
        assert capacity.clients == sum(map(len, permits.values()))
        if connections:
            assert len(there) <= connections
    for each in permits.values():
        for permit in each:
            permit.release()
    assert not admission._connections
