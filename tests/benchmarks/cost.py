"""Processor time and memory as money."""

from __future__ import annotations

from dataclasses import dataclass

VCPU_HOUR = 0.04048
GIB_HOUR = 0.004445
PRICE_LIST = "AWS Fargate, Linux on x86, on demand, US East (N. Virginia), as of June 2026"
HOURS = 730
"""Of a month."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Need:
    """What something takes.

    Attributes:
        vcpus: processors, all the time; a part of one, too.
        bytes: of memory.
    """

    vcpus: float
    bytes: float

    @property
    def dollars_a_month(self) -> float:
        """Its price: of what it takes, not of what must be ordered at least."""
        return HOURS * (self.vcpus * VCPU_HOUR + self.bytes / GIB * GIB_HOUR)


def need(us_a_delivery: float, deliveries_a_second: float, memory: float) -> Need:
    """What a server takes that needs so many processor microseconds for a delivery."""
    return Need(us_a_delivery * deliveries_a_second / 1e6, memory)
