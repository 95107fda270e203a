from __future__ import annotations

from typing import Any

import pytest
from tests.unit.operator.kube.support import lobby

from lobby_operator.kube.start_events import held_by, secrets_by_key
from lobby_operator.planner.state import Held, Hold

REFERENCE = {"valueFrom": {"secretKeyRef": {"name": "feed", "key": "apikey"}}}
OTHER = {"valueFrom": {"secretKeyRef": {"name": "other", "key": "apikey"}}}
SECRETS = {"key": ["token"], "apikey": ["feed"]}
MOUNT = "MountVolume.SetUp failed for volume "


def event(reason: str, note: str = "", second: int = 0) -> dict[str, Any]:
    return {"reason": reason, "note": note, "deprecatedLastTimestamp": f"2026-11-25T14:12:{second:02}Z"}


def test_secrets_are_found_by_their_keys() -> None:
    made = lobby(origin={"headers": [{"name": "A", **REFERENCE}], "query": [{"name": "b", **OTHER}]})
    assert secrets_by_key(made, "token") == {"key": ["token"], "apikey": ["feed", "other"]}


@pytest.mark.parametrize(
    ("note", "hold", "problem", "missing"),
    [
        (f'{MOUNT}"secrets" : secret "feed" not found', Hold.SECRET_MISSING, "Secret feed is missing", ("feed",)),
        (
            f'{MOUNT}"secrets" : references non-existent secret key: apikey',
            Hold.SECRET_MISSING,
            "key apikey is missing in Secret feed",
            ("feed",),
        ),
        (
            f'{MOUNT}"secrets" : [secret "a" not found, references non-existent secret key: apikey]',
            Hold.SECRET_MISSING,
            "Secret a is missing; key apikey is missing in Secret feed",
            ("a", "feed"),
        ),
        (
            f'{MOUNT}"secrets" : references non-existent secret key: nobodys',
            Hold.SECRET_MISSING,
            "key nobodys is missing in Secret",
            (),
        ),
        (
            f'{MOUNT}"config" : configmap "prices-lobby" not found',
            Hold.VOLUME_UNAVAILABLE,
            "ConfigMap prices-lobby is missing",
            ("prices-lobby",),
        ),
        ("the disk is on fire", Hold.VOLUME_UNAVAILABLE, "the disk is on fire", ()),
    ],
)
def test_a_failed_mount_says_what_is_missing(note: str, hold: Hold, problem: str, missing: tuple[str, ...]) -> None:
    assert held_by([event("Scheduled"), event("FailedMount", note, 1)], SECRETS) == Held(hold, problem, missing)


def test_the_kubelets_summary_of_unmounted_volumes_adds_nothing() -> None:
    summary = event("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[secrets]", 9)
    cause = event("FailedMount", f'{MOUNT}"secrets" : secret "feed" not found', 1)
    assert held_by([cause, summary], SECRETS) == Held(Hold.SECRET_MISSING, "Secret feed is missing", ("feed",))


def test_only_the_latest_of_each_volume_counts() -> None:
    earlier = event("FailedMount", f'{MOUNT}"secrets" : secret "feed" not found', 1)
    later = event("FailedMount", f'{MOUNT}"secrets" : references non-existent secret key: apikey', 2)
    other = event("FailedMount", f'{MOUNT}"token" : secret "token" not found', 1)
    held = held_by([earlier, later, other], SECRETS)
    assert held is not None
    assert held.problem == "key apikey is missing in Secret feed; Secret token is missing"


def test_what_is_over_does_not_count() -> None:
    failed = event("FailedMount", f'{MOUNT}"secrets" : secret "feed" not found', 1)
    assert held_by([failed, event("Pulled", second=2)], SECRETS) is None
    assert held_by([failed, event("Pulling", second=2)], SECRETS) == Held(Hold.IMAGE_PULL, "pulling its image")
    assert held_by([], SECRETS) is None
    assert held_by([event("Scheduled")], SECRETS) is None


def test_the_latest_of_a_series_counts() -> None:
    series = {"series": {"count": 9, "lastObservedTime": "2026-11-25T14:13:00.000000Z"}}
    failed = {**event("FailedMount", f'{MOUNT}"secrets" : secret "feed" not found', 1), **series}
    assert held_by([failed, event("Pulled", second=2)], SECRETS) is not None
