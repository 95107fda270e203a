"""Numbered messages, so that tests can detect gaps, duplicates and reorderings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

from lobby_gateway.clients.admission import SeatCount
from lobby_gateway.websocket.frames import Batch, Opcode, frame


def numbered(numbers: Iterable[int]) -> Batch:
    """A batch with these numbers as texts."""
    return Batch.of([frame(Opcode.TEXT, b"%d" % number) for number in numbers])


def numbers(batch: Batch) -> list[int]:
    """The numbers in a batch."""
    return [int(bytes(batch.payload(index))) for index in range(len(batch))]


class SeatsOnly:
    """A minimal `TrunkLobby`: only seats."""

    def __init__(self, seats: int = 512, name: str = "prices-1") -> None:
        self.name = name
        self.seat_count = SeatCount(seats)
        self.origin_connected = True
        self.subprotocol: str | None = None
        self.via: tuple[str, ...] | None = ()

    @property
    def seats(self) -> int:
        return self.seat_count.total

    @property
    def free(self) -> int:
        return self.seat_count.free

    @property
    def draining(self) -> bool:
        return self.seat_count.draining

    def relay_refusal(self, consumer: str) -> str:
        return "" if self.via is not None else f"it has no stream for {consumer}"

    def claim(self, count: int) -> int:
        return self.seat_count.claim(count)

    def release(self, count: int) -> None:
        self.seat_count.release(count)


def batches_of(payloads: Sequence[bytes], sizes: Sequence[int]) -> Iterator[Batch]:
    """Text messages in batches of these sizes, in turn."""
    at = 0
    for size in cycle(sizes):
        if at >= len(payloads):
            return
        yield Batch.of([frame(Opcode.TEXT, each) for each in payloads[at : at + size]])
        at += size
