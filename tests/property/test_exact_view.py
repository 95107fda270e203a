"""The laws of the exact view: whatever kopf loses, delays or repeats, it ends equal to the server."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.exact_view import ExactView

NAMES = ("a", "b", "c")
BEHIND_SECONDS = 3.0


class Server:
    """An API server: objects with a uid and a version. Those that are hidden exist, but don't match the selector."""

    def __init__(self) -> None:
        self.version = 0
        self.uids = 0
        self.shown: dict[str, dict[str, Any]] = {}  # by name
        self.hidden: dict[str, dict[str, Any]] = {}
        self.lists: list[tuple[dict[str, str], int]] = []  # versions by uid, and the list's, at each version

    def item(self, name: str, uid: str) -> dict[str, Any]:
        self.version += 1
        return {"metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(self.version)}}

    def listed(self) -> tuple[dict[str, str], int]:
        versions = (each["metadata"] for each in self.shown.values())
        return {each["uid"]: each["resourceVersion"] for each in versions}, self.version


class ExactViewMachine(RuleBasedStateMachine):
    """Kopf delivers the events of one uid in order, and those of several uids in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.view = ExactView()
        self.objects: dict[str, dict[str, Any]] = {}  # as the changes say
        self.queues: defaultdict[str, deque[tuple[str | None, dict[str, Any]]]] = defaultdict(deque)
        self.repeated: list[tuple[str | None, dict[str, Any]]] = []  # in this life of kopf, that may be told again
        self.deaf = False
        self.now = 0.0
        self.snapshots = [self.server.listed()]
        self.audit: tuple[frozenset[str], dict[str, str]] | None = None

    # The server

    def _happens(self, kind: str, item: dict[str, Any]) -> None:
        self.snapshots.append(self.server.listed())
        if not self.deaf:
            self.queues[item["metadata"]["uid"]].append((kind, item))

    @rule(name=st.sampled_from(NAMES))
    def create_or_change(self, name: str) -> None:
        server = self.server
        if name in server.hidden:
            return
        old = server.shown.get(name)
        if old is None:
            server.uids += 1
        uid = f"uid-{server.uids}" if old is None else old["metadata"]["uid"]
        server.shown[name] = server.item(name, uid)
        self._happens("ADDED" if old is None else "MODIFIED", server.shown[name])

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.server.hidden.pop(name, None)
        old = self.server.shown.pop(name, None)
        if old is not None:
            self._happens("DELETED", self.server.item(name, old["metadata"]["uid"]))

    @rule(name=st.sampled_from(NAMES))
    def relabel(self, name: str) -> None:
        """The labels of an object stop matching, or match again: the same uid is deleted and comes back."""
        server = self.server
        if (old := server.shown.pop(name, None)) is not None:
            server.hidden[name] = server.item(name, old["metadata"]["uid"])
            self._happens("DELETED", server.hidden[name])
        elif (old := server.hidden.pop(name, None)) is not None:
            server.shown[name] = server.item(name, old["metadata"]["uid"])
            self._happens("ADDED", server.shown[name])

    # Kopf

    @precondition(lambda self: any(self.queues.values()))
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(uid for uid, queue in self.queues.items() if queue)))
        self._tell(*self.queues[uid].popleft())

    @precondition(lambda self: self.repeated)
    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        self._tell(*data.draw(st.sampled_from(self.repeated)))

    @rule()
    def lose_events(self) -> None:
        """The watch breaks, and what happens is not told until kopf lists again."""
        self.deaf = True

    @rule(restart=st.booleans())
    def relist(self, restart: bool) -> None:
        """After a 410, or in a new life of kopf, which tells nothing of what the last one had not told yet."""
        if restart:
            self.queues.clear()
        self.deaf = False
        for item in self.server.shown.values():
            self.queues[item["metadata"]["uid"]].append((None, item))

    def _tell(self, kind: str | None, item: dict[str, Any]) -> None:
        self.repeated = [*self.repeated[-5:], (kind, item)]
        self._apply(self.view.told(kind, item))

    # Audits

    @precondition(lambda self: self.audit is None)
    @rule(stale=st.integers(0, 3))
    def begin_audit(self, stale: int) -> None:
        """The answer may be a little old, and what is told meanwhile is not in it."""
        listed, _ = self.snapshots[max(0, len(self.snapshots) - 1 - stale)]
        self.audit = (self.view.uids, listed)

    @precondition(lambda self: self.audit is not None)
    @rule()
    def end_audit(self) -> None:
        assert self.audit is not None
        before, listed = self.audit
        self.audit = None
        suspects = self.view.compare(before, listed, self.now)
        if suspects:
            confirmed, version = self.server.listed()
            self._apply(self.view.drop(suspects - confirmed.keys(), str(version)))

    @rule(seconds=st.floats(0, 2))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def catch_up(self) -> None:
        """A list that is not from a cache says what is lacking, and that is read: then the view is the server."""
        listed, version = self.server.listed()
        before = self.view.uids
        if self.view.lacks(listed):
            for item in self.server.shown.values():
                self._apply(self.view.told(None, item))
        self._apply(self.view.drop(before - listed.keys(), str(version)))
        assert self.objects == {f"shop/{name}": item for name, item in self.server.shown.items()}

    # Laws

    def _apply(self, changes: list[Change]) -> None:
        for change in changes:
            if change.object is None:
                assert change.key in self.objects, "something is deleted that was not there"
                del self.objects[change.key]
            else:
                self.objects[change.key] = dict(change.object)

    @invariant()
    def the_changes_are_the_view(self) -> None:
        assert {each["metadata"]["uid"] for each in self.objects.values()} == self.view.uids
        assert len(self.view) == len(self.objects)

    @invariant()
    def what_is_untold_has_a_time(self) -> None:
        since = self.view.behind_since
        assert (since is None) == (self.view.untold == 0)
        assert since is None or since <= self.now

    def _settle(self) -> None:
        """Nothing changes any more: kopf tells what is queued, and audits find the rest."""
        if self.audit is not None:
            self.end_audit()
        for _ in range(3):
            for uid in list(self.queues):
                while self.queues[uid]:
                    self._tell(*self.queues[uid].popleft())
            self.begin_audit(0)
            self.end_audit()
            if self.view.behind_since is not None:
                self.now += BEHIND_SECONDS
                self.relist(restart=True)

    def teardown(self) -> None:
        self._settle()
        there = {f"shop/{name}": item for name, item in self.server.shown.items()}
        assert self.objects == there
        assert self.view.complete
        assert self.view.behind_since is None


TestExactView = ExactViewMachine.TestCase
