"""Lobbies of a namespace are counted from the attempt to create them until they are gone."""

from __future__ import annotations

from lobby_operator.kube.lobby_quota import LobbyQuota


def quota(most: int = 2) -> LobbyQuota:
    return LobbyQuota(most, unseen_seconds=30.0)


def test_a_namespace_has_so_many_lobbies_and_no_more() -> None:
    one = quota()
    assert one.reserve("shop", "a-1", 0.0)
    assert one.reserve("shop", "b-1", 0.0)
    assert not one.reserve("shop", "a-2", 0.0)
    assert one.reserve("other", "a-2", 0.0)


def test_a_lobby_counts_once_before_and_after_it_is_seen() -> None:
    one = quota()
    assert one.reserve("shop", "a-1", 0.0)
    assert one.reserve("shop", "a-1", 1.0)  # a second attempt, after the answer to the first was lost
    one.seen("shop", "a-1")
    assert one.reserve("shop", "a-1", 2.0)
    assert one.reserve("shop", "a-2", 2.0)
    assert not one.reserve("shop", "a-3", 2.0)


def test_a_lobby_that_is_gone_makes_room() -> None:
    one = quota(1)
    one.seen("shop", "a-1")
    assert not one.reserve("shop", "a-2", 0.0)
    one.gone("shop", "a-1")
    assert one.reserve("shop", "a-2", 0.0)
    one.not_created("shop", "a-2")
    assert one.reserve("shop", "a-3", 0.0)
    one.seen("shop", "a-3")
    one.not_created("shop", "a-3")  # a second attempt failed, but the lobby exists
    assert not one.reserve("shop", "a-4", 0.0)


def test_a_lobby_that_is_never_seen_counts_for_a_while_only() -> None:
    one = quota(1)
    assert one.reserve("shop", "a-1", 0.0)
    assert not one.reserve("shop", "a-2", 30.0)
    assert one.reserve("shop", "a-2", 30.1)


def test_lobbies_that_exist_count_even_beyond_the_limit() -> None:
    one = quota(1)
    one.seen("shop", "a-1")
    one.seen("shop", "a-2")
    one.gone("shop", "a-1")
    assert not one.reserve("shop", "a-3", 0.0)
