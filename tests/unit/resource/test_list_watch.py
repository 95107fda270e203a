"""What is there of one kind, by lists and watches: nothing is missed, and nothing that is gone stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lobby_gateway.resource.list_watch import Change, ListWatch, WatchEndedError, newer, object_key


def item(name: str, version: int, uid: str = "", namespace: str = "feeds") -> dict[str, Any]:
    metadata = {"name": name, "uid": uid or f"uid-of-{name}", "resourceVersion": str(version)}
    return {"metadata": {**metadata, "namespace": namespace} if namespace else metadata}


def event(kind: str, name: str, version: int, uid: str = "") -> dict[str, Any]:
    return {"type": kind, "object": item(name, version, uid)}


def keys(changes: list[Change]) -> list[tuple[str, bool]]:
    return [(change.key, change.object is not None) for change in changes]


def test_objects_are_listed_first_and_watched_from_there() -> None:
    objects = ListWatch()
    assert objects.version == ""
    assert keys(objects.listed([item("a", 1), item("b", 2)], "7")) == [("feeds/a", True), ("feeds/b", True)]
    assert objects.version == "7"
    assert len(objects) == 2


def test_each_change_is_returned_once_and_advances_the_version() -> None:
    objects = ListWatch()
    objects.listed([item("a", 1)], "7")
    assert keys(objects.event(event("ADDED", "b", 8))) == [("feeds/b", True)]
    assert keys(objects.event(event("ADDED", "b", 8))) == []
    assert keys(objects.event(event("MODIFIED", "a", 9))) == [("feeds/a", True)]
    assert keys(objects.event(event("DELETED", "a", 10))) == [("feeds/a", False)]
    assert keys(objects.event(event("DELETED", "a", 10))) == []
    assert objects.version == "10"


def test_a_bookmark_only_advances_the_version() -> None:
    objects = ListWatch()
    objects.listed([], "7")
    assert objects.event({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "90"}}}) == []
    assert objects.version == "90"


def test_objects_deleted_without_a_watch_are_found_by_the_next_list() -> None:
    objects = ListWatch()
    objects.listed([item("a", 1), item("b", 2), item("c", 3)], "7")
    changes = objects.listed([item("b", 2), item("c", 8), item("d", 9)], "20")
    assert keys(changes) == [("feeds/a", False), ("feeds/c", True), ("feeds/d", True)]


def test_an_object_recreated_under_the_same_name_is_another_one() -> None:
    objects = ListWatch()
    objects.listed([item("a", 1)], "7")
    assert keys(objects.listed([item("a", 8, uid="new")], "9")) == [("feeds/a", False), ("feeds/a", True)]
    assert keys(objects.event(event("ADDED", "a", 12, uid="newer"))) == [("feeds/a", False), ("feeds/a", True)]


def test_an_expired_version_requires_a_list() -> None:
    objects = ListWatch()
    objects.listed([item("a", 1)], "7")
    with pytest.raises(WatchEndedError, match="too old resource version"):
        objects.event({"type": "ERROR", "object": {"code": 410, "message": "too old resource version: 7"}})
    assert objects.version == ""
    assert keys(objects.listed([item("a", 1)], "30")) == []


def test_another_error_ends_the_watch_which_resumes_where_it_was() -> None:
    objects = ListWatch()
    objects.listed([], "7")
    with pytest.raises(WatchEndedError, match="etcd"):
        objects.event({"type": "ERROR", "object": {"code": 500, "reason": "etcd is away"}})
    with pytest.raises(WatchEndedError, match="without a message"):
        objects.event({"type": "ERROR", "object": {}})
    assert objects.version == "7"


@pytest.mark.parametrize(
    "broken", [{}, {"type": "ADDED"}, {"type": "ADDED", "object": {}}, {"type": "ADDED", "object": 1}]
)
def test_an_invalid_event_is_refused(broken: dict[str, Any]) -> None:
    objects = ListWatch()
    with pytest.raises((KeyError, TypeError, AttributeError)):
        objects.event(broken)


def test_keys_include_the_namespace() -> None:
    assert object_key(item("a", 1)) == "feeds/a"
    assert object_key(item("a", 1, namespace="")) == "a"


@given(st.data())
def test_applying_the_changes_reproduces_the_servers_objects(data: st.DataObject) -> None:
    """However lists, events and lost watches come: after the next list or event nothing is missing and nothing is left."""
    server: dict[str, dict[str, Any]] = {}
    log: list[dict[str, Any]] = []
    followed: dict[str, Any] = {}
    objects = ListWatch()
    seen = 0

    def follow(changes: list[Change]) -> None:
        for change in changes:
            if change.object is None:
                del followed[change.key]
            else:
                followed[change.key] = change.object

    for version in range(1, data.draw(st.integers(1, 30)) + 1):
        name = data.draw(st.sampled_from("abc"))
        if name in server and data.draw(st.booleans()):
            del server[name]
            log.append(event("DELETED", name, version))
        else:
            uid = server[name]["metadata"]["uid"] if name in server else f"uid-{version}"
            kind = "MODIFIED" if name in server else "ADDED"
            server[name] = item(name, version, uid)
            log.append(event(kind, name, version, uid))
        match data.draw(st.sampled_from(["wait", "watch", "lose"])):
            case "lose":
                objects.expired()
            case "watch" if objects.version:
                for each in log[seen:]:
                    follow(objects.event(each))
                seen = len(log)
            case "watch":
                follow(objects.listed(list(server.values()), str(version)))
                seen = len(log)
    objects.expired()
    follow(objects.listed(list(server.values()), "99"))
    assert followed == {f"feeds/{name}": each for name, each in server.items()}


def test_versions_are_compared_as_integers_if_they_are() -> None:
    assert newer("10", "9")
    assert not newer("9", "10")
    assert not newer("9", "9")
    assert newer("x", "9")
    assert not newer("x", "x")
