"""Single cases of the exact view; its laws are in tests/property/test_exact_view.py."""

from __future__ import annotations

from typing import Any

import pytest

from lobby_gateway.resource.list_watch import Change
from lobby_operator.kube.exact_view import ExactView


def item(name: str, uid: str, version: int | str) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(version)}}


def keys(changes: list[Change]) -> list[tuple[str, bool]]:
    return [(change.key, change.object is not None) for change in changes]


def standing(view: ExactView) -> tuple[bool, int, float | None]:
    return view.complete, view.untold, view.behind_since


def view_of(*told: tuple[str, str, int]) -> ExactView:
    view = ExactView()
    for name, uid, version in told:
        view.told(None, item(name, uid, version))
    return view


def test_what_is_told_once_more_is_no_change() -> None:
    view = view_of(("a", "1", 5))
    assert keys(view.told(None, item("a", "1", 5))) == []
    assert keys(view.told("MODIFIED", item("a", "1", 4))) == []
    assert keys(view.told("MODIFIED", item("a", "1", 6))) == [("shop/a", True)]
    assert view.uids == {"1"}


def test_a_deleted_object_does_not_come_back_by_a_late_event() -> None:
    view = view_of(("a", "1", 5))
    assert keys(view.told("DELETED", item("a", "1", 7))) == [("shop/a", False)]
    assert keys(view.told("MODIFIED", item("a", "1", 6))) == []
    assert keys(view.told("DELETED", item("a", "1", 7))) == []
    assert len(view) == 0


def test_an_object_whose_labels_match_again_comes_back() -> None:
    view = view_of(("a", "1", 5))
    view.told("DELETED", item("a", "1", 7))
    assert keys(view.told("ADDED", item("a", "1", 8))) == [("shop/a", True)]
    assert keys(view.told("DELETED", item("a", "1", 7))) == []  # repeated
    assert view.uids == {"1"}


def test_the_new_owner_of_a_name_may_be_told_before_the_end_of_the_former() -> None:
    view = view_of(("a", "1", 5))
    assert keys(view.told("ADDED", item("a", "2", 9))) == [("shop/a", False), ("shop/a", True)]
    assert keys(view.told("MODIFIED", item("a", "1", 6))) == []
    assert keys(view.told("DELETED", item("a", "1", 8))) == []
    assert view.uids == {"2"}


def test_the_former_owner_of_a_name_is_no_change_even_if_it_was_never_known() -> None:
    view = view_of(("a", "2", 9))
    assert keys(view.told("MODIFIED", item("a", "1", 6))) == []
    view.told("DELETED", item("a", "2", 10))
    assert keys(view.told("MODIFIED", item("a", "1", 7))) == []


def test_a_ghost_is_dropped_once_a_consistent_list_lacks_it_too() -> None:
    view = view_of(("a", "1", 5), ("b", "2", 6))
    before = view.uids
    view.told("ADDED", item("c", "3", 7))  # while the list is under way
    assert view.compare(before, {"2": "6"}, 1.0) == {"1"}
    assert standing(view) == (False, 0, None)
    assert keys(view.drop({"1"}, "9")) == [("shop/a", False)]
    assert standing(view) == (True, 0, None)
    assert keys(view.told("MODIFIED", item("a", "1", 6))) == []
    assert view.uids == {"2", "3"}


def test_an_object_that_was_told_at_a_newer_version_than_the_list_is_not_dropped() -> None:
    view = view_of(("a", "1", 5))
    suspects = view.compare(view.uids, {}, 1.0)
    view.told("MODIFIED", item("a", "1", 12))
    assert view.drop(suspects, "9") == []
    assert view.uids == {"1"}


def test_all_is_known_once_everything_of_a_list_was_told() -> None:
    view = ExactView()
    assert not view.compare(view.uids, {"1": "5", "2": "6"}, 1.0)
    assert standing(view) == (False, 2, 1.0)
    view.told(None, item("a", "1", 5))
    view.told(None, item("b", "2", 4))  # an older version does not count
    assert standing(view) == (False, 1, 1.0)
    view.told("MODIFIED", item("b", "2", 7))
    assert standing(view) == (True, 0, None)


def test_an_empty_list_is_complete() -> None:
    view = ExactView()
    view.compare(view.uids, {}, 1.0)
    assert view.complete


def test_being_behind_is_counted_from_the_version_that_was_missed_first() -> None:
    view = view_of(("a", "1", 5))
    view.compare(view.uids, {"1": "6"}, 1.0)
    view.compare(view.uids, {"1": "9"}, 2.0)
    assert standing(view) == (False, 1, 1.0)
    view.told("MODIFIED", item("a", "1", 6))
    assert standing(view) == (True, 0, None)
    view.compare(view.uids, {"1": "9"}, 3.0)
    assert standing(view) == (True, 1, 3.0)
    view.compare(view.uids, {"1": "6"}, 4.0)  # an older answer of a cache
    assert standing(view) == (True, 0, None)


def test_objects_that_change_all_the_time_are_never_long_behind() -> None:
    view = view_of(("a", "1", 0))
    for version in range(1, 50):
        view.compare(view.uids, {"1": str(version)}, float(version))
        view.told("MODIFIED", item("a", "1", version))
    assert view.behind_since is None


def test_a_stale_list_that_still_has_a_deleted_object_is_no_sign_of_blindness() -> None:
    view = view_of(("a", "1", 5))
    view.told("DELETED", item("a", "1", 7))
    view.compare(view.uids, {"1": "5"}, 1.0)
    assert view.behind_since is None


def test_versions_that_are_no_integers_end_equal_after_a_list() -> None:
    view = ExactView()
    view.told(None, item("a", "1", "x"))
    view.told("MODIFIED", item("a", "1", "y"))
    assert keys(view.told("DELETED", item("a", "1", "z"))) == [("shop/a", False)]
    view.told("MODIFIED", item("a", "1", "y"))  # late: it comes back
    suspects = view.compare(view.uids, {}, 1.0)
    assert keys(view.drop(suspects, "zz")) == [("shop/a", False)]


@pytest.mark.parametrize("broken", [{}, {"metadata": None}, {"metadata": {"name": "a"}}])
def test_what_is_no_object_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        ExactView().told(None, broken)
