"""What a greeter counts, over all its Lobbies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lobby_gateway import close_codes
from lobby_gateway.greeter.newcomer import Form
from lobby_gateway.metrics import FATES, VERDICTS


@dataclass(slots=True)
class ServiceStats:
    """Plain counters of one or more services, read when metrics are scraped.

    Attributes:
        closes: clients gone, by label.
        fates: clients' messages, by what became of them.
        client_bytes: bytes of their payloads.
        moves: clients moved, by verdict.
        redirects: clients redirected, by form.
        trunk_losses: trunks that ended or fell silent while they had clients.
        trunk_missed: messages that this greeter was too slow to take.
        gone: what message buses counted whose Lobby is gone.
        gone_high_water: most messages that ever waited for one of their clients.
    """

    closes: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(close_codes.CLOSE_LABELS, 0)))
    fates: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FATES, 0)))
    client_bytes: int = 0
    moves: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(VERDICTS, 0)))
    redirects: Counter[str] = field(default_factory=lambda: Counter({Form.LOCATION: 0, Form.JSON: 0}))
    trunk_losses: int = 0
    trunk_missed: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    gone_high_water: int = 0
