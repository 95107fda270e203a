"""Where the kinds of objects are, as the API's documentation has it."""

from __future__ import annotations

from lobby_operator.kube.resources import LEASES, LOBBIES, PODS


def test_the_core_group_has_a_path_of_its_own() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "prices-1") == "/api/v1/namespaces/shop/pods/prices-1"
    assert PODS.api_version == "v1"


def test_other_groups_have_their_name_in_it() -> None:
    assert LEASES.path("shop") == "/apis/coordination.k8s.io/v1/namespaces/shop/leases"
    assert LOBBIES.path("shop", "prices", "status").endswith("/namespaces/shop/lobbies/prices/status")
    assert LOBBIES.api_version == "lobby-gateway.io/v1alpha1"
