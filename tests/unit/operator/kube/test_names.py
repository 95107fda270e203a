"""Labels, names and URL paths of objects."""

from __future__ import annotations

from lobby_operator.kube.names import LEASES, LOBBIES, PODS, lobby_labels, owned_name, selector


def test_the_labels_of_a_lobby_select_its_pods_and_no_others() -> None:
    assert selector(lobby_labels("prices")) == (
        "app.kubernetes.io/name=lobby-gateway,app.kubernetes.io/component=lobby,lobby-gateway.io/lobby=prices"
    )


def test_the_config_map_is_named_after_the_lobby() -> None:
    assert owned_name("prices") == "prices-lobby"


def test_the_core_group_has_its_own_path() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "prices-1") == "/api/v1/namespaces/shop/pods/prices-1"
    assert PODS.api_version == "v1"


def test_paths_of_other_groups_contain_their_name() -> None:
    assert LEASES.path("shop") == "/apis/coordination.k8s.io/v1/namespaces/shop/leases"
    assert LOBBIES.path("shop", "prices", "status").endswith("/namespaces/shop/lobbies/prices/status")
    assert LOBBIES.api_version == "lobby-gateway.io/v1alpha1"
