"""Permits to connect to the origin (`origin.limits.connects`): who gets one, and when. Pure.

Its law: in any time of `seconds`, all lobbies together make at most `count` attempts to connect, whatever is lost or late on
the way to them. A permit is for one attempt. It counts from the moment at which a list with it is first sent, since it may be
used at any time from then on; and for `seconds` from the moment at which its use is known, which is never before the use. A
lobby has at most one unused permit, so that one whose permits nobody knows, because an earlier lobby host gave them, has no
more than one either. A later list takes a permit back, which is free once the lobby's report says that it has that list and
has not used the permit.

Attempts before this lobby host began are told by the lobbies that made them. For those of lobbies that are gone, the status of
the Lobby says which lobbies there were, and until when attempts of others count: while some may, no permit is given. So no
lobby gets one before the stored status names it.

While the origin refuses a lobby, and for half a minute after that unless it accepts one, there is a limit in any case: an
origin that bans whoever tries too often counts the attempts of all. A lobby that starts at that moment knows nothing of it,
and tries once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lobby_operator.planner.spec import ConnectLimit
from lobby_operator.planner.state import LobbyState


@dataclass(slots=True, eq=False)
class _Account:
    """What one lobby may still do. Numbers of attempts count from the start of its process.

    Attributes:
        created_at: of the lobby: another one of the same name is another process.
        unknown: an earlier lobby host may have given it a permit, which no list of ours has taken back yet.
        reported: it has told its attempts.
        used: attempts that it has told.
        granted: the most attempts that a list on its way to it, or the one it has, allows.
        listed: attempts that the latest list allows.
        offered: attempts that the next list is to allow.
        turn: number of its latest permit, counted over all lobbies: who has waited longest is next.
        gone: its process has ended.
        heard: its state when it was last heard.
    """

    created_at: float
    unknown: bool
    reported: bool = False
    used: int = 0
    granted: int = 0
    listed: int = 0
    offered: int = 0
    turn: int = 0
    gone: bool = False
    heard: LobbyState | None = None

    @property
    def unused(self) -> int:
        """Attempts that it may have made since its report, or may still make."""
        return max(self.granted - self.used, 1 if self.unknown else 0)

    @property
    def served(self) -> bool:
        """It has a permit, or the next list gives it one."""
        return self.offered > self.used or self.unused > 0


@dataclass(frozen=True, slots=True)
class EarlierConnects:
    """What the Lobby's status says about attempts before this lobby host began.

    Attributes:
        lobbies: names of the lobbies that there were; None: not known.
        until: until when attempts of others count.
    """

    lobbies: frozenset[str] | None = frozenset()
    until: float = 0.0


class ConnectPermits:
    """The permits of one Lobby's lobbies.

    Attributes:
        blocked_until: until when attempts of lobbies that are gone may count that nobody told; no permit is given before.
    """

    def __init__(self, earlier: EarlierConnects) -> None:
        self.blocked_until = earlier.until
        self._earlier = earlier.lobbies
        self._accounts: dict[str, _Account] = {}
        self._uses: deque[tuple[float, _Account]] = deque()  # those that still count, and when they became known
        self._seconds = 0.0
        self._turn = 0
        self._first = True

    @property
    def untold_until(self) -> float:
        """Until when attempts of lobbies that are gone count: what a later lobby host has to know."""
        return max([self.blocked_until, *(at + self._seconds for at, account in self._uses if account.gone)])

    def update(
        self,
        limits: Sequence[ConnectLimit],
        lobbies: Sequence[LobbyState],
        candidates: Sequence[LobbyState],
        current: Collection[str],
        now: float,
    ) -> Mapping[str, int | None]:
        """How many attempts each lobby is to be allowed in all, by name; None: any number.

        Args:
            limits: the limits, all of which hold; empty: there is none.
            lobbies: all lobbies whose process may run.
            candidates: those that may have a permit, the most preferred first; all of them are told what this returns.
            current: names of the lobbies whose reports say that they have the latest list.
            now: the time.
        """
        self._seconds = max((limit.seconds for limit in limits), default=0.0)
        self._observe(lobbies, current, now)
        while self._uses and self._uses[0][0] + self._seconds <= now:
            self._uses.popleft()
        if not limits:
            return dict.fromkeys(lobby.name for lobby in lobbies)
        self._offer(limits, candidates, now)
        return {lobby.name: self._accounts[lobby.name].offered for lobby in lobbies}

    def listed(self, name: str) -> None:
        """A new list, which is sent from now on, tells this lobby what `update` returned."""
        account = self._accounts[name]
        account.listed = account.offered
        account.granted = max(account.granted, account.listed)

    def _observe(self, lobbies: Sequence[LobbyState], current: Collection[str], now: float) -> None:
        if self._first:
            # A young one may have the name of one that has ended. Its age is known to the second.
            same = {lobby.name for lobby in lobbies if lobby.created_at <= now - self._seconds - 1.0}
            if self._earlier is None or not same.issuperset(self._earlier):
                self._block(now)
        known, self._accounts = self._accounts, {}
        for lobby in lobbies:
            account = known.get(lobby.name)
            if account is not None and account.created_at == lobby.created_at:
                del known[lobby.name]
            else:
                account = _Account(lobby.created_at, unknown=self._first)
            self._accounts[lobby.name] = account
            if account.heard is not lobby or lobby.name in current:
                account.heard = lobby
                self._hear(account, lobby, now, current=lobby.name in current)
        for account in known.values():  # their processes have ended
            account.gone = True
            self._uses += [(now, account)] * account.unused
            if account.unknown and not account.reported:
                self._block(now)
        self._first = False

    def _block(self, now: float) -> None:
        """Attempts that nobody tells may have been made until now."""
        self.blocked_until = max(self.blocked_until, now + self._seconds)

    def _hear(self, account: _Account, lobby: LobbyState, now: float, *, current: bool) -> None:
        stream = lobby.stream
        if stream is None:
            if self._first:
                self._block(now)
            return
        before_us = account.unknown and not account.reported
        new = stream.recent_connects if before_us else max(0, stream.connects - account.used)
        self._uses += [(now, account)] * new
        account.used = max(account.used, stream.connects)
        account.reported = True
        if current:
            account.unknown = False
            account.granted = account.listed

    def _offer(self, limits: Sequence[ConnectLimit], candidates: Sequence[LobbyState], now: float) -> None:
        """Gives permits: first to lobbies that need one now; then others get one in advance, while most are free."""
        wanting = [lobby for lobby in candidates if lobby.stream is not None and lobby.stream.wants_connect]
        unserved = [account for lobby in wanting if not (account := self._accounts[lobby.name]).served]
        free = min(self._free(limit, now) for limit in limits)
        reserved = min(limit.count for limit in limits) // 2
        unserved.sort(key=lambda account: account.turn)  # one that never gets through must not have all of them
        for account in unserved[:free]:
            self._turn += 1
            account.turn = self._turn
            account.offered = account.used + 1
        scarce = len(unserved) > free
        kept = {lobby.name for lobby in (wanting if scarce else candidates)}
        for name, account in self._accounts.items():
            if name not in kept or account.offered < account.used:
                account.offered = account.used
        if scarce:
            return
        free -= len(unserved)
        for lobby in candidates:
            account = self._accounts[lobby.name]
            if free > reserved and not account.served:
                account.offered = account.used + 1
                free -= 1

    def _free(self, limit: ConnectLimit, now: float) -> int:
        if now < self.blocked_until:
            return 0
        used = sum(now < at + limit.seconds for at, _ in self._uses)
        unused = sum(account.unused for account in self._accounts.values())
        return max(0, limit.count - used - unused)
