"""The labels that everything else finds the operator's objects by."""

from __future__ import annotations

from lobby_operator.kube.names import config_map_name, lobby_labels, selector


def test_the_labels_of_a_lobby_select_its_pods_and_no_others() -> None:
    assert selector(lobby_labels("prices")) == (
        "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=lobby,lobby-gateway.io/lobby=prices"
    )


def test_the_config_map_is_named_after_the_lobby() -> None:
    assert config_map_name("prices") == "prices-lobby"
