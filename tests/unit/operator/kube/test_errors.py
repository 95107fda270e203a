"""Failed calls, as texts for people."""

from __future__ import annotations

import pytest

from lobby_gateway.errors import LobbyGatewayError
from lobby_operator.kube.errors import ApiError, UnreachableError


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"message": "not there", "reason": "NotFound", "status": 404}, "get pods a/b: not there"),
        ({"reason": "NotFound", "status": 404}, "get pods a/b: NotFound"),
        ({"status": 404}, "get pods a/b: 404"),
    ],
)
def test_a_failure_says_what_was_asked_for_and_what_is_known(given: dict[str, str | int], text: str) -> None:
    assert str(ApiError("get pods a/b", **given)) == text  # type: ignore[arg-type]


def test_every_failure_is_one_of_ours() -> None:
    assert issubclass(UnreachableError, ApiError)
    assert issubclass(ApiError, LobbyGatewayError)
