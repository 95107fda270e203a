"""The known Lobbies: their specs, who has which path, and invalid specs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.kube.support import lobby_resource

from lobby_operator.kube.lobby_registry import LobbyRecord, LobbyRegistry
from lobby_operator.kube.tenancy import Tenancy
from lobby_operator.planner.reasons import PATH_TAKEN, ConditionState
from lobby_operator.planner.status import PathClaim
from lobby_operator.settings import PolicySettings

EARLY, LATE = "2026-11-25T10:00:00Z", "2026-11-25T10:00:01Z"
BAD: dict[str, Any] = {"origin": {"url": "ws://feed/", "onConnect": [{"send": "$(NOT_THERE)"}]}}


def known(lobbies: LobbyRegistry, key: str = "shop/prices") -> LobbyRecord:
    found = lobbies.get(key)
    assert found is not None
    return found


def test_a_lobby_is_read_with_its_defaults_and_its_path() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    assert lobbies.update(lobby_resource(version=7, generation=3, status={"replicas": 2})) == {"shop/prices"}
    one = known(lobbies)
    assert (one.namespace, one.name, one.version, one.generation) == ("shop", "prices", "7", 3)
    assert one.lobby is not None
    assert one.lobby.key == "shop/prices"
    assert one.resource["spec"]["path"] == "/prices"
    assert one.resource["metadata"] == {
        "name": "prices",
        "namespace": "shop",
        "uid": "uid-of-shop-prices",
        "generation": 3,
    }
    assert "status" not in one.resource
    assert one.status == {"replicas": 2}
    assert len(lobbies) == 1
    assert list(lobbies) == [one]


def test_a_change_of_the_status_alone_does_not_parse_the_spec() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    before = known(lobbies).lobby
    assert lobbies.update(lobby_resource(version=2, status={"clients": 1})) == {"shop/prices"}
    assert known(lobbies).lobby is before
    assert known(lobbies).status == {"clients": 1}


def test_a_new_generation_is_parsed() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    lobbies.update(lobby_resource(version=2, generation=2, spareSeats=9))
    one = known(lobbies).lobby
    assert one is not None
    assert (one.generation, one.spec.spare_seats) == (2, 9)


def test_an_invalid_spec_names_the_field_and_keeps_the_previous_one() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    lobbies.update(lobby_resource(version=2, generation=2, **BAD))
    one = known(lobbies)
    assert one.problem.startswith("spec.origin.onConnect[0].send: $(NOT_THERE) is unknown")
    assert one.generation == 2
    assert one.lobby is not None
    assert one.lobby.generation == 1
    lobbies.update(lobby_resource(version=3, generation=2, status={"clients": 1}, **BAD))
    assert known(lobbies).problem == one.problem
    lobbies.update(lobby_resource(version=4, generation=3))
    assert known(lobbies).problem == ""


def kept(**spec: Any) -> dict[str, Any]:
    """A Lobby with its last valid spec, as an operator that has seen it kept it."""
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource(**spec))
    return dict(known(lobbies).resource)


def test_the_last_valid_spec_is_in_force_again_if_the_stored_one_is_invalid() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource(version=2, generation=2, **BAD))
    assert lobbies.restore("shop/prices", kept(path="/p", replicas=4)) == {"shop/prices"}
    one = known(lobbies)
    assert one.lobby is not None
    assert (one.lobby.spec.replicas, one.lobby.generation, one.generation) == (4, 1, 2)
    assert one.problem.startswith("spec.origin.onConnect[0].send")
    assert lobbies.claim("shop/prices").path == "/p"
    lobbies.update(lobby_resource(version=3, generation=2, status={"clients": 1}, **BAD))
    assert known(lobbies).lobby is one.lobby
    lobbies.update(lobby_resource(version=4, generation=3, replicas=2))
    assert known(lobbies).problem == ""
    assert lobbies.restore("shop/prices", kept()) == set()


def test_a_restored_lobby_takes_its_path_back_from_a_younger_one() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource("other", path="/p", created=LATE))
    lobbies.update(lobby_resource(created=EARLY, **BAD))
    assert lobbies.restore("shop/prices", kept(path="/p")) == {"shop/prices", "shop/other"}
    assert lobbies.claim("shop/other").older == "prices"


def test_nothing_is_restored_that_is_not_valid_here() -> None:
    lobbies = LobbyRegistry(PolicySettings(max_replicas=5))
    lobbies.update(lobby_resource(**BAD))
    for other in (kept(maxReplicas=6), kept(uid="of an earlier one"), {**kept(), "spec": {"path": "/p", "origin": 5}}):
        assert lobbies.restore("shop/prices", other) == set()
    assert known(lobbies).lobby is None
    assert lobbies.restore("shop/gone", kept()) == set()


@pytest.mark.parametrize("prefix", [True, False])
def test_a_restored_lobby_has_the_path_at_which_it_was_served(prefix: bool) -> None:
    tenancy = Tenancy(prefix_paths=prefix)
    before, after = (LobbyRegistry(PolicySettings(), tenancy) for _ in range(2))
    before.update(lobby_resource(path="/p"))
    after.update(lobby_resource(path="/q", **BAD))
    after.restore("shop/prices", known(before).resource)
    assert after.claim("shop/prices").path == ("/shop/p" if prefix else "/p")


def test_a_spec_that_the_policy_does_not_allow_names_the_field_and_keeps_the_previous_one() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    lobbies.update(lobby_resource(version=2, generation=2, template={"priorityClassName": "system-node-critical"}))
    one = known(lobbies)
    refused = "spec.template.priorityClassName: system-node-critical is not allowed; accepted here: nothing"
    assert one.problem == refused
    assert one.lobby is not None
    assert one.lobby.generation == 1


def test_a_new_lobby_that_the_policy_does_not_allow_is_not_run() -> None:
    lobbies = LobbyRegistry(PolicySettings(max_replicas=5))
    lobbies.update(lobby_resource(maxReplicas=6))
    assert known(lobbies).problem == "spec.maxReplicas: 6 is too large; accepted here: at most 5"
    assert known(lobbies).lobby is None


@pytest.mark.parametrize(
    "spec", [None, 5, {}, {"origin": 5}, {"origin": {"url": 7}}, {"origin": {"onConnect": 5, "url": "ws://h/"}}]
)
def test_a_malformed_spec_is_a_problem_and_not_a_crash(spec: Any) -> None:
    lobbies = LobbyRegistry(PolicySettings())
    assert lobbies.update({**lobby_resource(), "spec": spec}) == {"shop/prices"}
    assert known(lobbies).lobby is None
    assert known(lobbies).problem
    assert lobbies.claim("shop/prices").older == ""


def test_the_older_lobby_has_the_path_in_whatever_order_they_arrive() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.synced = True
    lobbies.update(lobby_resource("new", created=LATE, path="/p"))
    assert lobbies.claim("shop/new") == PathClaim("/p")
    assert lobbies.update(lobby_resource("old", created=EARLY, path="/p")) == {"shop/new", "shop/old"}
    assert lobbies.claim("shop/old") == PathClaim("/p")
    assert lobbies.claim("shop/new") == PathClaim("/p", "old")


def test_names_decide_between_lobbies_created_in_the_same_second() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    for name in ("b", "a"):
        lobbies.update(lobby_resource(name, created=EARLY, path="/p"))
    assert lobbies.claim("shop/b").older == "a"
    assert lobbies.claim("shop/a").older == ""


def test_paths_are_unique_across_namespaces() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource("prices", namespace="a", created=EARLY))
    lobbies.update(lobby_resource("prices", namespace="b", created=LATE))
    assert lobbies.claim("b/prices").older == "a/prices"


def test_a_released_path_goes_to_the_next_lobby() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    for name, created in (("old", EARLY), ("new", LATE)):
        lobbies.update(lobby_resource(name, created=created, path="/p"))
    assert lobbies.update(lobby_resource("old", created=EARLY, path="/q", version=2, generation=2)) == {
        "shop/old",
        "shop/new",
    }
    assert lobbies.claim("shop/new").older == ""
    lobbies.update(lobby_resource("old", created=EARLY, path="/p", version=3, generation=3))
    assert lobbies.claim("shop/new").older == "old"
    assert lobbies.remove("shop/old") == {"shop/old", "shop/new"}
    assert lobbies.claim("shop/new").older == ""
    assert lobbies.remove("shop/old") == set()


def test_no_path_is_accepted_before_all_lobbies_are_known() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    assert not lobbies.claim("shop/prices").compared


def test_a_lobby_that_is_being_deleted_is_gone() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource())
    deleted = lobby_resource(version=2, metadata={"deletionTimestamp": EARLY})
    assert lobbies.update(deleted) == {"shop/prices"}
    assert lobbies.get("shop/prices") is None


def test_a_recreated_lobby_inherits_nothing() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource(version=5))
    lobbies.update(lobby_resource(version=9, uid="another", **BAD))
    assert known(lobbies).lobby is None
    assert known(lobbies).uid == "another"


def test_a_recreated_lobby_with_another_path_releases_the_old_one() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource("old", created=EARLY, path="/p"))
    lobbies.update(lobby_resource("new", created=LATE, path="/p"))
    made_anew = lobby_resource("old", created=LATE, path="/q", uid="another", version=9)
    assert lobbies.update(made_anew) == {"shop/old", "shop/new"}
    assert lobbies.claim("shop/new").older == ""


def test_the_answer_to_a_write_counts_until_something_newer_arrives() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource(version=5))
    lobbies.status_written(lobby_resource(version=7, status={"clients": 7}))
    assert (known(lobbies).version, known(lobbies).status) == ("7", {"clients": 7})
    lobbies.update(lobby_resource(version=6, status={"clients": 6}))
    assert (known(lobbies).version, known(lobbies).status) == ("7", {"clients": 7})
    lobbies.status_written(lobby_resource(version=4, status={"clients": 4}))
    lobbies.status_written(lobby_resource(version=99, uid="another"))
    lobbies.status_written(lobby_resource("unknown"))
    assert known(lobbies).version == "7"
    lobbies.update(lobby_resource(version=8, status={"clients": 8}))
    assert known(lobbies).status == {"clients": 8}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["/p", "/q", "bad", "gone"]), st.sampled_from([EARLY, LATE]))
    )
)
def test_a_path_always_belongs_to_its_oldest_lobby(steps: list[tuple[str, str, str]]) -> None:
    lobbies = LobbyRegistry(PolicySettings())
    created: dict[str, str] = {}
    wanted: dict[str, str] = {}
    for number, (name, what, when) in enumerate(steps, 1):
        if what == "gone":
            lobbies.remove(f"shop/{name}")
            created.pop(name, None)
            wanted.pop(name, None)
            continue
        created.setdefault(name, when)
        spec = BAD if what == "bad" else {"path": what}
        if what != "bad":
            wanted[name] = what
        lobbies.update(lobby_resource(name, version=number, generation=number, created=created[name], **spec))
        for each, path in wanted.items():
            first = min((other for other in wanted if wanted[other] == path), key=lambda other: (created[other], other))
            assert lobbies.claim(f"shop/{each}") == PathClaim(path, "" if first == each else first, compared=False)


# What is refused before it is stored


def refused(lobbies: LobbyRegistry, lobby: dict[str, Any], old: dict[str, Any] | None = None) -> str:
    """The refusal; and the conditions of the same Lobby, if it is stored all the same, say nothing else."""
    refusal = lobbies.refusal(lobby, old)
    stored = LobbyRegistry(PolicySettings())
    stored.synced = True
    for each in lobbies:
        if each.name != lobby["metadata"]["name"]:
            stored.update({"metadata": {**each.resource["metadata"], "resourceVersion": "1",
                                        "creationTimestamp": each.created_at}, "spec": each.resource["spec"]})  # fmt: skip
    stored.update(lobby)
    record = known(stored, f"{lobby['metadata']['namespace']}/{lobby['metadata']['name']}")
    claim = stored.claim(record.key)
    problem = record.problem
    if claim.older:
        problem = ConditionState(PATH_TAKEN, {"path": claim.path, "other": claim.older}).sentence
    assert refusal in ("", problem) or "which would lose it" in refusal
    return refusal


def test_a_refusal_is_what_the_condition_would_say() -> None:
    lobbies = LobbyRegistry(PolicySettings(), Tenancy(key_secrets=frozenset({"keys"})))
    lobbies.synced = True
    lobbies.update(lobby_resource("old", created=EARLY, path="/p"))
    new: dict[str, Any] = {"created": LATE, "name": "new"}
    assert refused(lobbies, lobby_resource(**new)) == ""
    assert refused(lobbies, lobby_resource(**new, path="/p")) == "/p belongs to the older Lobby old"
    assert refused(lobbies, lobby_resource(**new, template={"priorityClassName": "high"})) == (
        "spec.template.priorityClassName: high is not allowed; accepted here: nothing"
    )
    assert "NOT_THERE" in refused(lobbies, lobby_resource(**new, **BAD))
    most = PolicySettings().max_lobbies
    assert refused(lobbies, lobby_resource(**new, replicas=most + 1)) == (
        f"spec.replicas: {most + 1} is too large; accepted here: at most {most}, the lobbies that a namespace may have"
    )
    pulls = lobby_resource(**new, template={"imagePullSecrets": [{"name": "keys"}]})
    assert lobbies.refusal(pulls) == (
        "spec.template.imagePullSecrets[0].name: keys holds keys of the operator; accepted: another Secret"
    )


def test_an_older_lobby_can_not_take_the_path_of_a_younger_one() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.synced = True
    lobbies.update(lobby_resource("old", created=EARLY))
    lobbies.update(lobby_resource("young", created=LATE, path="/p"))
    moved = lobby_resource("old", created=EARLY, path="/p")
    assert lobbies.refusal(moved, lobby_resource("old", created=EARLY)) == (
        "/p belongs to the Lobby young, which would lose it"
    )


def test_a_path_is_not_refused_before_all_lobbies_are_known() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.update(lobby_resource("old", created=EARLY, path="/p"))
    assert lobbies.refusal(lobby_resource("new", created=LATE, path="/p")) == ""


def test_what_leaves_the_spec_alone_is_never_refused() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    bad = lobby_resource(**BAD)
    assert lobbies.refusal(bad)
    assert lobbies.refusal({**bad, "metadata": {**bad["metadata"], "labels": {"a": "b"}}}, bad) == ""
    assert lobbies.refusal({**bad, "metadata": {**bad["metadata"], "deletionTimestamp": LATE}}, lobby_resource()) == ""


def test_a_loser_of_a_path_may_change_everything_else() -> None:
    lobbies = LobbyRegistry(PolicySettings())
    lobbies.synced = True
    lobbies.update(lobby_resource("old", created=EARLY, path="/p"))
    lost = lobby_resource("new", created=LATE, path="/p")
    lobbies.update(lost)
    assert lobbies.refusal(lobby_resource("new", created=LATE, path="/p", spareSeats=3), lost) == ""


def test_a_new_lobby_has_no_version_yet() -> None:
    new = lobby_resource()
    for name in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        del new["metadata"][name]
    assert LobbyRegistry(PolicySettings()).refusal(new) == ""
