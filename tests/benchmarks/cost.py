"""CPU time and memory in money."""

from __future__ import annotations

from dataclasses import dataclass

VCPU_HOUR = 0.04048
GIB_HOUR = 0.004445
PRICE_LIST = "AWS Fargate, Linux on x86, on demand, US East (N. Virginia), as of June 2026"
HOURS = 730
"""Per month."""
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Need:
    """The resources something uses.

    Attributes:
        vcpus: CPUs used continuously; may be a fraction.
        bytes: of memory.
    """

    vcpus: float
    bytes: float

    @property
    def dollars_a_month(self) -> float:
        """The price of what is used, not of the smallest size on offer."""
        return HOURS * (self.vcpus * VCPU_HOUR + self.bytes / GIB * GIB_HOUR)


def need(us_a_delivery: float, deliveries_a_second: float, memory: float) -> Need:
    """The resources of a server that needs that many CPU microseconds per delivery."""
    return Need(us_a_delivery * deliveries_a_second / 1e6, memory)
